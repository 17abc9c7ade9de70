"""Two models on the same pairs: tests of whether their difference is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spherecv.brief import brief
from spherecv.errors import InvalidArgumentError
from spherecv.evaluate.curves import FloatArray, checked_pairs, roc_curve, supported_rates, tar_at_far
from spherecv.evaluate.experiment import Experiment
from spherecv.evaluate.figures import Figure
from spherecv.evaluate.identification import Identification
from spherecv.evaluate.intervals import draws, percentiles, replicate_figures


@dataclass(frozen=True, eq=False)
class PairedTest:
    """Two models compared on the same pairs.

    Attributes
    ----------
    first, second : str
        Names of the models.
    pairs : int
        Compared by both.
    both_right, first_only, second_only, both_wrong : int
        Pairs judged rightly by both, by one of them, by neither.
    p_value : float
        McNemar's exact test, two-sided: how probable such a difference, or a larger one, is between models that are
        right equally often, 0..1 (McNemar 1947; the binomial form).
    tar : dict of float to Figure
        TAR of the first less that of the second, -1..1, by false accept rate, each at its own threshold; the interval
        by the bootstrap over people, the same people drawn for both.
    """

    first: str
    second: str
    pairs: int
    both_right: int
    first_only: int
    second_only: int
    both_wrong: int
    p_value: float
    tar: dict[float, Figure]

    __repr__ = brief

    def __str__(self) -> str:
        """Draw the comparison as text."""
        once = f"by the first only {self.first_only:,}, by the second only {self.second_only:,}"
        lines = [
            f"{self.first} against {self.second}, {self.pairs:,} pairs:",
            f"  right by both {self.both_right:,}, {once}, by neither {self.both_wrong:,}",
            f"  McNemar's exact test: p = {self.p_value:.3g}",
        ]
        for far, figure in self.tar.items():
            low, high = (100 * end for end in figure.interval)
            span = "" if np.isnan(low) else f" ({low:+.2f} to {high:+.2f})"
            lines.append(f"  TAR at FAR {far:g}, first less second: {100 * figure.value:+.2f} points{span}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain Python values, ready for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "pairs": self.pairs,
            "both_right": self.both_right,
            "first_only": self.first_only,
            "second_only": self.second_only,
            "both_wrong": self.both_wrong,
            "p_value": self.p_value,
            "tar_difference": {f"{far:g}": figure.to_dict() for far, figure in self.tar.items()},
        }


@dataclass(frozen=True)
class PairedShare:
    """Two models compared by what each accepts, or finds, of the same trials.

    Attributes
    ----------
    what : str
        Of which share, in words.
    first, second : str
        Names of the models.
    trials : int
    first_only, second_only : int
        Trials that only one of them accepts.
    p_value : float
        McNemar's exact test, two-sided.
    difference : Figure
        Share of the first less that of the second, -1..1; the interval resamples people, the same for both.
    """

    what: str
    first: str
    second: str
    trials: int
    first_only: int
    second_only: int
    p_value: float
    difference: Figure

    def __str__(self) -> str:
        """Draw the comparison as text."""
        low, high = (100 * end for end in self.difference.interval)
        span = "" if np.isnan(low) else f" ({low:+.2f} to {high:+.2f})"
        once = f"by the first only {self.first_only:,}, by the second only {self.second_only:,}, p = {self.p_value:.3g}"
        gap = f"{100 * self.difference.value:+.2f} points{span}"
        return f"{self.what}, {self.first} less {self.second}: {gap}; {once}"

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain Python values, ready for JSON."""
        return {
            "what": self.what,
            "first": self.first,
            "second": self.second,
            "trials": self.trials,
            "first_only": self.first_only,
            "second_only": self.second_only,
            "p_value": self.p_value,
            "difference": self.difference.to_dict(),
        }


