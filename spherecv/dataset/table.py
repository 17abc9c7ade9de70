"""The table of what was found in each image: CSV or Parquet, and the journal that a broken-off run resumes from."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from spherecv.errors import DatasetError, InvalidArgumentError, MissingDependencyError, StorageError
from spherecv.files import atomic_path

_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
TABLE_SUFFIXES = (".csv", ".parquet")


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
    table = [row.flat() for row in rows]
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".parquet":
            _write_parquet(temporary, table)
        else:
            _write_csv(temporary, table)


def _write_csv(path: Path, table: list[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(TableRow("", None, "").flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def _write_parquet(path: Path, table: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {"path", "crop", "status", "reason"}
    columns = list(TableRow("", None, "").flat())
    schema = pa.schema(
        [(name, pa.string() if name in texts else pa.int32() if name == "faces" else pa.float32()) for name in columns]
    )
    pq.write_table(pa.Table.from_pylist(table, schema=schema), path)


class Journal:
    """Rows as they come, a line each, so that a run that ends anywhere goes on from there.

    Parameters
    ----------
    path : Path
    settings : mapping
        What the rows depend on; a journal of other settings is refused.

    Raises
    ------
    DatasetError
        A journal of other settings, or no journal at all.
    StorageError
        It cannot be read or written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.rows: dict[str, TableRow] = {}
        self._path = path
        head = json.dumps({"settings": dict(settings)}, sort_keys=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = self._read(head) if path.exists() else 0
            self._file: IO[str] = path.open("r+" if whole else "w", encoding="utf-8", newline="")
            self._file.seek(whole)
            self._file.truncate()  # what a broken-off run left of its last line
            if not whole:
                self._file.write(head + "\n")
                self._file.flush()
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror or error}") from None

    def _read(self, head: str) -> int:
        """Read the rows, and return where the last whole line ends."""
        data = self._path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines:
            return 0
        if lines[0].decode(errors="replace").rstrip("\n") != head:
            raise DatasetError(
                f"{self._path.parent} holds crops made with other settings: choose another folder, or start anew"
            )
        end = len(lines[0])
        for line in lines[1:]:
            try:
                row = TableRow(**json.loads(line))
            except (TypeError, ValueError):
                break  # from a torn line on, nothing is trusted
            self.rows[row.path] = row
            end += len(line)
        return end

    def add(self, row: TableRow) -> None:
        """Append one row; raises `StorageError` where the disk is full."""
        self.rows[row.path] = row
        try:
            self._file.write(json.dumps(asdict(row)) + "\n")
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror or error}") from None

    def close(self) -> None:
        """Close the file; the rows stay."""
        self._file.close()


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path lies in a folder, links followed."""
    return os.path.commonpath([path.resolve(), folder.resolve()]) == str(folder.resolve())
