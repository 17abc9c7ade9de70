"""Distances between embeddings: row by row, and all against all."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.checks import METRICS, Metric, check_metric
from spherecv.errors import InvalidArgumentError

__all__ = ["METRICS", "Metric", "at_unit_length", "check_metric", "distance", "pairwise_distance", "similarity"]

Real = TypeVar("Real", np.float32, np.float64)


def distance(a: ArrayLike, b: ArrayLike, metric: Metric = "cosine") -> NDArray[np.float64]:
    """Distance between the embeddings of two equally long lists, row by row.

    Parameters
    ----------
    a, b : array_like of float, shape (N, D) or (D,)
        Embeddings, as the recipe gives them (the Euclidean distance depends on their length). One row is compared
        with all of the other side.
    metric : {"cosine", "euclidean"}
        Cosine distance is 1 - cosine similarity, 0..2. A zero vector has similarity 0 with everything.

    Returns
    -------
    ndarray of float64, shape (N,)

    Raises
    ------
    InvalidArgumentError
        The shapes do not fit, or the metric is unknown.

    Examples
    --------
    >>> distance([[1, 0], [3, 0]], [[1, 0], [0, 4]]).tolist()
    [0.0, 1.0]
    >>> distance([[1, 0], [3, 0]], [[1, 0], [0, 4]], "euclidean").tolist()
    [0.0, 5.0]
    """
    x, y = _rows("a", a), _rows("b", b)
    if x.shape[1] != y.shape[1] or (len(x) != len(y) and 1 not in (len(x), len(y))):
        raise InvalidArgumentError(f"embeddings must have equal shapes, but got {x.shape} and {y.shape}")
    check_metric(metric)
    if metric == "euclidean":
        return np.asarray(np.sqrt(np.square(x - y).sum(axis=1)))
    return np.asarray(1.0 - np.clip((at_unit_length(x) * at_unit_length(y)).sum(axis=1), -1.0, 1.0))


def pairwise_distance(a: ArrayLike, b: ArrayLike, metric: Metric = "cosine") -> NDArray[np.float64]:
    """Distance of every embedding in `a` to every one in `b`.

    Parameters
    ----------
    a : array_like of float, shape (N, D)
    b : array_like of float, shape (M, D)
    metric : {"cosine", "euclidean"}

    Returns
    -------
    ndarray of float64, shape (N, M)
        The full matrix: for large sides, call it block by block.

    Raises
    ------
    InvalidArgumentError
        The shapes do not fit, or the metric is unknown.
    """
    x, y = _rows("a", a), _rows("b", b)
    if x.shape[1] != y.shape[1]:
        raise InvalidArgumentError(f"embeddings must have equally many columns, but got {x.shape} and {y.shape}")
    check_metric(metric)
    if metric == "cosine":
        return np.asarray(1.0 - np.clip(at_unit_length(x) @ at_unit_length(y).T, -1.0, 1.0))
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(x, y))


def similarity(distances: ArrayLike, metric: Metric = "cosine") -> NDArray[np.float64]:
    """Turn distances into similarities that grow with likeness.

    Parameters
    ----------
    distances : array_like of float
    metric : {"cosine", "euclidean"}

    Returns
    -------
    ndarray of float64
        The cosine similarity, -1..1, or 1 / (1 + Euclidean distance), 0..1.
    """
    values = _numbers("distances", distances)
    return 1.0 - values if check_metric(metric) == "cosine" else 1.0 / (1.0 + values)


def at_unit_length(rows: NDArray[Real]) -> NDArray[Real]:
    """Scale rows, the last axis of an array, to length 1 in its own precision; rows of zeros stay as they are."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))


def _rows(name: str, value: Any) -> NDArray[np.float64]:
    array = np.atleast_2d(_numbers(name, value))
    if array.ndim != 2:
        raise InvalidArgumentError(f"{name} must have shape (N, D) or (D,), but got {array.shape}")
    return array


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgumentError(
            f"{name} must hold numbers, in rows of equal length, but got a value of type {type(value).__name__}"
        ) from None
