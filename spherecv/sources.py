"""What SRC means, everywhere: one image, a folder of images, or a list file."""

from __future__ import annotations

import os
from pathlib import Path

from spherecv.errors import ImageError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
EMPTY_PATH = "a path is empty: name an image, a folder or a list"


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """List the image files that a source names, in a stable order.

    Parameters
    ----------
    source : path
        An image; a folder, searched through all its levels for files with an image's suffix, hidden ones left out; or
        a list (`.txt`, `.lst`): a path a line, relative to the list's folder, where a trailing Caffe label
        (`path 17`), blank lines and lines that start with `#` are passed over.

    Returns
    -------
    list of Path
        Sorted by name for a folder, in the list's order for a list. Files of a list are not checked to exist.

    Raises
    ------
    ImageError
        The source is missing, an empty text, or holds no image.
    """
    if not os.fspath(source):
        raise ImageError(EMPTY_PATH)  # pathlib takes it for the current folder, with whatever lies there
    path = Path(source)
    if path.is_dir():
        found = _walk(path)
    elif not path.exists():
        raise ImageError(f"{path}: no such file or folder")
    elif path.suffix.lower() in LIST_SUFFIXES:
        found = _read_list(path)
    else:
        return [path]
    if not found:
        raise ImageError(f"{path} holds no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _walk(folder: Path) -> list[Path]:
    # Texts until the end: paths as objects cost several times as much to make and to sort, which `find` waits for.
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)  # noqa: PTH118
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122
        ]
    return [Path(name) for name in sorted(found, key=lambda name: os.path.normcase(name).split(os.sep))]  # noqa: PTH206


def _read_list(path: Path) -> list[Path]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{path} cannot be read as a list of images: {error}") from None
    lines = (line.strip() for line in text.splitlines())
    return [path.parent / _without_label(line) for line in lines if line and not line.startswith("#")]


def _without_label(line: str) -> str:
    head, _, tail = line.rpartition(" ")
    return head.rstrip() if head and tail.lstrip("-").isdigit() else line
