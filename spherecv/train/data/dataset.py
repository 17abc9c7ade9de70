"""Where training images are: Caffe's lists, folders `identity/image`, tar shards, MXNet's files; several combined."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError, StorageError
from spherecv.recordio import SUFFIX, read_records

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff")
Location = str | os.PathLike[str]
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LABEL = re.compile(r"[0-9]{1,9}(\.0*)?")


class Item(NamedTuple):
    """One image: a file, or `size` bytes at `offset` of one (a tar shard, a `.rec`), and its label (-1: none)."""

    path: str
    label: int
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Dataset:
    """Images with labels.

    Attributes
    ----------
    items : tuple of Item
    names : tuple of str
        The name of each class; a label is an index into it. Empty for images without identities.
    """

    items: tuple[Item, ...]
    names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    def labels(self) -> npt.NDArray[np.int64]:
        """Return the label of every item."""
        return np.array([item.label for item in self.items], dtype=np.int64)

    def subset(self, indices: Sequence[int]) -> Dataset:
        """Return the items at some places, with the classes as they were."""
        return replace(self, items=tuple(self.items[index] for index in indices))

    def of_classes(self, chosen: Sequence[int]) -> Dataset:
        """Return the items of some classes, relabelled in the order given."""
        new = {old: place for place, old in enumerate(chosen)}
        items = tuple(item._replace(label=new[item.label]) for item in self.items if item.label in new)
        return Dataset(items, tuple(self.names[old] for old in chosen))

    def check(self) -> Dataset:
        """Return the data set itself; a class without an image, or a label without a class, is an error."""
        labels = self.labels()
        outside = labels[(labels < 0) | (labels >= self.classes)]
        if len(outside):
            raise InvalidArgumentError(
                f"label {outside[0]} is out of range: {self.classes} classes have the labels 0..{self.classes - 1}"
            )
        empty = np.flatnonzero(np.bincount(labels, minlength=self.classes) == 0)
        if len(empty):
            raise InvalidArgumentError(
                f"class {empty[0]} ({self.names[empty[0]]}) has no image ({len(empty)} such classes): "
                "remove it, or renumber the labels without gaps"
            )
        return self


def from_list(path: Location, *, root: Location = "", classes: int | None = None) -> Dataset:
    """Read one of Caffe's list files: a path and a label on each line, separated by the line's last blank.

    Parameters
    ----------
    path : path
    root : path
        What the paths start from, as ImageData's `root_folder`: put in front as it is. Paths that are not there are
        looked for beside the list, too.
    classes : int, optional
        How many there are; the highest label + 1 by default.
    """
    source = Path(path)
    items = []
    for number, line in _lines(source):
        name, _, label = line.strip().rpartition(" ")
        if not name or not _NUMBER.fullmatch(label):
            raise InvalidArgumentError(f'{source}:{number}: expected "path label", but got {line.strip()[:80]!r}')
        items.append(Item(name.strip(), int(label)))
    if not items:
        raise InvalidArgumentError(f"the list {source} names no image")
    prefix = str(root)
    beside = source.parent
    first = prefix + items[0].path
    if not prefix and not Path(first).exists() and (beside / first).exists():
        prefix = f"{beside}{os.sep}"
    count = max(item.label for item in items) + 1 if classes is None else classes
    names = tuple(str(label) for label in range(count))
    return Dataset(tuple(item._replace(path=prefix + item.path) for item in items), names).check()


def from_folder(path: Location) -> Dataset:
    """Read a folder with one folder of images per identity; classes are numbered in the order of their names."""
    folder = Path(path)
    if not folder.is_dir():
        raise InvalidArgumentError(f"{folder} is not a folder")
    identities = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not identities:
        raise InvalidArgumentError(f"{folder} has no folder per identity: expected {folder.name}/NAME/image.jpg")
    items = []
    for label, identity in enumerate(identities):
        images = sorted(file for file in identity.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        items += [Item(str(image), label) for image in images]
    return Dataset(tuple(items), tuple(identity.name for identity in identities)).check()


def from_tars(paths: Sequence[Location]) -> Dataset:
    """Read tar shards. Members in folders get their folder's name as class; members without one have no label.

    Only places are kept; workers read the bytes of one image at a time.
    """
    found: list[tuple[str, str, int, int]] = []
    for path in paths:
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    name = Path(member.name)
                    if member.isfile() and name.suffix.lower() in SUFFIXES:
                        parent = name.parent.name
                        found.append((str(path), parent, member.offset_data, member.size))
        except (OSError, tarfile.TarError) as error:
            raise InvalidArgumentError(f"{path} is no plain tar file that can be read: {error}") from None
    if not found:
        raise InvalidArgumentError(f"no images in {', '.join(map(str, paths))}")
    names = sorted({parent for _, parent, _, _ in found if parent})
    if names and not all(parent for _, parent, _, _ in found):
        raise InvalidArgumentError("some images lie in a folder (an identity) and some do not: separate them")
    number = {name: label for label, name in enumerate(names)}
    items = tuple(Item(path, number.get(parent, -1), offset, size) for path, parent, offset, size in found)
    return Dataset(items, tuple(names))


def from_records(path: Location) -> Dataset:
    """Read a RecordIO file (``.rec``) of InsightFace or MXNet; workers read the bytes of one image at a time."""
    records = read_records(path)
    name = str(path)
    count = max(record.label for record in records) + 1
    items = tuple(Item(name, record.label, record.offset, record.size) for record in records)
    return Dataset(items, tuple(str(label) for label in range(count))).check()


def from_lst(path: Location) -> Dataset:
    """Read a list of MXNet's tools (``.lst``), with tabs: `INDEX LABEL PATH`, or InsightFace's `ALIGNED PATH LABEL`.

    Paths that are not absolute start from the list's own folder.
    """
    source = Path(path)
    items = []
    for number, line in _lines(source):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) < 3:
            raise InvalidArgumentError(f"{source}:{number}: expected three columns with tabs, but got {len(cells)}")
        name, label = (cells[-1], cells[1]) if _LABEL.fullmatch(cells[1]) else (cells[1], cells[2])
        if not _LABEL.fullmatch(label):
            raise InvalidArgumentError(f"{source}:{number}: a label must be a whole number, but got {label!r}")
        items.append(Item(str(source.parent / name), int(float(label))))
    if not items:
        raise InvalidArgumentError(f"the list {source} names no image")
    return Dataset(tuple(items), tuple(str(n) for n in range(max(item.label for item in items) + 1))).check()


def combine(parts: Sequence[Dataset]) -> Dataset:
    """Join data sets of different people: the labels of each follow those of the one before."""
    items: list[Item] = []
    names: list[str] = []
    for part in parts:
        items += [item._replace(label=item.label + len(names) if item.label >= 0 else -1) for item in part.items]
        names += part.names
    return Dataset(tuple(items), tuple(names))


def open_dataset(*sources: Location) -> Dataset:
    """Read data sets of any kind and combine them: folders, tar shards (``.tar``), RecordIO files (``.rec``), lists.

    Lists are those of MXNet (``.lst``) and Caffe (anything else).

    A folder that holds tar shards and no identities stands for its shards.
    """
    if not sources:
        raise InvalidArgumentError("no data: pass a folder, tar shards or a list file")
    parts, shards = [], []
    for source in map(Path, sources):
        if not source.exists():
            raise StorageError(f"no such file or folder: {source}")
        tars = sorted(source.glob("*.tar")) if source.is_dir() else [source] * (source.suffix == ".tar")
        if tars and not (source.is_dir() and any(entry.is_dir() for entry in source.iterdir())):
            shards += tars
        elif source.is_dir():
            parts.append(from_folder(source))
        else:
            read = {SUFFIX: from_records, ".lst": from_lst}.get(source.suffix.lower(), from_list)
            parts.append(read(source))
    if shards:
        parts.append(from_tars(shards))
    return combine(parts)


def _lines(source: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not empty, each with its number from 1."""
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"the list {source} cannot be read: {error}") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
