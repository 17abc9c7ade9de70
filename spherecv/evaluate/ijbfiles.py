"""The files of IJB-B and IJB-C, as the field distributes them: media, template pairs, landmarks, galleries."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.errors import DatasetError
from spherecv.evaluate.curves import BoolArray, FloatArray

_BLOCK = 1 << 23
"""Bytes of a pair file read at once: about half a million lines."""


@dataclass(frozen=True, eq=False)
class MediaList:
    """Which image belongs to which template, and to which image or video.

    Attributes
    ----------
    names : tuple of str
        Of the images, in the file's order.
    templates, media : ndarray of int64, shape (N,)
    """

    names: tuple[str, ...]
    templates: NDArray[np.int64]
    media: NDArray[np.int64]

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class TemplatePairs:
    """Pairs of templates to compare.

    Attributes
    ----------
    first, second : ndarray of int32, shape (M,)
        Positions in a sorted list of templates.
    same : ndarray of bool, shape (M,)
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    same: BoolArray

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.same)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Five points and a detector's score for each image.

    Attributes
    ----------
    points : ndarray of float64, shape (N, 5, 2)
        `x, y` in pixels.
    scores : ndarray of float64, shape (N,)
    """

    points: FloatArray
    scores: FloatArray

    __repr__ = brief


def read_media(path: str | os.PathLike[str]) -> MediaList:
    """Read `ijbc_face_tid_mid.txt`: lines `IMAGE TEMPLATE MEDIUM`.

    Parameters
    ----------
    path : path

    Returns
    -------
    MediaList

    Raises
    ------
    DatasetError
        The file cannot be read or holds nothing, or a line is not of the form; the message names it.
    """
    names: list[str] = []
    numbers: list[int] = []
    for line, words in _rows(Path(path)):
        if len(words) != 3 or not (_is_whole(words[1]) and _is_whole(words[2])):
            raise DatasetError(f"{path}, line {line}: expected `IMAGE TEMPLATE MEDIUM`, but got {' '.join(words)!r}")
        names.append(words[0])
        numbers += [int(words[1]), int(words[2])]
    if not names:
        raise DatasetError(f"{path} holds no images")
    table = np.array(numbers, dtype=np.int64).reshape(-1, 2)
    return MediaList(tuple(names), table[:, 0], table[:, 1])


def read_landmarks(path: str | os.PathLike[str], names: Sequence[str]) -> Landmarks:
    """Read `ijbc_name_5pts_score.txt`: lines of an image's name, five `x y` and the detector's score.

    Parameters
    ----------
    path : path
    names : sequence of str
        The images wanted; other lines are passed over.

    Returns
    -------
    Landmarks
        In the order of `names`.

    Raises
    ------
    DatasetError
        The file cannot be read, a line is not of the form, or images are missing.
    """
    position = {name: row for row, name in enumerate(names)}
    values = np.full((len(names), 11), np.nan)
    for line, words in _rows(Path(path)):
        row = position.get(words[0])
        if row is None:
            continue
        try:
            values[row] = [float(word) for word in words[1:]]
        except ValueError:
            raise DatasetError(f"{path}, line {line}: expected a name and 11 numbers, but got {words}") from None
    lost = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(lost):
        raise DatasetError(f"{path} lacks {len(lost)} of the {len(names)} images, or their numbers: {names[lost[0]]}")
    return Landmarks(values[:, :10].reshape(-1, 5, 2), values[:, 10])


def read_template_pairs(path: str | os.PathLike[str], templates: NDArray[np.int64]) -> TemplatePairs:
    """Read `ijbc_template_pair_label.txt`, lines `TEMPLATE TEMPLATE LABEL`, in blocks: of 10**7 pairs, 90 MB stay.

    Parameters
    ----------
    path : path
    templates : ndarray of int64, shape (T,)
        All templates, sorted.

    Returns
    -------
    TemplatePairs

    Raises
    ------
    DatasetError
        The file cannot be read or holds nothing, a line is not of the form, or a template is unknown.
    """
    parts = [_positions(block, templates, Path(path)) for block in _number_blocks(Path(path))]
    if not parts:
        raise DatasetError(f"{path} holds no pairs")
    return TemplatePairs(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([part[2] for part in parts]),
    )


def read_subjects(path: str | os.PathLike[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read a gallery or the probes of the 1:N protocol: a table with the columns template and subject.

    Parameters
    ----------
    path : path
        CSV with a header; a template may stand on several lines, one for each image.

    Returns
    -------
    templates : ndarray of int64, shape (T,)
        Sorted, each once.
    subjects : ndarray of int64, shape (T,)

    Raises
    ------
    DatasetError
        The table cannot be read, lacks the columns, or gives a template two subjects.
    """
    file = Path(path)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} is not a CSV table: {error}") from None
    if len(rows) < 2:
        raise DatasetError(f"{file} holds no templates under a header")
    header = [name.upper() for name in rows[0]]
    columns = [header.index(name) if name in header else i for i, name in enumerate(("TEMPLATE_ID", "SUBJECT_ID"))]
    found: dict[int, int] = {}
    for line, row in enumerate(rows[1:], start=2):
        if len(row) <= max(columns) or not all(_is_whole(row[column]) for column in columns):
            raise DatasetError(f"{file}, line {line}: expected numbers of a template and a subject, but got {row}")
        template, subject = (int(row[column]) for column in columns)
        if found.setdefault(template, subject) != subject:
            both = f"{found[template]} and {subject}"
            raise DatasetError(f"{file}, line {line}: template {template} is of two subjects, {both}")
    order = sorted(found)
    return np.array(order, dtype=np.int64), np.array([found[template] for template in order], dtype=np.int64)


