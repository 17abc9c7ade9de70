"""Embedded faces as columns, and the `.npz` of them: no pickle in it, written row by row however many there are."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.errors import DatasetError, InvalidArgumentError
from spherecv.files import open_whole
from spherecv.records import Face, Fingerprint

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class FaceTable:
    """N faces with their embeddings, a column for each thing known of them; NaN where it is not known.

    Attributes
    ----------
    paths : tuple of str
        The image of each face.
    embeddings : ndarray of float32, shape (N, D)
    boxes : ndarray of float32, shape (N, 4)
        `x1, y1, x2, y2` in pixels of the image.
    scores, qualities : ndarray of float32, shape (N,)
        0..1.
    landmarks : ndarray of float32, shape (N, 5, 2)
        As in `Face`; eyes alone are the first two.

    Raises
    ------
    InvalidArgumentError
        Columns that are not of one length, or of another shape.
    """

    paths: tuple[str, ...]
    embeddings: Floats
    boxes: Floats = None  # type: ignore[assignment] # a column that is left out is of NaN
    scores: Floats = None  # type: ignore[assignment]
    qualities: Floats = None  # type: ignore[assignment]
    landmarks: Floats = None  # type: ignore[assignment]

    __repr__ = brief

    def __post_init__(self) -> None:
        count = len(self.paths)
        if np.ndim(self.embeddings) != 2 or len(self.embeddings) != count:
            shape = np.shape(self.embeddings)
            raise InvalidArgumentError(f"embeddings must have shape ({count}, D), a row for each path, but got {shape}")
        for name, width in (("boxes", (4,)), ("scores", ()), ("qualities", ()), ("landmarks", (5, 2))):
            column, shape = getattr(self, name), (count, *width)
            if column is None:
                object.__setattr__(self, name, np.full(shape, np.nan, np.float32))
            elif np.shape(column) != shape:
                raise InvalidArgumentError(f"{name} must have shape {shape}, but got {np.shape(column)}")

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: NDArray[np.intp]) -> FaceTable:
        """The faces at these places."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return FaceTable(paths=tuple(self.paths[row] for row in rows), **columns)

    def followed_by(self, other: FaceTable) -> FaceTable:
        """These faces and then those of another table; an empty one may have any dimension."""
        if not (len(self) and len(other)):
            return self if len(self) else other
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in COLUMNS}
        return FaceTable(paths=self.paths + other.paths, **columns)


COLUMNS = ("embeddings", "boxes", "scores", "qualities", "landmarks")


_Values = tuple[Any, float, float, Floats]


class FaceRows:
    """Faces on their way into a table, one by one.

    Attributes
    ----------
    paths : list of str
        The image of each face so far.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self._embeddings: list[Floats] = []
        self._values: list[_Values] = []

    def __len__(self) -> int:
        return len(self.paths)

    def add(self, path: str | os.PathLike[str], embedding: Floats, face: Face | None) -> None:
        """Append a face of the image at `path`; None where the image was embedded and no face was found."""
        self.paths.append(os.fspath(path))
        self._keep(embedding)
        landmarks = np.full((5, 2), np.nan, np.float32)
        if face is None:
            self._values.append(((np.nan,) * 4, np.nan, np.nan, landmarks))
            return
        if face.landmarks is not None:
            landmarks[: len(face.landmarks)] = face.landmarks
        self._values.append((face.box, face.score, np.nan if face.quality is None else face.quality, landmarks))

    def _keep(self, embedding: Floats) -> None:
        self._embeddings.append(embedding)

    def columns(self) -> dict[str, Floats]:
        """Everything but paths and embeddings, by the names of `FaceTable`."""
        columns = zip(*self._values, strict=True) if self._values else [()] * 4
        shapes = ((-1, 4), (-1,), (-1,), (-1, 5, 2))
        return {
            name: np.array(column, np.float32).reshape(shape)
            for name, column, shape in zip(COLUMNS[1:], columns, shapes, strict=True)
        }

    def table(self, dimension: int = 0) -> FaceTable:
        """Make the table; `dimension` is that of one without faces."""
        rows = np.array(self._embeddings, "<f4").reshape(len(self), -1 if len(self) else dimension)
        return FaceTable(paths=tuple(self.paths), embeddings=rows, **self.columns())


class EmbeddingsWriter(FaceRows):
    """Rows of an embeddings file that is being written; made by `write_embeddings`."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.dimension = 0

    def _keep(self, embedding: Floats) -> None:
        self.dimension = len(embedding)
        self._file.write(np.ascontiguousarray(embedding, dtype="<f4").tobytes())


