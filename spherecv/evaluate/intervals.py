"""Intervals of all figures of a set, by the bootstrap over people: pairs that share one are not independent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.checks import check_rate
from spherecv.errors import InvalidArgumentError
from spherecv.evaluate.curves import FloatArray, checked_pairs, tie_ends

Interval = tuple[float, float]

_CHUNK_VALUES = 100_000
"""Weights held at once: 0.8 MB an array, which stays in the cache; larger ones are paged in again each time."""


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of the figures of one set of pairs.

    Attributes
    ----------
    accuracy, eer, auc : (float, float) or None
        Percentile intervals, 0..1. Accuracy: at the threshold given; None without one. Where every replicate gave 0 or
        1, nothing was seen of the other side, and the open end is the rule of three: 3 over the number of people in
        such pairs (for AUC, in pairs of the kind that has fewer).
    tar : dict of float to (float, float)
        By false accept rate.
    level : float
        The share of replicates inside, 0.95 by default.
    replicates, used : int
        Drawn, and those of them in which both kinds of pairs occurred.
    identities : int
        How many were resampled.
    """

    accuracy: Interval | None
    eer: Interval
    auc: Interval
    tar: dict[float, Interval]
    level: float
    replicates: int
    used: int
    identities: int

    __repr__ = brief


def bootstrap(
    distances: ArrayLike,
    same: ArrayLike,
    identities: ArrayLike,
    *,
    threshold: float | ArrayLike | None = None,
    rates: Sequence[float] = (),
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Estimate how far the figures of these pairs would move with other people.

    People are drawn with replacement, as many as there are. A pair of two people weighs the product of their draw
    counts; a genuine pair, which has one person, weighs that person's count (Fogliato et al. 2024, on matching tasks).

    Parameters
    ----------
    distances : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)
    identities : array_like, shape (N, 2)
        Who is in each pair, by number or name.
    threshold : float or array_like of float, shape (N,), optional
        The largest distance accepted, one for all pairs or one each (folds), for the interval of the accuracy.
    rates : sequence of float
        False accept rates to give the TAR at.
    replicates : int
    level : float
        0..1.
    seed : int
        The same seed gives the same intervals.

    Returns
    -------
    Bootstrap

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit.
    """
    values, labels, numbers = _numbered(distances, same, identities)
    table = replicate_figures(
        values, labels, numbers, threshold=threshold, rates=rates, replicates=replicates, seed=seed
    )
    table = table[~np.isnan(table[:, 1])]
    low, high = percentiles(table, level)
    rows = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    matched = len(np.unique(numbers[labels])) if labels.any() else 1
    return Bootstrap(
        accuracy=None if threshold is None else opened(rows[0], int(numbers.max()) + 1),
        eer=opened(rows[1], matched),
        auc=opened(rows[2], min(matched, len(np.unique(numbers[~labels])) or 1)),
        tar={far: opened(row, matched) for far, row in zip(rates, rows[3:], strict=True)},
        level=level,
        replicates=replicates,
        used=len(table),
        identities=int(numbers.max()) + 1,
    )


def replicate_figures(
    distances: ArrayLike,
    same: ArrayLike,
    identities: ArrayLike,
    *,
    threshold: float | ArrayLike | None = None,
    rates: Sequence[float] = (),
    replicates: int = 1000,
    seed: int = 0,
) -> FloatArray:
    """Compute the figures of every replicate of `bootstrap`.

    Parameters
    ----------
    distances, same, identities, threshold, rates, replicates, seed
        As for `bootstrap`. The people drawn depend on `seed` and the numbers of people and pairs alone, so that two
        models on the same pairs see the same replicates.

    Returns
    -------
    ndarray of float64, shape (replicates, 3 + rates)
        Accuracy (NaN without a threshold), EER, AUC and the TARs; NaN where a class was not drawn.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit.
    """
    values, labels, numbers = _numbered(distances, same, identities)
    order = np.argsort(values, kind="stable")
    values, labels, numbers = values[order], labels[order], numbers[order]
    right = None if threshold is None else (_ordered(threshold, order) >= values) == labels
    corners = _corners(values, labels)
    figures = [
        _figures(genuine, impostor, corners, right, rates)
        for genuine, impostor in _weights(labels, numbers, replicates, seed)
    ]
    return np.concatenate(figures) if figures else np.empty((0, 3 + len(rates)))


def _numbered(
    distances: ArrayLike, same: ArrayLike, identities: ArrayLike
) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.intp]]:
    values, labels = checked_pairs(distances, same)
    people = np.asarray(identities)
    if people.shape != (len(values), 2):
        raise InvalidArgumentError(f"identities must have shape ({len(values)}, 2), but got {people.shape}")
    return values, labels, np.unique(people, return_inverse=True)[1].reshape(people.shape)


def opened(interval: Interval, count: float) -> Interval:
    """Rule of three at either end of the scale: nothing seen among n people, or pairs, leaves up to 3 / n."""
    reach = min(1.0, 3.0 / count)
    if interval == (0.0, 0.0):
        return 0.0, reach
    return (1.0 - reach, 1.0) if interval == (1.0, 1.0) else interval


def _ordered(threshold: float | ArrayLike, order: NDArray[np.intp]) -> FloatArray:
    return np.broadcast_to(np.asarray(threshold, dtype=np.float64), (len(order),))[order]


def draws(people: int, columns: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Draw counts of every identity, shape (R, people), in chunks small enough for `columns` weights a row."""
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // max(people, columns, 1))
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        drawn = generator.integers(people, size=(count, people)) + np.arange(count)[:, None] * people
        yield np.bincount(drawn.ravel(), minlength=count * people).reshape(count, people).astype(np.float64)


