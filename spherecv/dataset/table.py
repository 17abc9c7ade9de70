"""Table of the faces found in each image (CSV or Parquet), and the journal that a run resumes from."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from spherecv.errors import DatasetError, InvalidArgumentError, MissingDependencyError
from spherecv.files import append_bytes, open_whole, refused

_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
TABLE_SUFFIXES = (".csv", ".parquet")
_PARQUET_ROWS = 50_000


@dataclass(frozen=True)
class TableRow:
    """What became of one image.

    Attributes
    ----------
    path : str
        Of the image, relative to the data set, with `/`.
    crop : str or None
        Of the crop, relative to the output, with `/`; None where there is none.
    status : str
        `"ok"`, `"no face"` (skipped), `"center crop"` (no face, the middle was taken) or `"failed"`.
    reason : str
        Why it failed; empty otherwise.
    faces : int
        How many were found.
    score : float or None
        Of the face taken, 0..1.
    box : list of float, or None
        `x1, y1, x2, y2` in pixels of the image.
    landmarks : list of five [x, y], or None
        In pixels of the image.
    """

    path: str
    crop: str | None
    status: str
    reason: str = ""
    faces: int = 0
    score: float | None = None
    box: list[float] | None = None
    landmarks: list[list[float]] | None = None

    def flat(self) -> dict[str, Any]:
        """One value for each column of the table."""
        box: Sequence[float | None] = self.box or [None] * 4
        points: Sequence[Sequence[float | None]] = self.landmarks or [[None, None]] * 5
        return {
            "path": self.path,
            "crop": self.crop,
            "status": self.status,
            "reason": self.reason,
            "faces": self.faces,
            "score": self.score,
            **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
            **{
                f"{name}_{axis}": value
                for name, point in zip(_POINTS, points, strict=True)
                for axis, value in zip("xy", point, strict=True)
            },
        }


class State(NamedTuple):
    """What is kept of a row: its status, its crop, and where its line begins."""

    status: str
    crop: str | None
    offset: int


def check_table(path: Path) -> None:
    """Refuse a table of a form that cannot be written, before any work is done.

    Raises
    ------
    InvalidArgumentError
        Another suffix than `.csv` or `.parquet`.
    MissingDependencyError
        Parquet without pyarrow.
    """
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise InvalidArgumentError(f"a table must end in {' or '.join(TABLE_SUFFIXES)}, but got {path.name}")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise MissingDependencyError("pyarrow", "evaluate", "a Parquet table") from None


def write_table(path: Path, rows: Iterable[TableRow]) -> None:
    """Write the table whole or not at all.

    Raises
    ------
    InvalidArgumentError, MissingDependencyError
        As for `check_table`.
    StorageError
        It cannot be written.
    """
    check_table(path)
    table = (row.flat() for row in rows)
    with open_whole(path) as stream:
        if path.suffix.lower() == ".parquet":
            _write_parquet(stream, table)
        else:
            _write_csv(stream, table)


def _write_csv(stream: IO[bytes], table: Iterable[dict[str, Any]]) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    writer = csv.DictWriter(text, list(TableRow("", None, "").flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    text.detach()


def _write_parquet(stream: IO[bytes], table: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {"path", "crop", "status", "reason"}
    columns = list(TableRow("", None, "").flat())
    schema = pa.schema(
        [(name, pa.string() if name in texts else pa.int32() if name == "faces" else pa.float32()) for name in columns]
    )
    rows = iter(table)
    with pq.ParquetWriter(stream, schema) as writer:
        while part := list(islice(rows, _PARQUET_ROWS)):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))


class Journal:
    """Rows as they come, a line each, so that a run that ends anywhere goes on from there.

    Of each row only what resuming needs is kept in memory; the rest is read back when the table is written.

    Parameters
    ----------
    path : Path
    settings : mapping
        What the rows depend on; a journal of other settings is refused.

    Attributes
    ----------
    states : dict of str to State
        By image.

    Raises
    ------
    DatasetError
        A journal of other settings, or no journal at all.
    StorageError
        It cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.states: dict[str, State] = {}
        self._path = path
        head = json.dumps({"settings": dict(settings)}, sort_keys=True).encode() + b"\n"
        with refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._end = self._read(head) if path.exists() else 0
            self._file: IO[bytes] = path.open("r+b" if self._end else "w+b", buffering=0)
            self._file.truncate(self._end)  # what a broken-off run left of its last line
            if not self._end:
                self._append(head)

    def _read(self, head: bytes) -> int:
        """Read the rows, and return where the last whole line ends."""
        end = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if not end and line != head:
                    folder = self._path.parent
                    raise DatasetError(
                        f"{folder} holds crops of other settings: choose another folder, or start again with "
                        "restart=True (--restart)"
                    )
                if end:
                    try:
                        row = TableRow(**json.loads(line))
                    except (TypeError, ValueError):
                        break  # from a torn line on, nothing is trusted
                    self.states[row.path] = State(row.status, row.crop, end)
                end += len(line)
        return end

    def add(self, row: TableRow) -> None:
        """Append one row; raises `StorageError` where the disk is full."""
        state = State(row.status, row.crop, self._end)
        with refused(self._path):
            self._append(json.dumps(asdict(row)).encode() + b"\n")
        self.states[row.path] = state

    def rows(self, names: Iterable[str]) -> Iterator[TableRow]:
        """Read rows back, in the order of the names."""
        with self._path.open("rb") as file:
            for name in names:
                file.seek(self.states[name].offset)
                yield TableRow(**json.loads(file.readline()))

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        self._file.seek(self._end)
        append_bytes(self._file, line)
        self._end += len(line)


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path lies in a folder, links followed."""
    return os.path.commonpath([path.resolve(), folder.resolve()]) == str(folder.resolve())
