"""YouTube Faces: pairs of videos, a template for each video from its frames."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice, check_count
from spherecv.errors import DatasetError, InvalidArgumentError
from spherecv.evaluate.pairs import PairList, PairRow, make_pairs
from spherecv.images import IMAGE_SUFFIXES
from spherecv.metrics import at_unit_length
from spherecv.templates import weights_of

Pooling = Literal["mean", "quality"]


def read_splits(path: str | os.PathLike[str], *, corrections: str | os.PathLike[str] | None = None) -> PairList:
    """Read YTF's `splits.txt`: 5,000 pairs of videos in 10 splits.

    Parameters
    ----------
    path : path
        A line for each pair, with commas: the split's number, two videos as `PERSON/NUMBER`, and last whether they are
        the same person (1 or 0). Other columns, and a header, are passed over.
    corrections : path, optional
        Known label errors, with commas: two videos, and `same`, `different` or `drop`. A pair of the splits that stands
        there has its label replaced, or is left out.

    Returns
    -------
    PairList
        Its "images" are videos; `notes` says how many pairs were corrected.

    Raises
    ------
    DatasetError
        A file cannot be read, a line is no pair, or a correction is of a pair that is not there.
    """
    file = Path(path)
    rows = [row for i, line in enumerate(_lines(file), start=1) if (row := _row(line, i, file)) is not None]
    notes: tuple[str, ...] = ()
    if corrections is not None:
        rows, notes = _corrected(rows, Path(corrections))
    pairs = make_pairs(rows, str(file), trust_labels=corrections is not None)
    return PairList(**{**vars(pairs), "notes": (*pairs.notes, *notes)})


def read_videos(path: str | os.PathLike[str], pairs: PairList) -> tuple[str, ...]:
    """Read a list of videos of the splits, such as those known to be faulty.

    Parameters
    ----------
    path : path
        `PERSON/NUMBER` a line; `#` begins a remark.
    pairs : PairList
        Of the splits.

    Returns
    -------
    tuple of str

    Raises
    ------
    DatasetError
        The file cannot be read, or names a video that the splits do not hold.
    """
    file = Path(path)
    names = [cells[0] for cells in _lines(file) if cells and cells[0] and not cells[0].startswith("#")]
    strange = next((name for name in names if name not in set(pairs.images)), None)
    if strange is not None:
        raise DatasetError(f"{file} names {strange}, a video that the splits do not hold")
    return tuple(dict.fromkeys(names))


def frames_of(pairs: PairList, folder: str | os.PathLike[str], *, limit: int | None = None) -> dict[str, list[str]]:
    """Find the frames of every video of a list.

    Parameters
    ----------
    pairs : PairList
        Of videos.
    folder : path
        Holds `PERSON/NUMBER/FRAME`.
    limit : int, optional
        Frames of each video, evenly spread; by default all.

    Returns
    -------
    dict of str to list of str
        Paths in the folder, with `/`, by video.

    Raises
    ------
    DatasetError
        A video without frames.
    InvalidArgumentError
        `limit` below 1.
    """
    if limit is not None:
        check_count("limit", limit)
    root = Path(folder)
    frames: dict[str, list[str]] = {}
    for video in pairs.images:
        try:
            names = [entry.name for entry in os.scandir(root / video)]
        except OSError:
            raise DatasetError(f"{root / video}: no such folder of frames, but {pairs.source} names it") from None
        found = sorted((name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES), key=_in_order)
        if not found:
            raise DatasetError(f"{root / video} holds no frames")
        if limit is not None and len(found) > limit:
            found = [found[i] for i in np.linspace(0, len(found) - 1, limit).round().astype(int)]
        frames[video] = [f"{video}/{name}" for name in found]
    return frames


def make_templates(
    embeddings: NDArray[np.floating],
    qualities: NDArray[np.floating],
    rows: Mapping[str, Sequence[int]],
    *,
    pooling: Pooling = "mean",
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Make one embedding of each video.

    Parameters
    ----------
    embeddings : ndarray of float, shape (N, D)
        Of frames.
    qualities : ndarray of float, shape (N,)
        0..1; NaN, of a frame in which no face was found, counts as 0.
    rows : mapping of str to sequence of int
        Which rows belong to which video; may be none.
    pooling : {"mean", "quality"}
        Frames weigh alike, or by their quality, as `spherecv.templates.weights_of` says.

    Returns
    -------
    templates : dict of str to ndarray of float64, shape (D,)
        The mean of the frames' embeddings, each scaled to length 1 before.
    empty : list of str
        Videos without any frame that could be used.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, or another pooling.
    """
    check_choice("pooling", pooling, get_args(Pooling))
    table = np.asarray(embeddings, dtype=np.float64)
    if table.ndim != 2 or np.shape(qualities) != (len(table),):
        shapes = f"{table.shape} and {np.shape(qualities)}"
        raise InvalidArgumentError(f"embeddings must be (N, D) and qualities (N,), but got {shapes}")
    weights = weights_of(np.nan_to_num(np.asarray(qualities)) if pooling == "quality" else np.ones(len(table)))
    table = at_unit_length(table)
    templates: dict[str, NDArray[np.float64]] = {}
    empty: list[str] = []
    for video, members in rows.items():
        chosen = np.asarray(members, dtype=np.intp)
        if not len(chosen):
            empty.append(video)
            continue
        templates[video] = np.average(table[chosen], axis=0, weights=weights[chosen])
    return templates, empty


def _lines(file: Path) -> list[list[str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{file} is not a text file of splits") from None
    return [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]


def _row(cells: Sequence[str], line: int, file: Path) -> PairRow | None:
    videos = [cell for cell in cells if re.fullmatch(r"[^/]+/\d+", cell)]
    if len(videos) == 2 and cells[0].isdigit() and cells[-1] in ("0", "1"):
        people = (videos[0].partition("/")[0], videos[1].partition("/")[0])
        return PairRow(videos[0], videos[1], cells[-1] == "1", int(cells[0]), people, line)
    if not any(cells) or (line == 1 and not cells[0].isdigit()):
        return None
    raise DatasetError(f"{file}, line {line}: expected a split, two videos as PERSON/NUMBER and 0 or 1, got {cells}")


def _corrected(rows: Sequence[PairRow], file: Path) -> tuple[list[PairRow], tuple[str, ...]]:
    """Replace labels; the people's names stay, since they only say which pairs are resampled together."""
    wanted: dict[frozenset[str], str] = {}
    for line, cells in enumerate(_lines(file), start=1):
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) != 3 or cells[2] not in ("same", "different", "drop"):
            raise DatasetError(f"{file}, line {line}: expected two videos and same, different or drop, but got {cells}")
        wanted[frozenset(cells[:2])] = cells[2]
    listed = {frozenset(row[:2]) for row in rows}
    strange = [sorted(pair) for pair in wanted if pair not in listed]
    if strange:
        raise DatasetError(f"{file} corrects {' and '.join(strange[0])}, a pair that the splits do not hold")
    kept = [
        row._replace(same=wanted[key] == "same") if (key := frozenset(row[:2])) in wanted else row
        for row in rows
        if wanted.get(frozenset(row[:2])) != "drop"
    ]
    dropped = len(rows) - len(kept)
    note = f"{len(wanted) - dropped} labels corrected and {dropped} pairs left out by {file.name}"
    return kept, (note,)


def _in_order(name: str) -> list[int | str]:
    """Sort key by the numbers in a name: frame 2 before frame 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