def _weights(
    labels: NDArray[np.bool_], numbers: NDArray[np.intp], replicates: int, seed: int
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Weights of the pairs in each replicate, shape (R, N): of the genuine ones, and of the impostor ones."""
    for counts in draws(int(numbers.max()) + 1, len(labels), replicates, seed):
        first = counts[:, numbers[:, 0]]
        yield first * labels, first * counts[:, numbers[:, 1]] * ~labels


def _figures(
    genuine: FloatArray,
    impostor: FloatArray,
    corners: NDArray[np.intp],
    right: NDArray[np.bool_] | None,
    rates: Sequence[float],
) -> FloatArray:
    """Accuracy, EER, AUC and the TARs of each replicate, shape (R, 3 + rates); NaN where a class was not drawn."""
    totals = genuine.sum(axis=1), impostor.sum(axis=1)
    usable = (totals[0] > 0) & (totals[1] > 0)
    table = np.full((len(genuine), 3 + len(rates)), np.nan)
    genuine, impostor = genuine[usable], impostor[usable]
    if right is not None:
        both = genuine + impostor
        table[usable, 0] = (both @ right) / both.sum(axis=1)
    tar, far = _curve(genuine, corners), _curve(impostor, corners)
    table[usable, 1] = _equal_errors(tar, far)
    table[usable, 2] = ((tar[:, 1:] + tar[:, :-1]) * np.diff(far, axis=1)).sum(axis=1) / 2
    rows = np.arange(len(tar))
    for column, rate in enumerate(rates, start=3):
        table[usable, column] = tar[rows, (far <= rate * (1 + 1e-9)).sum(axis=1) - 1]
    return table


def _corners(values: FloatArray, labels: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where stretches of the sorted pairs begin that are one straight line of the ROC curve, however they weigh.

    Those are pairs of one kind in a row, and pairs of equal distance. What is read off a curve lies on its lines or at
    their ends, so the points between need not be computed; of well separated pairs nearly all are such.
    """
    ends = tie_ends(values)
    starts = np.concatenate([[0], ends[:-1] + 1])
    share = np.add.reduceat(labels.astype(np.float64), starts) / (ends - starts + 1)
    bends = (share[1:] != share[:-1]) | ((share[1:] > 0) & (share[1:] < 1))
    return np.asarray(starts[np.concatenate([[True], bends])], dtype=np.intp)


def _curve(weights: FloatArray, corners: NDArray[np.intp]) -> FloatArray:
    sums = np.cumsum(np.add.reduceat(weights, corners, axis=1), axis=1)
    return np.concatenate([np.zeros((len(sums), 1)), sums / sums[:, -1:]], axis=1)


def _equal_errors(tar: FloatArray, far: FloatArray) -> FloatArray:
    gap = far - (1.0 - tar)
    after = np.argmax(gap >= 0, axis=1)
    rows = np.arange(len(gap))
    step = gap[rows, after] - gap[rows, after - 1]
    share = -gap[rows, after - 1] / step
    return np.asarray(far[rows, after - 1] + share * (far[rows, after] - far[rows, after - 1]))


def percentiles(table: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """The two ends of an interval of each column of replicates; NaN without any."""
    check_rate("level", level)
    if not len(table):
        nothing = np.full(table.shape[1], np.nan)
        return nothing, nothing
    tail = 50.0 * (1.0 - level)
    return np.percentile(table, tail, axis=0), np.percentile(table, 100.0 - tail, axis=0)