def positions_of(wanted: NDArray[np.int64], templates: NDArray[np.int64], source: object) -> NDArray[np.int32]:
    """Positions in a sorted list of templates; raises `DatasetError` where one is not in it."""
    places = np.searchsorted(templates, wanted)
    known = templates[np.minimum(places, len(templates) - 1)] == wanted
    if not known.all():
        raise DatasetError(f"{source} names template {wanted[~known][0]}, which no image belongs to")
    return np.asarray(places, dtype=np.int32)


def _positions(
    block: NDArray[np.int64], templates: NDArray[np.int64], path: Path
) -> tuple[NDArray[np.int32], NDArray[np.int32], BoolArray]:
    table = block.reshape(-1, 3)
    wrong = np.flatnonzero((table[:, 2] != 0) & (table[:, 2] != 1))
    if len(wrong):
        raise DatasetError(f"{path}: a label must be 0 or 1, but one is {table[wrong[0], 2]}")
    first, second = (positions_of(table[:, side], templates, path) for side in (0, 1))
    return first, second, table[:, 2] == 1


def _number_blocks(file: Path) -> Iterator[NDArray[np.int64]]:
    """Whole lines of three numbers each, as flat arrays."""
    line = 1
    try:
        with file.open("rb") as stream:
            rest = b""
            while data := stream.read(_BLOCK):
                head, _, tail = data.rpartition(b"\n")
                if not head:
                    rest += data
                    if len(rest) > 4 * _BLOCK:
                        raise DatasetError(f"{file}, line {line}: not lines of three numbers")
                    continue
                block, rest = rest + head, tail
                yield _numbers(block, file, line)
                line += block.count(b"\n") + 1
            if rest.strip():
                yield _numbers(rest, file, line)
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None


def _numbers(block: bytes, file: Path, line: int) -> NDArray[np.int64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy warns where a word is not a number; counted below
        try:
            found = np.fromstring(block, dtype=np.int64, sep=" ")
        except ValueError:
            found = np.empty(0, np.int64)
    if len(found) == 3 * (block.count(b"\n") + 1) and _even(block):
        return found
    kept = []
    for number, text in enumerate(block.split(b"\n"), start=line):
        words = text.split()
        if words and (len(words) != 3 or not all(_is_whole(word.decode("latin-1")) for word in words)):
            raise DatasetError(f"{file}, line {number}: expected `TEMPLATE TEMPLATE LABEL`, but got {text[:60]!r}")
        kept += [int(word) for word in words]
    return np.array(kept, dtype=np.int64)


def _even(block: bytes) -> bool:
    """Whether no line is likely to lack a number that another has too many: each has two spaces or tabs."""
    return block.count(b" ") + block.count(b"\t") == 2 * (block.count(b"\n") + 1)


def _is_whole(word: str) -> bool:
    return word.isascii() and word.lstrip("-").isdigit() and len(word) < 19


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for line, text in enumerate(stream, start=1):
                if words := text.split():
                    yield line, words
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{file} is not a text file") from None
