"""Every image against every other, as Trillion Pairs does: in blocks, whatever the number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.checks import check_rate
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.blocks import Highest, Rows, candidates, similarity_blocks, unit_rows
from spherecv.evaluate.curves import FAR_TARGETS, MIN_FALSE_ACCEPTS, FloatArray, allowed_false_accepts
from spherecv.evaluate.intervals import Interval
from spherecv.evaluate.shares import rate_interval

_KEPT = 10_000_000
"""Impostor similarities kept at most, 120 MB with their places; rates that need more are left out."""
_PROBES = 2048
_SAMPLE = 1_000_000


@dataclass(frozen=True)
class MeasuredRate:
    """One false accept rate over all pairs of different people.

    Attributes
    ----------
    far : float
        Asked for, 0..1.
    threshold : float
        The largest cosine distance accepted.
    false_accepts : int
        Counted at the threshold.
    measured : float
        False accepts over impostor pairs; at most `far`.
    interval : (float, float)
        Of `measured`, 95 %, identities resampled.
    tar : float
        Share of the genuine pairs accepted, 0..1; NaN where there are none.
    """

    far: float
    threshold: float
    false_accepts: int
    measured: float
    interval: Interval
    tar: float

    def to_dict(self) -> dict[str, Any]:
        """The rate as plain Python values, ready for JSON."""
        return {
            "far": self.far,
            "threshold": self.threshold,
            "false_accepts": self.false_accepts,
            "measured_far": self.measured,
            "interval": list(self.interval),
            "tar": None if np.isnan(self.tar) else self.tar,
        }


@dataclass(frozen=True, eq=False)
class AllPairs:
    """What all pairs of a labelled set of embeddings say.

    Attributes
    ----------
    genuine : ndarray of float64, shape (G,)
        Cosine distance of every pair of images of one person.
    genuine_people : ndarray of int, shape (G,)
        Whose they are: positions in the sorted unique labels.
    impostors : int
        Pairs of different people compared.
    nearest : ndarray of float64, shape (K,)
        The smallest impostor distances, ascending.
    nearest_people, nearest_rows : ndarray of int, shape (K, 2)
        Identities, and rows of the embeddings, of each.
    sample : ndarray of float64, shape (S,)
        Impostor distances drawn evenly at random, for curves; all of them where they are few.
    sample_people : ndarray of int, shape (S, 2)
        Identities of each.
    rates : tuple of MeasuredRate
        The supported ones of those asked for.
    unsupported : tuple of float
        Rates left out: too few impostor pairs, or more false accepts than are kept.
    """

    genuine: FloatArray
    genuine_people: NDArray[np.intp]
    impostors: int
    nearest: FloatArray
    nearest_people: NDArray[np.intp]
    nearest_rows: NDArray[np.intp]
    sample: FloatArray
    sample_people: NDArray[np.intp]
    rates: tuple[MeasuredRate, ...]
    unsupported: tuple[float, ...]

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            "genuine_pairs": len(self.genuine),
            "impostor_pairs": self.impostors,
            "rates": [rate.to_dict() for rate in self.rates],
            "far_without_support": [f"{far:g}" for far in self.unsupported],
        }


def compare_all(
    embeddings: ArrayLike,
    identities: ArrayLike,
    *,
    rates: Sequence[float] = FAR_TARGETS,
    min_false_accepts: int = MIN_FALSE_ACCEPTS,
    sample: int = _SAMPLE,
    replicates: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> AllPairs:
    """Compare every embedding with every other by cosine, and measure the false accept rates.

    Parameters
    ----------
    embeddings : array_like of float, shape (N, D)
    identities : array_like, shape (N,)
        Who is on each image.
    rates : sequence of float
        False accept rates to find thresholds for.
    min_false_accepts : int
        False accepts that a rate must rest on.
    sample : int
        Impostor distances to draw for curves, about.
    replicates, seed : int
        Of the bootstrap over identities, and of the sample.
    progress : callable, optional
        Called with the number of rows done.

    Returns
    -------
    AllPairs

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, values that are not finite, rates outside 0..1.
    NotEnoughDataError
        Fewer than two identities.
    """
    rows = unit_rows(np.asarray(embeddings))
    labels = np.asarray(identities)
    if labels.shape != (len(rows),):
        raise InvalidArgumentError(f"identities must have shape ({len(rows)},), but got {labels.shape}")
    images, numbers = _sizes(labels)
    if len(images) < 2:
        raise NotEnoughDataError(f"there must be at least two identities, but got {len(images)}")
    impostors = int((int(images.sum()) ** 2 - int(np.square(images).sum())) // 2)
    for far in rates:
        check_rate("rates", far)
    allowed = {far: allowed_false_accepts(far, impostors) for far in rates}
    usable = {far: count for far, count in allowed.items() if min_false_accepts <= count <= _KEPT}
    highest = Highest(min(impostors, max(usable.values(), default=0) + 1))
    sampler = _Sampler(min(1.0, sample / impostors), numbers, seed)
    for start in range(0, len(rows), _PROBES):
        probes = slice(start, min(start + _PROBES, len(rows)))
        _compare_rows(rows, numbers, probes, highest, sampler)
        if progress is not None:
            progress(probes.stop)
    similarities, first, second = highest.result()
    sampled, sampled_people = sampler.result()
    genuine, owners = _genuine(rows, numbers)
    people = np.stack([numbers[first], numbers[second]], axis=1)
    nearest = 1.0 - similarities.astype(np.float64)
    measured = [
        _measure(far, count, nearest, people, images, genuine, impostors, replicates, seed)
        for far, count in usable.items()
    ]
    return AllPairs(
        genuine=genuine,
        genuine_people=owners,
        impostors=impostors,
        nearest=nearest,
        nearest_people=people,
        nearest_rows=np.stack([first, second], axis=1).astype(np.intp),
        sample=sampled,
        sample_people=sampled_people,
        rates=tuple(measured),
        unsupported=tuple(far for far in rates if far not in usable),
    )


def largest_below(ordered: FloatArray, allowed: int) -> float:
    """Largest distance that accepts at most `allowed` of some ascending impostor distances.

    Half way between the last that may be accepted and the first that may not, so that ties fall on the safe side.
    """
    if allowed >= len(ordered):
        return float(ordered[-1])
    above = float(ordered[allowed])
    below = int(np.searchsorted(ordered, above, side="left"))
    if below == 0:
        return float(above / 2) if above > 0 else float(np.nextafter(above, -np.inf))
    middle = float(ordered[below - 1]) + (above - float(ordered[below - 1])) / 2
    return middle if middle < above else float(ordered[below - 1])


class _Sampler:
    """Draws impostor similarities evenly, each with the identities of its pair."""

    def __init__(self, share: float, numbers: NDArray[np.intp], seed: int) -> None:
        self._share = share
        self._numbers = numbers
        self._generator = np.random.default_rng(seed)
        self._parts: list[tuple[Rows, NDArray[np.intp]]] = []

    def add(self, block: Rows, skip: NDArray[np.bool_], row: int, column: int) -> None:
        chosen = np.flatnonzero(~skip)
        if self._share < 1.0:
            count = int(self._generator.binomial(len(chosen), self._share))
            chosen = chosen[self._generator.integers(len(chosen), size=count)] if count else chosen[:0]
        first, second = np.divmod(chosen, block.shape[1])
        people = np.stack([self._numbers[first + row], self._numbers[second + column]], axis=1)
        self._parts.append((block.reshape(-1)[chosen], people))

    def result(self) -> tuple[FloatArray, NDArray[np.intp]]:
        values, people = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return np.asarray(1.0 - values.astype(np.float64)), np.asarray(people, dtype=np.intp)


def _sizes(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    _, numbers, images = np.unique(labels, return_inverse=True, return_counts=True)
    return images.astype(np.int64), numbers


def _compare_rows(
    rows: Rows, numbers: NDArray[np.intp], probes: slice, highest: Highest, sampler: _Sampler
) -> None:
    """Compare some rows with all that come after them."""
    later = rows[probes.start :]

    def bounds() -> Rows:
        return np.full(probes.stop - probes.start, highest.floor)

    for where, block in similarity_blocks(rows[probes], later, normalized=True):
        columns = np.arange(where.start, where.stop) + probes.start
        mine = np.arange(probes.start, probes.stop)[:, None]
        skip = (numbers[probes][:, None] == numbers[columns]) | (columns <= mine)
        sampler.add(block, skip, probes.start, probes.start + where.start)
        block[skip] = -np.inf
        for values, row, column in candidates(block, bounds, inclusive=False):
            highest.offer(values, row + probes.start, column + probes.start + where.start)


def _genuine(rows: Rows, numbers: NDArray[np.intp]) -> tuple[FloatArray, NDArray[np.intp]]:
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    distances, owners = [np.empty(0)], [np.empty(0, np.intp)]
    for group in groups:
        if len(group) > 1:
            first, second = np.triu_indices(len(group), 1)
            dots = (rows[group] @ rows[group].T)[first, second]
            distances.append(1.0 - dots.astype(np.float64))
            owners.append(np.full(len(first), numbers[group[0]]))
    return np.concatenate(distances), np.concatenate(owners)


def _measure(
    far: float,
    allowed: int,
    nearest: FloatArray,
    people: NDArray[np.intp],
    images: NDArray[np.int64],
    genuine: FloatArray,
    impostors: int,
    replicates: int,
    seed: int,
) -> MeasuredRate:
    threshold = largest_below(nearest, allowed)
    accepted = int(np.searchsorted(nearest, threshold, side="right"))
    return MeasuredRate(
        far=far,
        threshold=threshold,
        false_accepts=accepted,
        measured=accepted / impostors,
        interval=rate_interval(people[:accepted], images, replicates=replicates, seed=seed),
        tar=float((genuine <= threshold).mean()) if len(genuine) else float("nan"),
    )