def compare_shares(
    first: ArrayLike,
    second: ArrayLike,
    people: ArrayLike,
    *,
    what: str = "share",
    names: tuple[str, str] = ("first", "second"),
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedShare:
    """Compare two models by what each accepts of the same trials.

    Parameters
    ----------
    first, second : array_like of bool, shape (N,)
    people : array_like, shape (N,)
        Whose trial it is; resampled.
    what : str
    names : two of str
    replicates : int
        Of the bootstrap; 0 leaves the interval out.
    level : float
        0..1.
    seed : int

    Returns
    -------
    PairedShare

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, or no trials.
    """
    one, two = np.asarray(first, np.bool_), np.asarray(second, np.bool_)
    member = np.unique(np.asarray(people), return_inverse=True)[1]
    if one.ndim != 1 or not one.shape == two.shape == member.shape or not len(one):
        raise InvalidArgumentError("first, second and people must be (N,) all three, and not empty")
    size = int(member.max()) + 1
    gaps = np.bincount(member, one.astype(np.float64) - two, size)
    totals = np.bincount(member, minlength=size)
    span = (float("nan"), float("nan"))
    if replicates:
        shares = np.concatenate([(drawn @ gaps) / (drawn @ totals) for drawn in draws(size, size, replicates, seed)])
        low, high = percentiles(shares[:, None], level)
        span = float(low[0]), float(high[0])
    only = int(np.count_nonzero(one & ~two)), int(np.count_nonzero(~one & two))
    return PairedShare(
        what, *names, len(one), *only, mcnemar(*only), Figure(float(one.mean() - two.mean()), span)
    )


def compare_searches(
    first: Identification, second: Identification, *, names: tuple[str, str], replicates: int = 1000
) -> tuple[PairedShare, ...]:
    """Compare two models by the trials that each finds first, at every number of distractors that both have.

    Parameters
    ----------
    first, second : Identification
        Of the same probes.
    names : two of str
    replicates : int
        As for `compare_shares`.

    Returns
    -------
    tuple of PairedShare
        Empty where the trials are not the same, since other images could not be used.
    """
    if first.owners is None or second.owners is None or not np.array_equal(first.owners, second.owners):
        return ()
    return tuple(
        compare_shares(
            first.ranks[first.distractors.index(count)] == 0,
            second.ranks[second.distractors.index(count)] == 0,
            first.owners,
            what=f"rank-1 among {count:,} distractors",
            names=names,
            replicates=replicates,
        )
        for count in first.distractors
        if count in second.distractors
    )


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided exact McNemar test.

    Parameters
    ----------
    first_only, second_only : int
        Pairs that only the first, and only the second, judged rightly.

    Returns
    -------
    float
        0..1; 1 where the two never differ.
    """
    if not first_only + second_only:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(first_only, first_only + second_only, 0.5).pvalue)


def compare_distances(
    first: ArrayLike,
    second: ArrayLike,
    same: ArrayLike,
    *,
    thresholds: tuple[ArrayLike, ArrayLike],
    identities: ArrayLike | None = None,
    names: tuple[str, str] = ("first", "second"),
    rates: Sequence[float] | None = None,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Compare two models by their distances of the same pairs.

    Parameters
    ----------
    first, second : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)
    thresholds : two of float or array_like of float, shape (N,)
        The largest distance that each model accepts.
    identities : array_like, shape (N, 2), optional
        Who is in each pair; without it there are no intervals.
    names : two of str
    rates : sequence of float, optional
        False accept rates; by default those that the impostor pairs support.
    replicates : int
        Of the bootstrap; 0 leaves the intervals out.
    level : float
        0..1.
    seed : int

    Returns
    -------
    PairedTest

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, NaN distances, no pairs.
    """
    one, labels = checked_pairs(first, same)
    two, _ = checked_pairs(second, same)
    right = [
        (values <= np.asarray(cut)) == labels for values, cut in zip((one, two), thresholds, strict=True)
    ]
    counts = {(a, b): int(np.count_nonzero((right[0] == a) & (right[1] == b))) for a in (0, 1) for b in (0, 1)}
    curves = [roc_curve(values, labels) for values in (one, two)]
    chosen = supported_rates(curves[0].impostors) if rates is None else tuple(rates)
    if not (curves[0].genuine and curves[0].impostors):
        chosen = ()
    spans = _spans(one, two, labels, identities, chosen, replicates, level, seed)
    differences = [tar_at_far(curves[0], far)[0] - tar_at_far(curves[1], far)[0] for far in chosen]
    return PairedTest(
        first=names[0],
        second=names[1],
        pairs=len(labels),
        both_right=counts[1, 1],
        first_only=counts[1, 0],
        second_only=counts[0, 1],
        both_wrong=counts[0, 0],
        p_value=mcnemar(counts[1, 0], counts[0, 1]),
        tar={far: Figure(gap, span) for far, gap, span in zip(chosen, differences, spans, strict=True)},
    )


def compare_experiments(experiments: Sequence[Experiment], *, replicates: int = 1000) -> tuple[PairedTest, ...]:
    """Compare each two experiments by their first variants, on the pairs that both could compare.

    Parameters
    ----------
    experiments : sequence of Experiment
        On the same list of pairs.
    replicates : int

    Returns
    -------
    tuple of PairedTest
        One for each two.

    Raises
    ------
    InvalidArgumentError
        Two experiments that have no pair in common.
    """
    return tuple(_compared(a, b, replicates) for a, b in combinations(experiments, 2))


def _compared(a: Experiment, b: Experiment, replicates: int) -> PairedTest:
    places = [_places(experiment) for experiment in (a, b)]
    shared = [key for key in places[0] if key in places[1]]
    if not shared:
        raise InvalidArgumentError(f"{a.model} and {b.model} have no pair in common")
    rows = [np.array([place[key] for key in shared], dtype=np.intp) for place in places]
    sides = []
    for experiment, chosen in zip((a, b), rows, strict=True):
        variant = experiment.variants[0]
        cut = np.broadcast_to(np.asarray(variant.thresholds, dtype=np.float64), variant.distances.shape)
        sides.append((variant.distances[chosen], cut[chosen]))
    return compare_distances(
        sides[0][0],
        sides[1][0],
        a.pairs.same[rows[0]],
        thresholds=(sides[0][1], sides[1][1]),
        identities=a.pairs.people[rows[0]],
        names=(a.model, b.model),
        replicates=replicates,
    )


def _places(experiment: Experiment) -> dict[tuple[str, str, int], int]:
    """Position of every pair by its images, and by how often it was listed before."""
    pairs = experiment.pairs
    found: dict[tuple[str, str, int], int] = {}
    for row, (a, b) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        again = 0
        while (key := (pairs.images[a], pairs.images[b], again)) in found:
            again += 1
        found[key] = row
    return found


def _spans(
    one: FloatArray,
    two: FloatArray,
    labels: ArrayLike,
    identities: ArrayLike | None,
    rates: Sequence[float],
    replicates: int,
    level: float,
    seed: int,
) -> list[tuple[float, float]]:
    if identities is None or not replicates or not rates:
        return [(float("nan"), float("nan"))] * len(rates)
    tables = [
        replicate_figures(values, labels, identities, rates=rates, replicates=replicates, seed=seed)[:, 3:]
        for values in (one, two)
    ]
    gaps = tables[0] - tables[1]
    low, high = percentiles(gaps[~np.isnan(gaps[:, 0])], level)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
