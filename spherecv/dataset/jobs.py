"""Jobs of an alignment run, one for each image, listed before the work starts so that a run can be resumed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spherecv.errors import DatasetError
from spherecv.images import find_images


@dataclass(frozen=True)
class Job:
    """One image.

    Attributes
    ----------
    path : Path
        Where it is.
    name : str
        What the table calls it: its path in the data set, with `/`.
    crop : str
        Where its crop goes, relative to the output, with `/`.
    landmarks : tuple of five (x, y), or None
        Found by someone else, in pixels counted from 0; None asks for detection.
    known : bool
        Whether detection was done elsewhere; without landmarks it then found nothing.
    """

    path: Path
    name: str
    crop: str
    landmarks: tuple[tuple[float, float], ...] | None = None
    known: bool = False


def jobs_of(source: Path, suffix: str, root: Path | None) -> list[Job]:
    """List the work for an image, a folder, a list of images, or the authors' `dataList.mat`.

    Parameters
    ----------
    source : Path
    suffix : str
        Of the crops, with its dot.
    root : Path or None
        Where the images of a `dataList.mat` are; by default its own folder.

    Returns
    -------
    list of Job
        In a stable order; no two crops have the same name.

    Raises
    ------
    ImageError, DatasetError
        The source is missing, holds no images, or is not what its name says.
    """
    if source.suffix.lower() == ".mat":
        return _named(_matlab(source, root or source.parent), suffix)
    paths = find_images(source)
    base = source if source.is_dir() else _common(paths)
    return _named([(path, _relative(path, base), None, False) for path in paths], suffix)


_Entry = tuple[Path, str, tuple[tuple[float, float], ...] | None, bool]


def _named(entries: Iterable[_Entry], suffix: str) -> list[Job]:
    """Give every crop a name of its own: `a.jpg` and `a.png` side by side become `a` and `a.png` with the suffix."""
    taken: set[str] = set()
    jobs: list[Job] = []
    for path, name, landmarks, known in entries:
        crop = name.rpartition(".")[0] + suffix
        if crop.lower() in taken:
            crop = name + suffix
        if crop.lower() in taken:
            raise DatasetError(f"{name} is listed twice")
        taken.add(crop.lower())
        jobs.append(Job(path, name, crop, landmarks, known))
    return jobs


def _common(paths: list[Path]) -> Path:
    return Path(os.path.commonpath([path.absolute().parent for path in paths]))


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(path.absolute(), base.absolute())).as_posix()


def _matlab(source: Path, root: Path) -> list[_Entry]:
    """Entries of the authors' list; of its paths the last two parts count, since the rest is their machine's."""
    from spherecv.dataset.matlab import read_structure

    rows = read_structure(source, "dataList", ("facial5point",), ("file", "fileName"))
    entries: list[_Entry] = []
    for row in rows:
        file = str(row.get("file", row.get("fileName", "")))
        if not file:
            raise DatasetError(f"{source}: dataList has neither file nor fileName")
        name = "/".join(file.replace("\\", "/").split("/")[-2:])
        entries.append((root / name, name, _points(row["facial5point"], name), True))
    return entries


def _points(value: Any, name: str) -> tuple[tuple[float, float], ...] | None:
    points = np.asarray(value, dtype=np.float64)
    if points.size == 0:
        return None
    if points.shape != (5, 2):
        raise DatasetError(f"dataList: facial5point of {name} must be 5x2, but is {points.shape}")
    return tuple((float(x) - 1.0, float(y) - 1.0) for x, y in points)  # MATLAB counts pixels from 1
