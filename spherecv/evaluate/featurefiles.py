"""Files of features: MegaFace's, FaceScrub's and Trillion Pairs' `.bin`, with the header of an OpenCV matrix; lists."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import DatasetError
from spherecv.files import open_whole

_HEADER = struct.Struct("<4i")
_TYPES: dict[int, tuple[str, int]] = {5: ("<f4", 4), 6: ("<f8", 8)}
"""OpenCV's CV_32F and CV_64F."""
_FLOAT = 5
_BATCH = 8192


def read_features(path: str | os.PathLike[str]) -> NDArray[np.floating]:
    """Read a matrix of features.

    Parameters
    ----------
    path : path
        Four whole numbers of 32 bits (rows, columns, bytes from row to row, type: 5 for float32, 6 for float64), then
        the rows: the feature files of MegaFace's devkit, a column each, and Trillion Pairs' submissions.

    Returns
    -------
    ndarray of float, shape (rows, columns)
        Mapped, not read.

    Raises
    ------
    DatasetError
        The file cannot be read, has no such header, or its length does not fit.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEADER.size)
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    if len(head) < _HEADER.size:
        raise DatasetError(f"{file} is truncated: it has {len(head)} bytes, fewer than its header")
    rows, columns, stride, kind = _HEADER.unpack(head)
    if kind not in _TYPES or min(rows, columns) < 1 or stride != columns * _TYPES[kind][1]:
        said = f"{rows} x {columns}, stride {stride}, type {kind}"
        raise DatasetError(f"{file} is not a feature file: its header says {said}")
    wanted = _HEADER.size + rows * stride
    if size != wanted:
        raise DatasetError(f"{file} has {size:,} bytes, but {rows} x {columns} features need {wanted:,}")
    mapped: NDArray[np.floating] = np.memmap(
        file, dtype=_TYPES[kind][0], mode="r", offset=_HEADER.size, shape=(rows, columns)
    )
    return mapped


def write_features(
    path: str | os.PathLike[str],
    features: NDArray[np.floating],
    *,
    change: Callable[[NDArray[np.floating]], NDArray[np.floating]] | None = None,
) -> None:
    """Write a matrix of features as float32, in blocks.

    Parameters
    ----------
    path : path
        Replaced whole or not at all.
    features : ndarray of float, shape (rows, columns)
        May be memory-mapped.
    change : callable, optional
        What is made of each block of rows before it is written; may change the number of columns.

    Raises
    ------
    DatasetError
        Not a matrix, or too large for the header.
    StorageError
        It cannot be written.
    """
    if features.ndim != 2 or not features.size:
        raise DatasetError(f"features must be a matrix, but got shape {features.shape}")
    made = change or (lambda block: block)
    rows, columns = len(features), made(features[:1]).shape[1]
    if max(rows, 4 * columns) >= 2**31:
        raise DatasetError(f"{rows:,} x {columns:,} features are too many for the header's numbers of 32 bits")
    with open_whole(path) as stream:
        stream.write(_HEADER.pack(rows, columns, 4 * columns, _FLOAT))
        for start in range(0, rows, _BATCH):
            stream.write(np.ascontiguousarray(made(features[start : start + _BATCH]), dtype="<f4").data)


def read_feature_list(path: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Read one of the devkit's lists: `{"path": [...], "id": [...]}`, or a path a line.

    Parameters
    ----------
    path : path

    Returns
    -------
    paths : list of str
        Relative to the folder of features.
    identities : list of str
        The list's own, or where it has none the first folder of each path.

    Raises
    ------
    DatasetError
        The list cannot be read, or its two parts are of different lengths.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
        values = json.loads(text) if text.lstrip().startswith("{") else {"path": text.split("\n")}
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DatasetError(f"{file} is not a list of features: {error}") from None
    paths = values.get("path") if isinstance(values, dict) else None
    if not isinstance(paths, list) or not all(isinstance(name, str) for name in paths):
        raise DatasetError(f'{file} is not a list of features: it has no "path"')
    identities = values.get("id")
    if identities is not None and (not isinstance(identities, list) or len(identities) != len(paths)):
        raise DatasetError(f"{file} has {len(paths)} paths, and not as many identities")
    cleaned = [name.strip() for name in paths]
    people = cleaned if identities is None else [str(one) for one in identities]
    kept = [(name, one) for name, one in zip(cleaned, people, strict=True) if name]
    if not kept:
        raise DatasetError(f"{file} names no features")
    named = [name for name, _ in kept]
    return named, [one if identities is not None else name.partition("/")[0] for name, one in kept]


def gather_features(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    out: str | os.PathLike[str],
    *,
    suffix: str = ".bin",
    without: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.float32], list[int], dict[str, str]]:
    """Gather the feature files of a list into one `.npy`, which is mapped.

    Parameters
    ----------
    folder : path
    names : sequence of str
        As the list has them; the file is the name with `suffix` behind it.
    out : path
        The `.npy`, replaced.
    suffix : str
        What the devkit calls the algorithm's, such as `_mymodel.bin`.
    without : iterable of str
        Names to leave out: the noise that was found in FaceScrub and MegaFace.
    progress : callable, optional
        Called with the number of files done and in all.

    Returns
    -------
    features : ndarray of float32, shape (N, D)
    kept : list of int
        Positions in `names`.
    failures : dict of str to str
        Files that are missing or broken, and why.

    Raises
    ------
    DatasetError
        No file could be used, or two have different lengths.
    StorageError
        The `.npy` cannot be written.
    """
    unwanted = set(without)
    wanted = [place for place, name in enumerate(names) if name not in unwanted]
    kept: list[int] = []
    failures: dict[str, str] = {}
    with open_whole(out) as stream:
        width = 0
        for done, place in enumerate(wanted, start=1):
            file = Path(folder) / (names[place] + suffix)
            try:
                row = np.array(read_features(file), dtype="<f4").ravel()
                if not np.isfinite(row).all():
                    raise DatasetError(f"{file} holds values that are not finite")
            except DatasetError as error:
                failures[names[place]] = str(error)
                continue
            if not width:
                width = len(row)
                stream.write(_npy_header(len(wanted), width))
            if len(row) != width:
                raise DatasetError(f"{file} has {len(row)} features, but the files before it have {width}")
            stream.write(row.data)
            kept.append(place)
            if progress is not None:
                progress(done, len(wanted))
        if not kept:
            first = next(iter(failures.values()), "every name is left out")
            raise DatasetError(f"no feature file of {folder} could be used: {first}")
        stream.seek(0)
        stream.write(_npy_header(len(kept), width, len(wanted)))
    return np.load(out, mmap_mode="r", allow_pickle=False), kept, failures


def _npy_header(rows: int, columns: int, widest: int | None = None) -> bytes:
    """Header of version 1.0 whose length does not depend on the number of rows, up to `widest`."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}"
    longest = len(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({widest or rows}, {columns}), }}")
    length = -(-(10 + longest + 1) // 64) * 64
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length - 10) + text.ljust(length - 11).encode() + b"\n"
