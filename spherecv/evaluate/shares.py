"""Intervals of one share, such as a false accept rate, by the bootstrap over identities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.evaluate.curves import FloatArray
from spherecv.evaluate.intervals import Interval, draws, opened, percentiles


def rate_interval(
    people: ArrayLike,
    images: ArrayLike,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a false accept rate over all pairs of different people, from the accepted ones alone.

    Parameters
    ----------
    people : array_like of int, shape (A, 2)
        The two identities, 0..P-1, of each impostor pair that was accepted.
    images : array_like of int, shape (P,)
        How many images each identity has; all pairs across identities were compared.
    replicates, level, seed
        As for `bootstrap`.

    Returns
    -------
    tuple of two floats
        0..1. With no accepted pair the upper end is the rule of three: 3 over the number of pairs.
    """
    accepted = np.asarray(people, dtype=np.intp).reshape(-1, 2)
    sizes = np.asarray(images, dtype=np.float64)
    total = float(sizes.sum() ** 2 - np.square(sizes).sum()) / 2
    if not len(accepted):
        return opened((0.0, 0.0), total) if total else (0.0, float("nan"))
    shares = []
    for counts, false in _false_accepts(accepted, len(sizes), replicates, seed):
        weighed = counts * sizes
        shares.append(_shares(false, (weighed.sum(axis=1) ** 2 - np.square(weighed).sum(axis=1)) / 2))
    return _interval_of(shares, level)


def group_interval(
    accepted: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    same: bool,
    replicates: int = 300,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of the false match rate between two groups, or within one, people resampled.

    Parameters
    ----------
    accepted : array_like of int, shape (A, 2)
        The two people of each impostor pair that was accepted.
    first, second : array_like of int, shape (N,) and (M,)
        The person of every image of the two groups.
    same : bool
        Whether they are one group.
    replicates, level, seed
        As for `bootstrap`.

    Returns
    -------
    tuple of two floats
        0..1; NaN without pairs. With none accepted, the upper end is the rule of three.
    """
    taken = np.asarray(accepted, dtype=np.intp).reshape(-1, 2)
    sides = np.asarray(first, dtype=np.intp), np.asarray(second, dtype=np.intp)
    size = int(max(side.max(initial=-1) for side in sides)) + 1
    one, two = (np.bincount(side, minlength=size).astype(np.float64) for side in sides)
    half = 0.5 if same else 1.0
    total = half * float(one.sum() * two.sum() - (one * two).sum())
    if total <= 0:
        return float("nan"), float("nan")
    if not len(taken):
        return opened((0.0, 0.0), total)
    shares = []
    for counts, false in _false_accepts(taken, size, replicates, seed):
        shares.append(_shares(false, half * ((counts @ one) * (counts @ two) - np.square(counts) @ (one * two))))
    return _interval_of(shares, level)


def share_interval(
    accepted: ArrayLike,
    identities: ArrayLike,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a share of pairs of one kind, identities resampled.

    Parameters
    ----------
    accepted : array_like of bool, shape (N,)
    identities : array_like, shape (N, 2)
        Twice the same in a genuine pair.
    replicates, level, seed
        As for `bootstrap`.

    Returns
    -------
    tuple of two floats
        0..1. Where no pair, or every pair, was accepted, the open end is the rule of three: 3 over the number of
        identities.
    """
    taken, people = np.asarray(accepted, dtype=np.float64), np.asarray(identities)
    numbers = np.unique(people, return_inverse=True)[1].reshape(people.shape)
    count = int(numbers.max()) + 1
    if taken.min() == taken.max():
        return opened((taken[0], taken[0]), count)
    one = numbers[:, 0] == numbers[:, 1]
    shares = []
    for counts in draws(count, len(taken), replicates, seed):
        weights = counts[:, numbers[:, 0]] * np.where(one, 1.0, counts[:, numbers[:, 1]])
        shares.append(_shares(weights @ taken, weights.sum(axis=1)))
    return _interval_of(shares, level)


def _false_accepts(
    people: NDArray[np.intp], size: int, replicates: int, seed: int
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Draw counts of `size` people, shape (R, size), and the accepted impostor pairs among those drawn, shape (R,)."""
    from scipy.sparse import coo_array

    table = coo_array((np.ones(len(people)), (people[:, 0], people[:, 1])), shape=(size, size)).tocsr()
    for counts in draws(size, size, replicates, seed):
        yield counts, np.einsum("ij,ji->i", counts, table @ counts.T)


def _shares(parts: FloatArray, totals: FloatArray) -> FloatArray:
    """Share of each replicate; NaN where it drew no pair."""
    return np.asarray(np.divide(parts, totals, out=np.full(len(totals), np.nan), where=totals > 0))


def _interval_of(shares: Sequence[FloatArray], level: float) -> Interval:
    drawn = np.concatenate(shares)
    low, high = percentiles(drawn[~np.isnan(drawn)][:, None], level)
    return float(low[0]), float(high[0])
