"""Templates: one embedding for many faces of one person, each face weighted by its quality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.checks import check_count
from spherecv.errors import InvalidArgumentError
from spherecv.metrics import Metric, at_unit_length, check_metric, pairwise_distance

BEST = 16
"""Faces that a template keeps; more make it no better (`benchmarks/video.py templates`)."""
_LEAST_WEIGHT = 1e-3
_UNKNOWN_QUALITY = 0.5


class SetWarning(UserWarning):
    """A set of images, said to be of one person, some of whose faces are unlike the others."""


class Kept(NamedTuple):
    """A face that a template stands on."""

    embedding: NDArray[np.float32]
    quality: float
    frame: int


def weights_of(qualities: Sequence[float | None] | NDArray[np.floating]) -> NDArray[np.float64]:
    """How much each face counts in a template: the one rule, whatever a template is made for.

    Parameters
    ----------
    qualities : sequence of float or None, or ndarray of float, shape (N,)
        0..1. None and NaN, unknown, count as 0.5; 0 as very little, so that a poor face that is the only one counts.

    Returns
    -------
    ndarray of float64, shape (N,)
        0.001..1.
    """
    values = np.array(qualities, dtype=np.float64)  # None becomes NaN
    return np.maximum(np.where(np.isnan(values), _UNKNOWN_QUALITY, values), _LEAST_WEIGHT)


def grouped_means(
    blocks: Iterable[tuple[int, NDArray[np.float32]]], owners: NDArray[np.int64], qualities: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Average the rows of each of many people, by `weights_of`, without a copy of them all.

    Parameters
    ----------
    blocks : iterable of (int, ndarray of float32, shape (B, D))
        All N rows in pieces, each with the number of its first row; for cosine of length 1, so that every face counts
        by its quality alone.
    owners : ndarray of int64, shape (N,)
    qualities : ndarray of float32, shape (N,)

    Returns
    -------
    ndarray of float32, shape (M, D)
        A row for each owner, not scaled; of shape (0, 0) without any.
    ndarray of int64, shape (M,)
        Whose they are, ascending.
    """
    from scipy.sparse import csr_matrix

    people, place = np.unique(owners, return_inverse=True)
    weights = weights_of(qualities)
    sums = np.zeros((0, 0))
    for start, rows in blocks:
        if not sums.size:
            sums = np.zeros((len(people), rows.shape[1]))
        part = slice(start, start + len(rows))
        picked, local = np.unique(place[part], return_inverse=True)
        picker = csr_matrix((weights[part], (local, np.arange(len(rows)))), shape=(len(picked), len(rows)))
        sums[picked] += picker @ rows
    return (sums / np.bincount(place, weights, minlength=len(people))[:, None]).astype(np.float32), people


def pooled(
    embeddings: ArrayLike, qualities: Sequence[float | None] | NDArray[np.floating], *, metric: Metric = "cosine"
) -> NDArray[np.float32]:
    """Average embeddings, each weighted by the quality of its face.

    Parameters
    ----------
    embeddings : array_like of float, shape (N, D)
        At least one.
    qualities : sequence of float or None, or ndarray of float
        N of them; see `weights_of`.
    metric : {"cosine", "euclidean"}
        For cosine every embedding is scaled to length 1 first, and the average too.

    Returns
    -------
    ndarray of float32, shape (D,)

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, no embedding, or an unknown metric.
    """
    check_metric(metric)
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or len(rows) != len(qualities):
        raise InvalidArgumentError(
            f"embeddings must have shape (N, D) with N >= 1 and a quality each, but got {rows.shape} and "
            f"{len(qualities)} qualities"
        )
    weights = weights_of(qualities)
    if metric == "euclidean":
        return np.average(rows, axis=0, weights=weights).astype(np.float32)
    return at_unit_length(np.average(at_unit_length(rows), axis=0, weights=weights)).astype(np.float32)


def unlike_the_rest(embeddings: ArrayLike, threshold: float, *, metric: Metric = "cosine") -> NDArray[np.intp]:
    """Find the faces of a set that hardly belong to the person that the others show.

    Parameters
    ----------
    embeddings : array_like of float, shape (N, D)
        Said to be of one person.
    threshold : float
        The largest distance that counts as the same person.
    metric : {"cosine", "euclidean"}

    Returns
    -------
    ndarray of int, ascending
        Rows that are farther than `threshold` from more than half of the others: of two both, of several people all.

    Examples
    --------
    >>> unlike_the_rest([[1, 0], [1, 0.1], [0.9, 0], [0, 1]], 0.5)
    array([3])
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if len(rows) < 2:
        return np.empty(0, np.intp)
    away = np.sort(pairwise_distance(rows, rows, metric) + np.diag(np.full(len(rows), np.inf)), axis=1)
    return np.flatnonzero(away[:, (len(rows) - 2) // 2] > threshold)


def unlike_text(label: str, names: Sequence[str], count: int) -> str:
    """Say that the faces of some images are unlike the others of a set of `count`."""
    shown = ", ".join(Path(name).name for name in names[:3]) + ", ..." * (len(names) > 3)
    if len(names) == count == 2:
        return f"{label}: its two faces are unlike each other ({shown}): is this one person?"
    verb = "is" if len(names) == 1 else "are"
    return f"{label}: {len(names)} of the {count} faces {verb} unlike the others ({shown}): is this one person?"


class SetTemplate:
    """The best faces of one person, and their average.

    Parameters
    ----------
    best : int
        Faces to keep: those of the highest quality; the rest is forgotten.
    metric : {"cosine", "euclidean"}
        That the average will be compared by; see `pooled`.

    Attributes
    ----------
    seen : int
        Faces that were offered, those forgotten included.

    Examples
    --------
    >>> template = SetTemplate(best=2)
    >>> [template.add(row, quality, frame) for frame, (row, quality) in enumerate([([1, 0], 0.2), ([0, 1], 0.6)])]
    [True, True]
    >>> template.add([0, 1], 0.1, 2), template.seen, len(template)
    (False, 3, 2)
    """

    def __init__(self, *, best: int = BEST, metric: Metric = "cosine") -> None:
        self._best = check_count("best", best)
        self._metric = check_metric(metric)
        self._kept: list[Kept] = []
        self._average: NDArray[np.float32] | None = None
        self.seen = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, embedding: ArrayLike, quality: float | None, frame: int = 0) -> bool:
        """Offer a face; returns whether it is among the best so far, and kept.

        Parameters
        ----------
        embedding : array_like of float, shape (D,)
        quality : float or None
            0..1.
        frame : int
            Where it was seen, for `frames`.
        """
        self.seen += 1
        offered = Kept(np.array(embedding, np.float32), _UNKNOWN_QUALITY if quality is None else float(quality), frame)
        if len(self._kept) == self._best:
            worst = min(range(self._best), key=lambda place: self._kept[place].quality)
            if offered.quality <= self._kept[worst].quality:
                return False
            del self._kept[worst]
        self._kept.append(offered)
        self._average = None
        return True

    @property
    def vector(self) -> NDArray[np.float32]:
        """The average, of shape (D,), read-only; raises `InvalidArgumentError` while there is no face."""
        if self._average is None:
            rows = [kept.embedding for kept in self._kept]
            self._average = pooled(rows or np.empty((0, 0)), [kept.quality for kept in self._kept], metric=self._metric)
            self._average.flags.writeable = False
        return self._average

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The faces that the average stands on, as they came."""
        return tuple(self._kept)

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames of the faces kept, the best face's first."""
        return tuple(kept.frame for kept in sorted(self._kept, key=lambda kept: -kept.quality))
