"""Exact nearest neighbours: one matrix product, block by block, that keeps only the best."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spherecv.gallery.matrix import CHUNK_ROWS, Matrix, Rows
from spherecv.metrics import distance

_PROBES = 128
_BLOCK = 4096 * _PROBES
"""Similarities computed at once, 2 MB: they stay in the cache between the product and the look for the best, and one
probe takes few enough products that threads meeting at the end of each do not matter."""


def nearest(matrix: Matrix, probes: Rows, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the nearest rows of each probe.

    Parameters
    ----------
    matrix : Matrix
    probes : ndarray of float32, shape (P, D)
        As the recipe gives them.
    count : int
        How many for each.

    Returns
    -------
    rows : ndarray of int64, shape (P, K)
        K = min(count, rows of the matrix), the nearest first; of equally near rows the earlier one first.
    distances : ndarray of float64, shape (P, K)
        By the matrix's metric, computed again in float64 for these rows.
    """
    count = min(count, len(matrix))
    if not count or not len(probes):
        return np.empty((len(probes), count), np.int64), np.empty((len(probes), count))
    wanted = unit(probes) if matrix.metric == "cosine" else np.ascontiguousarray(probes, dtype=np.float32)
    found = [_search(matrix, wanted[start : start + _PROBES], count) for start in range(0, len(wanted), _PROBES)]
    rows = np.concatenate(found)
    return _ordered(matrix, probes, rows)


def within(matrix: Matrix, probes: Rows, limit: float) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Find every row within a distance of each probe.

    Parameters
    ----------
    matrix : Matrix
    probes : ndarray of float32, shape (P, D)
    limit : float
        Largest distance that counts.

    Yields
    ------
    int, ndarray of int64, ndarray of float64
        The number of a probe, rows near it, and their distances: several times for each probe, once a block.
    """
    wanted = unit(probes) if matrix.metric == "cosine" else np.ascontiguousarray(probes, dtype=np.float32)
    for low in range(0, len(wanted), _PROBES):
        part = wanted[low : low + _PROBES]
        # Score = cosine, or (|p|^2 - d^2) / 2 for the Euclidean distance d: larger is nearer in both.
        half = 0.0 if matrix.metric == "cosine" else np.einsum("ij,ij->i", part, part)[:, None] / 2
        floor = 1.0 - limit if matrix.metric == "cosine" else half - limit**2 / 2
        for start, scores in _scores(matrix, part):
            near = scores >= floor - 1e-5  # a little more than asked for: float64 decides below
            for probe in np.flatnonzero(near.any(axis=1)):
                rows = np.flatnonzero(near[probe]) + start
                distances = distance(probes[low + probe], matrix.take(rows), matrix.metric)
                sure = distances <= limit
                yield low + int(probe), rows[sure], distances[sure]


def unit(rows: NDArray[np.floating]) -> Rows:
    """Copy of rows scaled to length 1, float32; zero rows stay zero."""
    array = np.array(rows, dtype=np.float32, order="C")
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    array /= np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]
    return array


def _scores(matrix: Matrix, probes: Rows) -> Iterator[tuple[int, Rows]]:
    """Scores of all rows, block by block; larger is nearer. The array is used again for the next block."""
    step = max(1, min(CHUNK_ROWS, _BLOCK // len(probes)))
    buffer = np.empty((len(probes), step), np.float32)
    for start, rows in matrix.blocks(step):
        scores = buffer if len(rows) == step else np.empty((len(probes), len(rows)), np.float32)
        np.matmul(probes, rows.T, out=scores)
        if matrix.metric == "euclidean":
            scores -= np.einsum("ij,ij->i", rows, rows) / 2
        yield start, scores


def _search(matrix: Matrix, probes: Rows, count: int) -> NDArray[np.int64]:
    best = np.full((len(probes), count), -np.inf, np.float32)
    where = np.full((len(probes), count), -1, np.int64)
    floor = np.full(len(probes), -np.inf, np.float32)
    for start, scores in _scores(matrix, probes):
        for probe in np.flatnonzero(scores.max(axis=1) > floor):
            row = scores[probe]
            better = np.flatnonzero(row > floor[probe])
            if len(better) > count:
                better = better[_top(row[better], count)]
            values = np.concatenate([best[probe], row[better]])
            kept = _top(values, count)
            where[probe] = np.concatenate([where[probe], better + start])[kept]
            best[probe] = values[kept]
            floor[probe] = values[kept].min()
    return where


def _top(values: Rows, count: int) -> NDArray[np.intp]:
    """Positions of the largest values; a tie at the border goes to the earlier ones."""
    if len(values) <= count:
        return np.arange(len(values))
    border = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > border)
    ties = np.flatnonzero(values == border)[: count - len(above)]
    return np.concatenate([above, ties])


def _ordered(
    matrix: Matrix, probes: Rows, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return order_by_distance(rows, distances_to(matrix, probes, rows))


def distances_to(matrix: Matrix, probes: Rows, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distances in float64 of each probe to its rows, shape (P, K)."""
    answers = [distance(probe, matrix.take(found), matrix.metric) for probe, found in zip(probes, rows, strict=True)]
    return np.array(answers)


def order_by_distance(
    rows: NDArray[np.int64], distances: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sort each probe's rows by distance, equal ones by their numbers."""
    order = np.lexsort((rows, distances), axis=1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(distances, order, axis=1)

