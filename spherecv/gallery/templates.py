"""One embedding for a person of several images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spherecv.gallery.matrix import Matrix
from spherecv.gallery.rows import Table, Vector
from spherecv.metrics import Metric

_BLOCK_ROWS = 16_384


def means(
    matrix: Matrix, owners: NDArray[np.int64], qualities: NDArray[np.float32]
) -> tuple[Matrix, NDArray[np.int64]]:
    """Average the rows of each owner, each weighted by its quality.

    Parameters
    ----------
    matrix : Matrix
        N rows; for cosine of length 1, so that every image counts by its quality alone.
    owners : ndarray of int64, shape (N,)
    qualities : ndarray of float32, shape (N,)
        0..1, NaN where unknown: such a face counts as the average of those known.

    Returns
    -------
    Matrix
        A row for each of M owners.
    ndarray of int64, shape (M,)
        Whose they are, ascending.
    """
    from scipy.sparse import csr_matrix

    people, place = np.unique(owners, return_inverse=True)
    weights = _weights(qualities)
    sums = np.zeros((len(people), matrix.dimension), np.float64)
    for start, rows in matrix.blocks(_BLOCK_ROWS):
        part = slice(start, start + len(rows))
        picked, local = np.unique(place[part], return_inverse=True)
        picker = csr_matrix((weights[part], (local, np.arange(len(rows)))), shape=(len(picked), len(rows)))
        sums[picked] += picker @ rows
    total = np.bincount(place, weights, minlength=len(people))
    averages = Matrix(matrix.dimension, matrix.metric)
    if len(people):
        averages.append((sums / total[:, None]).astype(np.float32))
    return averages, people


def mean_of(table: Table, metric: Metric) -> Vector:
    """Average all rows of a table, as `means` does, into one of shape (1, D)."""
    matrix = Matrix(table.vectors.shape[1], metric)
    matrix.append(table.vectors)
    averages, _ = means(matrix, np.zeros(len(table.ids), np.int64), table.qualities)
    return averages.take(np.zeros(1, np.int64))


def _weights(qualities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Qualities as weights above 0: a face of quality 0 that is a person's only one must still count."""
    values = qualities.astype(np.float64)
    known = values[np.isfinite(values)]
    values[~np.isfinite(values)] = known.mean() if len(known) else 1.0
    return np.maximum(values, 1e-3)
