"""Sets of ready-made crops with their pairs: InsightFace's `.bin`, and folders with a list."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import DatasetError, ImageError
from spherecv.evaluate.gridfolds import split_folds
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.pairs import PairList, linked
from spherecv.evaluate.pickled import Piece, read_plain_pickle
from spherecv.images import IMAGE_SUFFIXES, load_image

FOLDS = 10

Image = NDArray[np.uint8]


class CropSet(Protocol):
    """Crops, numbered."""

    def __len__(self) -> int: ...

    def stamp(self) -> dict[str, Any]:
        """What tells this set from another, ready for JSON."""

    def load(self, number: int) -> Image:
        """Read one crop, BGR; raises `ImageError` or `DatasetError`."""


class BinSet:
    """InsightFace's `.bin`: a pickle of a list of encoded crops, two for each pair, and a list of whether they match.

    Parameters
    ----------
    path : path
        Read by `read_plain_pickle`: nothing in it is run.
    folds : int
        Stretches of the list, in its order.

    Raises
    ------
    DatasetError
        Not such a file, or the counts do not fit.
    """

    def __init__(self, path: str | os.PathLike[str], *, folds: int = FOLDS) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        self._pieces, same = _two_lists(read_plain_pickle(path), self.path)
        if len(same) < folds:
            raise DatasetError(f"{self.path} holds {len(same)} pairs, fewer than its {folds} folds")
        self.pairs = self._paired(np.array(same, dtype=np.bool_), folds)

    def __len__(self) -> int:
        return len(self._pieces)

    def load(self, number: int) -> Image:
        """Read one crop, BGR; raises `ImageError` or `DatasetError`."""
        return load_crop_of(self.path, self._pieces[number])

    def stamp(self) -> dict[str, Any]:
        """Size of the file and time of its change."""
        status = self.path.stat()
        return {"set": str(self.path.resolve()), "size": status.st_size, "changed": status.st_mtime_ns}

    def _paired(self, same: NDArray[np.bool_], folds: int) -> PairList:
        """Pairs of neighbours. Who is who the file does not say: equal bytes are one image, matches one person."""
        with _opened(self.path) as stream:
            digests = [hashlib.blake2b(piece.raw(stream), digest_size=16).digest() for piece in self._pieces]
        images = np.unique(digests, return_inverse=True)[1].reshape(-1, 2)
        people = linked(images[same], int(images.max()) + 1)
        wrong = int(np.count_nonzero(people[images[~same, 0]] == people[images[~same, 1]]))
        notes = ["the file does not name people: equal crops, and matching ones, count as one person"]
        if wrong:
            notes.append(f"{wrong} pairs that should not match are of crops that matching pairs join")
        return PairList(
            images=tuple(f"#{i}" for i in range(len(self))),
            first=np.arange(0, len(self), 2),
            second=np.arange(1, len(self), 2),
            same=same,
            folds=split_folds(len(same), folds),
            identities=np.asarray(people[images.ravel()], dtype=np.intp),
            source=str(self.path),
            notes=tuple(notes),
        )


class FolderSet:
    """A folder of ready-made crops and a list of pairs, of any form that `read_pairs` reads.

    Images that are not there are kept in the list, fail when they are loaded, and so are counted.

    Parameters
    ----------
    folder, pairs : path
    folds : int
        For lists without folds of their own.

    Raises
    ------
    DatasetError
        The list cannot be read, or none of its images is there.
    """

    def __init__(self, folder: str | os.PathLike[str], pairs: str | os.PathLike[str], *, folds: int = FOLDS) -> None:
        self.path = Path(folder)
        self.name = Path(pairs).stem
        listed = read_pairs(pairs)
        if not listed.folds.any():
            listed = replace(listed, folds=split_folds(len(listed), folds))
        found = [find_file(self.path, name) for name in listed.images]
        if not any(found):
            raise DatasetError(f"none of the {len(found)} images of {pairs} is in {self.path}")
        self.pairs = replace(listed, images=tuple(a or b for a, b in zip(found, listed.images, strict=True)))

    def __len__(self) -> int:
        return len(self.pairs.images)

    def load(self, number: int) -> Image:
        """Read one crop, BGR; raises `ImageError`."""
        return load_image(self.path / self.pairs.images[number])

    def stamp(self) -> dict[str, Any]:
        """The folder, and a hash of the images' names, sizes and times of change."""
        digest = hashlib.sha256()
        for name in self.pairs.images:
            path = self.path / name
            status = path.stat() if path.is_file() else None
            digest.update(f"{name}\n{(status.st_size, status.st_mtime_ns) if status else None}\n".encode())
        return {"set": str(self.path.resolve()), "images": digest.hexdigest()}


