"""Embeddings on disk: one `.npz` with no pickle in it, written row by row however many there are."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from numpy.typing import NDArray

from spherecv.files import atomic_path
from spherecv.records import EmbeddedFace


@dataclass
class EmbeddingsWriter:
    """Rows of an embeddings file that is being written; made by `write_embeddings`.

    Attributes
    ----------
    rows : int
        Faces written so far.
    """

    _rows: IO[bytes]
    _dimension: int | None = None
    _paths: list[str] = field(default_factory=list)
    _boxes: list[NDArray[np.float32]] = field(default_factory=list)
    _scores: list[float] = field(default_factory=list)
    _qualities: list[float] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Faces written so far."""
        return len(self._paths)

    def add(self, path: str | os.PathLike[str], embedded: EmbeddedFace) -> None:
        """Append one face of the image at `path`."""
        self._dimension = len(embedded.embedding)
        self._rows.write(np.ascontiguousarray(embedded.embedding, dtype="<f4").tobytes())
        self._paths.append(os.fspath(path))
        self._boxes.append(embedded.face.box)
        self._scores.append(embedded.face.score)
        self._qualities.append(np.nan if embedded.face.quality is None else embedded.face.quality)

    def _tables(self) -> dict[str, NDArray[np.generic]]:
        return {
            "paths": np.array(self._paths, dtype=np.str_),
            "boxes": np.array(self._boxes, dtype=np.float32).reshape(-1, 4),
            "scores": np.array(self._scores, dtype=np.float32),
            "qualities": np.array(self._qualities, dtype=np.float32),
        }


@contextmanager
def write_embeddings(path: str | os.PathLike[str], *, model: str, recipe: str) -> Iterator[EmbeddingsWriter]:
    """Open an embeddings file for writing; it appears when the block ends well, and not at all otherwise.

    Parameters
    ----------
    path : path
        Of the `.npz`. `numpy.load` reads it: `embeddings` (N, D) float32, `paths` (N,), `boxes` (N, 4), `scores` and
        `qualities` (N,) float32, `model` and `recipe` as text.
    model, recipe : str
        Name of the model and fingerprint of its recipe: embeddings of different ones cannot be compared.

    Yields
    ------
    EmbeddingsWriter

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    with atomic_path(path) as temporary, tempfile.TemporaryFile(dir=temporary.parent) as rows:
        writer = EmbeddingsWriter(rows)
        yield writer
        with zipfile.ZipFile(temporary, "w") as archive:
            _write_rows(archive, rows, (writer.rows, writer._dimension or 0))
            for name, table in {**writer._tables(), "model": np.array(model), "recipe": np.array(recipe)}.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, table, allow_pickle=False)


def _write_rows(archive: zipfile.ZipFile, rows: IO[bytes], shape: tuple[int, int]) -> None:
    rows.seek(0)
    with archive.open("embeddings.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
        shutil.copyfileobj(rows, member, 1 << 20)
