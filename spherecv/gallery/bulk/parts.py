"""Parts of a bulk job: files of a folder or list, or members of tar shards."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from spherecv.errors import ImageError
from spherecv.images import IMAGE_SUFFIXES, LIST_SUFFIXES, LabelledImage, find_images, load_image

TAR_SUFFIX = ".tar"


@dataclass(frozen=True)
class Item:
    """One image: a file, or `size` bytes from `offset` on of an uncompressed tar.

    Attributes
    ----------
    name : str
        The file's path, or `archive.tar#member`.
    path : str
    offset, size : int
        Within the archive; a size of -1 stands for the whole file.
    """

    name: str
    path: str
    offset: int = 0
    size: int = -1

    def load(self) -> LabelledImage:
        """Read and decode it; raises `ImageError`."""
        if self.size < 0:
            return LabelledImage(load_image(self.path), self.name)
        try:
            with Path(self.path).open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size)
        except OSError as error:
            raise ImageError(f"{self.path} cannot be read: {error.strerror or error}") from None
        try:
            return LabelledImage(load_image(data), self.name)
        except ImageError as error:
            raise ImageError(str(error).replace("the bytes given", self.name)) from None


@dataclass(frozen=True)
class Part:
    """Images that become one shard.

    Attributes
    ----------
    number : int
    items : tuple of Item
    """

    number: int
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """What its files are called, without a suffix."""
        return f"part-{self.number:06d}"

    @property
    def digest(self) -> str:
        """Hash of what it is made of, to tell a finished part from one of other images."""
        text = "\n".join(f"{item.name}\t{item.offset}\t{item.size}" for item in self.items)
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def parts_of(source: str | os.PathLike[str], images: int) -> Iterator[Part]:
    """Cut a source into parts.

    Parameters
    ----------
    source : path
        What `find_images` takes; or a `.tar`, a folder of them, or a list of them.
    images : int
        How many to a part.

    Yields
    ------
    Part

    Raises
    ------
    ImageError
        Nothing there.
    """
    archives = _archives(Path(source))
    items: Iterable[Item] = _members(archives) if archives else _files(source)
    waiting = iter(items)
    number = 0
    while chunk := tuple(islice(waiting, images)):
        yield Part(number, chunk)
        number += 1
    if not number:
        raise ImageError(f"{source} holds no images")


def _files(source: str | os.PathLike[str]) -> Iterator[Item]:
    for path in find_images(source):
        yield Item(str(path), str(path))


def _archives(source: Path) -> list[Path]:
    if source.suffix.lower() == TAR_SUFFIX:
        return [source]
    if source.is_dir():
        return sorted(path for path in source.iterdir() if path.suffix.lower() == TAR_SUFFIX)
    if source.suffix.lower() in LIST_SUFFIXES and source.is_file():
        listed = find_images(source)
        return listed if all(path.suffix.lower() == TAR_SUFFIX for path in listed) else []
    return []


def _members(archives: Iterable[Path]) -> Iterator[Item]:
    for archive in archives:
        try:
            with tarfile.open(archive, "r:") as opened:
                for member in opened:
                    opened.members = []  # type: ignore[attr-defined] # it would remember every member of a large one
                    if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                        yield Item(f"{archive}#{member.name}", str(archive), member.offset_data, member.size)
        except FileNotFoundError:
            raise ImageError(f"{archive}: no such file") from None
        except (tarfile.TarError, OSError) as error:
            raise ImageError(f"{archive} is not an uncompressed tar, or a broken one ({error})") from None
