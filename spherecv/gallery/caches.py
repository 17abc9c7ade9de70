"""The indexes that `spherecv find` keeps of folders: where they are, what they hold, and their deletion."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spherecv.errors import SphereCVError, StorageError
from spherecv.gallery.rows import StoredImage
from spherecv.gallery.sqlite import SqliteStore
from spherecv.zoo import cache_dir


@dataclass(frozen=True)
class FolderIndex:
    """One index of the cache.

    Attributes
    ----------
    path : Path
        The index's file.
    folder : str or None
        The folder that all its images are in; None where it is empty or cannot be read, with another key for example.
    images : int
    size : int
        Bytes on disk, with the files beside it.
    """

    path: Path
    folder: str | None
    images: int
    size: int

    @property
    def is_gone(self) -> bool:
        """Whether the folder is known, and there no more."""
        return self.folder is not None and not Path(self.folder).is_dir()

    def to_dict(self) -> dict[str, Any]:
        """The index as plain Python values, ready for JSON."""
        exists = self.folder is not None and not self.is_gone
        return {
            "index": str(self.path), "folder": self.folder, "exists": exists, "images": self.images, "bytes": self.size
        }  # fmt: skip


def index_of(folder: str | os.PathLike[str], *settings: str) -> Path:
    """A file in the cache for this folder and this model: another model has an index of its own."""
    name = repr((os.path.abspath(folder), *settings))  # noqa: PTH100 - as the images are named
    return _home() / f"{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:24]}.db"


def folder_indexes() -> list[FolderIndex]:
    """All indexes of the cache, by the names of their files."""
    return [_described(path) for path in sorted(_home().glob("*.db"))]


def forget_folder(folder: str | os.PathLike[str]) -> list[FolderIndex]:
    """Delete the indexes of a folder, which may be gone, and of the folders in it, of every model.

    Returns
    -------
    list of FolderIndex
        What was deleted; nothing where nothing was kept.
    """
    root = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - as the images are named
    return clear([one for one in folder_indexes() if one.folder and os.path.join(one.folder, "").startswith(root)])  # noqa: PTH118


def forget_empty(index: Path) -> None:
    """Delete an index that was just made and came to hold nothing, of a folder without images for example."""
    if not _images(index):
        clear([_described(index)])


def forget_moved(index: Path) -> list[FolderIndex]:
    """Delete the indexes of folders that are gone and whose images, most of them, an index has too: they were moved.

    Returns
    -------
    list of FolderIndex
        What was deleted.
    """
    here = {image.key.digest for image in _images(index)}
    moved = []
    for other in _home().glob("*.db"):
        digests = [image.key.digest for image in _images(other)] if other != index else []
        if 2 * sum(digest in here for digest in digests) > len(digests):
            described = _described(other)
            moved += [described] if described.is_gone else []
    return clear(moved)


def clear(indexes: list[FolderIndex]) -> list[FolderIndex]:
    """Delete indexes with the files beside them; raises `StorageError` where one cannot be."""
    for index in indexes:
        for file in _files(index.path):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"{file} cannot be deleted: {error.strerror or error}") from None
    return indexes


def _home() -> Path:
    return cache_dir() / "find"


def _files(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*"))


def _described(path: Path) -> FolderIndex:
    size = sum(file.stat().st_size for file in _files(path))
    folders = [os.path.dirname(image.key.path) for image in _images(path)]  # noqa: PTH120
    return FolderIndex(path, _shared(folders), len(folders), size)


def _images(path: Path) -> list[StoredImage]:
    """All images of an index; none where it cannot be read."""
    try:
        store = SqliteStore(path, create=False)
        try:
            return list(store.images())
        finally:
            store.close()
    except SphereCVError:
        return []


def _shared(folders: list[str]) -> str | None:
    try:
        return os.path.commonpath(set(folders)) if folders else None
    except ValueError:  # on two drives
        return None