def open_set(name: str | os.PathLike[str], *, folds: int = FOLDS) -> BinSet | FolderSet:
    """Open what a command line names: a `.bin`, or `FOLDER,PAIRS`.

    Raises
    ------
    DatasetError
        As `BinSet` and `FolderSet`.
    """
    text = os.fspath(name)
    folder, comma, pairs = text.rpartition(",")
    if comma and not Path(text).exists():
        return FolderSet(folder, pairs, folds=folds)
    if Path(text).is_dir():
        raise DatasetError(f"{text} is a folder: name its list of pairs too, as {text},PAIRS")
    return BinSet(text, folds=folds)


@dataclass(frozen=True)
class Fitting:
    """How a crop of a set is brought to the size that a model wants.

    Attributes
    ----------
    size : (int, int)
        Height and width wanted.
    middle : bool
        Take the middle of a larger crop, as FaceNet's scripts do of 182x182, and do not scale it down.
    """

    size: tuple[int, int]
    middle: bool = False

    def __call__(self, image: Image) -> tuple[Image, str]:
        """Return the crop of the right size, and in words what was done; an empty text for nothing."""
        height, width = self.size
        rows, columns = image.shape[:2]
        if (rows, columns) == self.size:
            return image, ""
        if rows == height and columns > width:
            left = (columns - width) // 2
            return np.ascontiguousarray(image[:, left : left + width]), f"the middle {width} of {columns} columns taken"
        if rows == height and columns < width and not self.middle:
            left = (width - columns) // 2
            wider = np.zeros((height, width, 3), np.uint8)
            wider[:, left : left + columns] = image
            return wider, f"black columns added to {columns}, up to {width}"
        if self.middle and rows >= height and columns >= width:
            top, left = (rows - height) // 2, (columns - width) // 2
            cut = np.ascontiguousarray(image[top : top + height, left : left + width])
            return cut, f"the middle {height}x{width} of {rows}x{columns} taken"
        import cv2

        method = cv2.INTER_AREA if rows > height and columns > width else cv2.INTER_LINEAR
        resized = np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)
        return resized, f"resized from {rows}x{columns} to {height}x{width}"


def read_crops(
    source: CropSet, numbers: range, fit: Callable[[Image], tuple[Image, str]]
) -> tuple[list[Image | None], dict[int, str], list[str]]:
    """Load some crops of a set.

    Parameters
    ----------
    source : CropSet
    numbers : range
    fit : Fitting

    Returns
    -------
    crops : list of ndarray or None
        None where one failed.
    failures : dict of int to str
    changes : list of str
        What was done to those that had another size.
    """
    crops: list[Image | None] = []
    failures: dict[int, str] = {}
    changes: list[str] = []
    for number in numbers:
        try:
            image, change = fit(source.load(number))
        except (ImageError, DatasetError) as error:
            crops.append(None)
            failures[number] = str(error)
            continue
        crops.append(image)
        if change:
            changes.append(change)
    return crops, failures, changes


def load_crop(path: Path, name: str) -> Image:
    """Read one crop of a `.bin` by its name, `#` and its number; raises `ImageError` or `DatasetError`."""
    pieces, _ = _two_lists(read_plain_pickle(path), path)
    return load_crop_of(path, pieces[int(name.removeprefix("#"))])


def load_crop_of(path: Path, piece: Piece) -> Image:
    """Read one crop of a `.bin` by its place; raises `ImageError` or `DatasetError`."""
    with _opened(path) as stream:
        return load_image(piece.read(stream))


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None


def _two_lists(loaded: Any, path: Path) -> tuple[list[Piece], list[bool]]:
    if not isinstance(loaded, list | tuple) or len(loaded) != 2 or not all(isinstance(part, list) for part in loaded):
        raise DatasetError(f"{path} must hold two lists, of crops and of booleans, but holds {_kind(loaded)}")
    pieces, same = loaded
    strange = next((item for item in pieces if not isinstance(item, Piece)), None)
    if strange is not None:
        raise DatasetError(f"{path}: a crop must be bytes, but one is {_kind(strange)}")
    wrong = next((item for item in same if not isinstance(item, bool | int) or item not in (0, 1)), None)
    if wrong is not None:
        raise DatasetError(f"{path}: whether a pair matches must be true or false, but one is {_kind(wrong)}")
    if len(pieces) != 2 * len(same) or not same:
        raise DatasetError(f"{path} holds {len(pieces)} crops for {len(same)} pairs: there must be two for each pair")
    return pieces, [bool(item) for item in same]


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "bytes" if isinstance(value, Piece) else f"{value!r}"


def find_file(folder: Path, name: str) -> str | None:
    """Name of an image in a folder, with its suffix where the list has none; None where it is not there."""
    if (folder / name).is_file():
        return name
    return next((name + suffix for suffix in IMAGE_SUFFIXES if (folder / (name + suffix)).is_file()), None)
