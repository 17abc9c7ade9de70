"""Embeddings in memory: a matrix whose rows are added and removed without a second copy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spherecv.metrics import Metric
from spherecv.templates import grouped_means

Rows = NDArray[np.float32]

CHUNK_ROWS = 16_384
"""Rows of one piece: 32 MB at 512 columns. Growing and removing copy one piece at a time, so that a gallery of a
million faces never needs its two gigabytes twice."""


class Matrix:
    """Embeddings as a search wants them.

    Parameters
    ----------
    dimension : int
        Columns.
    metric : {"cosine", "euclidean"}
        For cosine the rows are scaled to length 1 as they come in (zero rows stay zero).
    """

    def __init__(self, dimension: int, metric: Metric) -> None:
        self.dimension = dimension
        self.metric = metric
        self._chunks: list[Rows] = []
        self._filled: list[int] = []

    def __len__(self) -> int:
        return sum(self._filled)

    def append(self, rows: Rows) -> None:
        """Take in rows of shape (N, D)."""
        while len(rows):
            if not self._chunks or self._filled[-1] == CHUNK_ROWS:
                self._chunks.append(np.empty((CHUNK_ROWS, self.dimension), np.float32))
                self._filled.append(0)
            start = self._filled[-1]
            part = rows[: CHUNK_ROWS - start]
            goal = self._chunks[-1][start : start + len(part)]
            goal[:] = part
            if self.metric == "cosine":
                _normalise(goal)
            self._filled[-1] += len(part)
            rows = rows[len(part) :]

    def keep(self, wanted: NDArray[np.bool_]) -> None:
        """Drop the rows that are not wanted, overwriting them, and keep the order of the rest."""
        start = 0
        for position, filled in enumerate(list(self._filled)):
            mask = wanted[start : start + filled]
            start += filled
            kept = int(np.count_nonzero(mask))
            if kept < filled:
                chunk = self._chunks[position]
                chunk[:kept] = chunk[:filled][mask]
                chunk[kept:filled] = 0
                self._filled[position] = kept
        self._drop_empty()

    def blocks(self, rows: int) -> Iterator[tuple[int, Rows]]:
        """Go through views of at most `rows` rows, each with the number of its first row."""
        start = 0
        for chunk, filled in zip(self._chunks, self._filled, strict=True):
            for low in range(0, filled, rows):
                high = min(low + rows, filled)
                yield start + low, chunk[low:high]
            start += filled

    def take(self, indices: NDArray[np.int64]) -> Rows:
        """Copy rows by their numbers, shape (M, D)."""
        ends = np.cumsum(self._filled)
        pieces = np.searchsorted(ends, indices, side="right")
        taken = np.empty((len(indices), self.dimension), np.float32)
        for row, (index, piece) in enumerate(zip(indices, pieces, strict=True)):
            taken[row] = self._chunks[piece][index - (ends[piece] - self._filled[piece])]
        return taken

    def means(self, owners: NDArray[np.int64], qualities: NDArray[np.float32]) -> tuple[Matrix, NDArray[np.int64]]:
        """The template of each of M owners, and whose they are, ascending; see `spherecv.templates.grouped_means`."""
        rows, people = grouped_means(self.blocks(CHUNK_ROWS), owners, qualities)
        means = Matrix(self.dimension, self.metric)
        means.append(rows)
        return means, people

    def _drop_empty(self) -> None:
        alive = [position for position, filled in enumerate(self._filled) if filled]
        self._chunks = [self._chunks[position] for position in alive]
        self._filled = [self._filled[position] for position in alive]


def _normalise(rows: Rows) -> None:
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    rows /= np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]
