"""Rows of embeddings on the disk, written in order, so that interrupted work resumes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import CalibrationError, DatasetError
from spherecv.files import refused, write_bytes

_FORMAT = 1
_BLOCK = 1 << 24

FloatRows = NDArray[np.float32]


class RowStore:
    """Embeddings of a numbered list of images: some are there, the others wait.

    Parameters
    ----------
    path : path or None
        Of the raw float32 rows; beside it lies `path.json`, which says how many of them count. None keeps them in
        memory.
    meta : dict
        What the rows depend on: model, recipe, source. A store of anything else is refused.
    count : int
        Of images.

    Attributes
    ----------
    done : int
        How many images were dealt with, from the first on.
    failures : dict of int to str
        Images that could not be used, and why; their rows are NaN.

    Raises
    ------
    CalibrationError
        The store is of another model, recipe or source.
    DatasetError
        The store is broken.
    """

    def __init__(self, path: str | os.PathLike[str] | None, meta: dict[str, Any], count: int) -> None:
        self._path = None if path is None else Path(path)
        self._sidecar = Path(f"{path}.json")
        self._meta = json.loads(json.dumps(meta))
        self._count = count
        self._width = 0
        self._sum = 0
        self._waiting: list[FloatRows] = []
        self._kept: list[FloatRows] = []
        self.done = 0
        self.failures: dict[int, str] = {}
        if self._path is not None and self._sidecar.exists():
            self._resume()

    @property
    def width(self) -> int:
        """Numbers in a row; 0 before the first is there."""
        return self._width

    def append(self, rows: FloatRows, failures: dict[int, str] | None = None) -> None:
        """Take the rows of the next images; those of images that failed are ignored, and become NaN."""
        table = np.array(rows, dtype=np.float32)
        if self._width and table.shape[1] != self._width:
            raise DatasetError(f"rows must have {self._width} numbers, but got {table.shape[1]}")
        self._width = table.shape[1]
        for number, why in (failures or {}).items():
            table[number - self.done] = np.nan
            self.failures[number] = why
        self.done += len(table)
        (self._kept if self._path is None else self._waiting).append(table)

    def flush(self) -> None:
        """Write what waits, first the rows, then that they count; raises `StorageError`."""
        if self._path is None or not (self._waiting or not self._sidecar.exists()):
            return
        with refused(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self.done - sum(len(rows) for rows in self._waiting)
            with self._path.open("r+b" if written else "wb") as stream:
                stream.truncate(written * self._width * 4)
                stream.seek(0, os.SEEK_END)
                for rows in self._waiting:
                    content = np.ascontiguousarray(rows, dtype="<f4").data
                    stream.write(content)
                    self._sum = crc32(content, self._sum)
                stream.flush()
                os.fsync(stream.fileno())
        self._waiting.clear()
        notes = {
            "format": _FORMAT, "width": self._width, "done": self.done, "count": self._count, "meta": self._meta,
            "failures": {str(number): why for number, why in self.failures.items()}, "crc32": self._sum,
        }  # fmt: skip
        notes["notes_crc32"] = _sum_of(notes)
        write_bytes(self._sidecar, (json.dumps(notes, sort_keys=True) + "\n").encode())

    def rows(self) -> FloatRows:
        """The rows that are there, shape (done, D): of a file, mapped and not read."""
        self.flush()
        if self._path is None or not self.done:
            return np.concatenate(self._kept) if self._kept else np.empty((0, self._width), np.float32)
        return np.memmap(self._path, dtype="<f4", mode="r", shape=(self.done, self._width))

    def _resume(self) -> None:
        try:
            notes = json.loads(self._sidecar.read_text(encoding="utf-8"))
            form, width, done, count = (notes[key] for key in ("format", "width", "done", "count"))
            failures = {int(number): str(why) for number, why in notes["failures"].items()}
            meta = notes["meta"]
            if notes.get("notes_crc32") not in (None, _sum_of(notes)):  # None: written by an earlier version
                raise ValueError("they are not what was written")
            sound = all(type(number) is int and number >= 0 for number in (form, width, done, count))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{self._sidecar} cannot be read as notes of saved embeddings: {error}") from None
        if not sound or form != _FORMAT or not isinstance(meta, dict):
            raise DatasetError(f"{self._sidecar} is of another format: choose another file, or remove it")
        for what, mine in self._meta.items():
            if meta.get(what) != mine:
                raise CalibrationError(f"{self._path} holds embeddings of another {what}: choose another file")
        if count != self._count or done > count:
            raise CalibrationError(f"{self._path} holds embeddings of {count:,} images, not {self._count:,}")
        size = self._path.stat().st_size if self._path is not None and self._path.exists() else 0
        if size < done * width * 4:
            wanted = done * width * 4
            raise DatasetError(f"{self._path} is truncated: {size:,} bytes, but {done:,} rows need {wanted:,}")
        self._sum = _sum_of_file(self._path, done * width * 4) if self._path is not None and size else 0
        if notes.get("crc32") not in (None, self._sum):
            raise DatasetError(f"{self._path} is damaged: its rows are not what was written; remove it")
        self.done, self._width, self.failures = done, width, failures


def _sum_of(notes: dict[str, Any]) -> int:
    told = {name: value for name, value in notes.items() if name != "notes_crc32"}
    return crc32(json.dumps(told, sort_keys=True).encode())


def _sum_of_file(path: Path, length: int) -> int:
    found = 0
    with path.open("rb") as stream:
        while length and (block := stream.read(min(length, _BLOCK))):
            found, length = crc32(block, found), length - len(block)
    return found
