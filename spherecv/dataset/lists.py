"""Training lists as Caffe reads them: a path and a label a line, labels from 0 in the order of the folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spherecv.errors import DatasetError, InvalidArgumentError
from spherecv.files import write_bytes
from spherecv.images import IMAGE_SUFFIXES

PRESETS: dict[str, tuple[str, ...]] = {
    # wy1iu/sphereface, train/code/get_list.m: people of CASIA-WebFace who are in LFW; 10,575 become 10,572.
    "casia-lfw": ("0166921", "1056413", "1193098"),
}
"""Named sets of identities to leave out."""


@dataclass(frozen=True)
class TrainingList:
    """What was written.

    Attributes
    ----------
    path : Path
    images, identities : int
        Lines, and labels 0..identities - 1.
    excluded : tuple of str
        Identities left out.
    not_there : tuple of str
        Identities that were to be left out, and are not in the folder.
    """

    path: Path
    images: int
    identities: int
    excluded: tuple[str, ...]
    not_there: tuple[str, ...]


def write_training_list(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    exclude: Iterable[str] = (),
    relative: bool = True,
    min_images: int = 1,
    mix: Sequence[str | os.PathLike[str]] = (),
) -> TrainingList:
    """List the images of an `identity/image` folder with their labels.

    Parameters
    ----------
    folder : path
        Its folders are the identities; images may lie deeper in them.
    path : path
        The list: `path label`, sorted, so that the same folder gives the same labels.
    exclude : iterable of str
        Identities to leave out before they get labels: names, presets (see `PRESETS`), or files with a name a line.
    relative : bool
        Whether paths are relative to the list's own folder, so that both can move together; otherwise absolute.
    min_images : int
        Identities with fewer are left out.
    mix : sequence of path
        Further folders of other people: their labels follow. A name that comes again in another folder is another
        person, but for `exclude`, which holds everywhere.

    Returns
    -------
    TrainingList

    Raises
    ------
    DatasetError
        No such folder, no identities with images, or a name that a line cannot hold.
    StorageError
        The list cannot be written.
    """
    goal = Path(path)
    roots = [Path(folder), *map(Path, mix)]
    if len({root.resolve() for root in roots}) < len(roots):
        raise DatasetError(f"a folder is named twice: {', '.join(map(str, roots))}")
    unwanted = excluded_identities(exclude)
    base = goal.absolute().parent
    lines: list[str] = []
    present: set[str] = set()
    kept = 0
    for root in roots:
        names, before = _identities(root), kept
        present.update(names)
        for name in names:
            images = () if name in unwanted else _images(root / name)
            if len(images) < max(min_images, 1):
                continue
            shown = (os.path.relpath(image.absolute(), base) if relative else str(image.absolute()) for image in images)
            lines += [f"{_checked(text)} {kept}\n" for text in shown]
            kept += 1
        if kept == before:
            raise DatasetError(f"{root} holds no identities with images: they must lie as {root}/IDENTITY/IMAGE")
    write_bytes(goal, "".join(lines).encode())
    return TrainingList(
        goal, len(lines), kept, tuple(sorted(unwanted & present)), tuple(sorted(unwanted - present))
    )


def excluded_identities(exclude: Iterable[str]) -> set[str]:
    """Resolve presets and files of names into the names themselves.

    Raises
    ------
    DatasetError
        A file that cannot be read.
    InvalidArgumentError
        A lone string where a list of names belongs.
    """
    if isinstance(exclude, str):
        raise InvalidArgumentError("exclude must be a list of names, but got one string")
    names: set[str] = set()
    for item in exclude:
        if item in PRESETS:
            names.update(PRESETS[item])
        elif Path(item).suffix == ".txt" and Path(item).is_file():
            names.update(_names(Path(item)))
        else:
            names.add(item)
    return names


def _identities(root: Path) -> list[str]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder of identities")
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _names(path: Path) -> Collection[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a list of identities: {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _images(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if _is_image(name)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _checked(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise DatasetError(f"{text!r} cannot stand in a list: its name holds a line break")
    return text