@contextmanager
def write_embeddings(path: str | os.PathLike[str], made_by: Fingerprint) -> Iterator[EmbeddingsWriter]:
    """Open an embeddings file for writing; it appears when the block ends well, and not at all otherwise.

    Parameters
    ----------
    path : path
        Of the `.npz`. `numpy.load` reads it: `embeddings` (N, D) float32, `paths` (N,), `boxes` (N, 4), `scores` and
        `qualities` (N,), `landmarks` (N, 5, 2) float32, NaN where there are none; `model`, `key`, `detector`, and
        `recipe`, its fingerprint, as text.
    made_by : Fingerprint
        Embeddings of different keys cannot be compared.

    Yields
    ------
    EmbeddingsWriter

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    with open_whole(path) as stream, tempfile.TemporaryFile(dir=Path(path).absolute().parent) as rows:
        writer = EmbeddingsWriter(rows)
        yield writer
        texts = {**asdict(made_by), "recipe": made_by.key.rpartition("-")[2]}
        small = {"paths": np.array(writer.paths, np.str_), **writer.columns()}
        with zipfile.ZipFile(stream, "w") as archive:
            _write_rows(archive, rows, (len(writer), writer.dimension))
            for name, table in {**small, **{name: np.array(text) for name, text in texts.items()}}.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, table, allow_pickle=False)


def read_embeddings(path: str | os.PathLike[str]) -> tuple[FaceTable, Fingerprint]:
    """Read what `write_embeddings`, or an earlier SphereCV, wrote.

    Returns
    -------
    FaceTable
    Fingerprint
        Of a file that names no key, the key is a dash and the recipe's fingerprint, and the detector empty.

    Raises
    ------
    DatasetError
        The file is missing, damaged, or not of embeddings.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            check_members(held.files, {"paths", *COLUMNS, "model", "key", "detector", "recipe"})
            columns: dict[str, Any] = {name: np.asarray(held[name], np.float32) for name in COLUMNS if name in held}
            table = FaceTable(paths=tuple(held["paths"].tolist()), **columns)
            texts = {name: str(held[name]) for name in ("model", "key", "detector") if name in held}
            return table, Fingerprint(**{"key": f"-{held['recipe']}", **texts})
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except Exception as error:  # zipfile, NumPy and zlib raise whatever a broken file makes them
        reason = error if zipfile.is_zipfile(path) else "it is not an .npz"  # of which NumPy says to unpickle it
        raise DatasetError(f"{Path(path)} cannot be read as embeddings of `spherecv embed`: {reason}") from None


def check_members(held: Sequence[str], known: Collection[str]) -> None:
    """Refuse an archive with members that nobody wrote: a column under a damaged name would be taken for missing.

    What is in a member has a checksum in the archive, which is looked at when it is read.

    Raises
    ------
    ValueError
    """
    strange = sorted(set(held) - set(known))
    if strange or len(set(held)) < len(held):
        raise ValueError(f"it holds {strange[0]!r}, which no such file has" if strange else "a part is there twice")


def _write_rows(archive: zipfile.ZipFile, rows: IO[bytes], shape: tuple[int, int]) -> None:
    rows.seek(0)
    with archive.open("embeddings.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
        shutil.copyfileobj(rows, member, 1 << 20)
