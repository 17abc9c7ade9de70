"""Thresholds and a probability from pairs of the user's own, each with what stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from spherecv.brief import brief
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.allpairs import AllPairs, largest_below
from spherecv.evaluate.curves import (
    MIN_FALSE_ACCEPTS,
    BoolArray,
    FloatArray,
    allowed_false_accepts,
    best_accuracy,
    between,
    checked_pairs,
    equal_error,
    require_support,
    roc_curve,
    supported_rates,
)
from spherecv.evaluate.intervals import Interval
from spherecv.evaluate.likelihood import fit_probability
from spherecv.evaluate.shares import rate_interval, share_interval
from spherecv.metrics import Metric
from spherecv.thresholds import CalibratedThreshold
from spherecv.zoo.probability import ProbabilityCurve

RULES = ("best accuracy", "EER", "information gain")
"""What a threshold may be chosen for, beside a false accept rate."""

_CURVE_PAIRS = 200_000


@dataclass(frozen=True)
class Measured:
    """Thresholds and a probability, before they are bound to a model.

    Attributes
    ----------
    thresholds : tuple of CalibratedThreshold
        What was asked for first, then the other rules, then every supported rate.
    probability : ProbabilityCurve or None
        None where the pairs do not support one.
    genuine, impostors, identities : int
    notes : tuple of str
    distances : ndarray of float64, shape (N,)
        Of the pairs, or of a sample of the impostor pairs where all pairs of a set were compared.
    same : ndarray of bool, shape (N,)
    """

    thresholds: tuple[CalibratedThreshold, ...]
    probability: ProbabilityCurve | None
    genuine: int
    impostors: int
    identities: int
    notes: tuple[str, ...]
    distances: FloatArray = field(repr=False, compare=False)
    same: BoolArray = field(repr=False, compare=False)

    __repr__ = brief


def information_gain(distances: ArrayLike, same: ArrayLike) -> tuple[float, float]:
    """Find the split of the distances that tells most about the labels, as C4.5 does and the sefiks.com post did.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)

    Returns
    -------
    gain : float
        In bits; 0 where no split tells anything.
    threshold : float
        The largest distance on the near side, which is where C4.5 puts it; the nearest to 0 of several as good.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, NaN distances, no pairs.
    NotEnoughDataError
        All distances are equal.
    """
    roc = roc_curve(distances, same)
    near = np.stack([np.nan_to_num(roc.tar) * roc.genuine, np.nan_to_num(roc.far) * roc.impostors])[:, 1:-1]
    if not near.shape[1]:
        raise NotEnoughDataError("all distances are equal: no threshold tells the pairs apart")
    total = np.array([[roc.genuine], [roc.impostors]], dtype=np.float64)
    pairs = total.sum()
    sizes = near.sum(axis=0)
    after = (sizes * _entropy(near) + (pairs - sizes) * _entropy(total - near)) / pairs
    gains = _entropy(total)[0] - after
    # Equal splits can differ in the last digit; the first of them is meant.
    best = int(np.flatnonzero(gains >= gains.max() - 1e-12)[0])
    return float(gains[best]), float(roc.thresholds[best + 1])


def calibrate_pairs(
    distances: ArrayLike,
    same: ArrayLike,
    identities: ArrayLike,
    *,
    choose: str | float = "best accuracy",
    rates: Sequence[float] = (),
    min_false_accepts: int = MIN_FALSE_ACCEPTS,
    replicates: int = 1000,
    seed: int = 0,
) -> Measured:
    """Choose thresholds on listed pairs.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)
    identities : array_like, shape (N, 2)
    choose : {"best accuracy", "EER", "information gain"} or float
        What the default threshold shall be chosen for; a number is a false accept rate.
    rates : sequence of float
        Further false accept rates that must be there; those of `FAR_TARGETS` that are supported come by themselves.
    min_false_accepts : int
        False accepts that a rate must rest on.
    replicates, seed : int
        Of the bootstrap over identities.

    Returns
    -------
    Measured

    Raises
    ------
    NotEnoughDataError
        A kind of pair is missing, or a rate asked for rests on too few false accepts.
    InvalidArgumentError
        Shapes that do not fit, or an unknown rule.
    """
    values, labels = checked_pairs(distances, same)
    people = np.asarray(identities)
    impostors = np.sort(values[~labels])
    _require_both(len(values) - len(impostors), len(impostors))
    asked = _asked(choose, rates, len(impostors), min_false_accepts)
    cuts = {far: largest_below(impostors, allowed_false_accepts(far, len(impostors))) for far in asked}
    for far in supported_rates(len(impostors), minimum=min_false_accepts):
        cuts.setdefault(far, largest_below(impostors, allowed_false_accepts(far, len(impostors))))
    rules = _rule_thresholds(values, labels)

    def row(name: str, cut: float, far: float | None) -> CalibratedThreshold:
        accepted = values <= cut
        return CalibratedThreshold(
            chosen_for=name,
            threshold=cut,
            far=far,
            measured_far=float(accepted[~labels].mean()),
            far_interval=share_interval(accepted[~labels], people[~labels], replicates=replicates, seed=seed),
            measured_tar=float(accepted[labels].mean()),
            tar_interval=share_interval(accepted[labels], people[labels], replicates=replicates, seed=seed),
            false_accepts=int(accepted[~labels].sum()),
        )

    curve, notes = _curve(values, labels, people, seed)
    return Measured(
        thresholds=_ordered(choose, [*(row(n, c, None) for n, c in rules), *(row(_rate(f), cuts[f], f) for f in cuts)]),
        probability=curve,
        genuine=len(values) - len(impostors),
        impostors=len(impostors),
        identities=len(np.unique(people)),
        notes=notes,
        distances=values,
        same=labels,
    )


def calibrate_all(
    compared: AllPairs,
    images: ArrayLike,
    *,
    metric: Metric = "cosine",
    choose: str | float = "best accuracy",
    rates: Sequence[float] = (),
    min_false_accepts: int = MIN_FALSE_ACCEPTS,
    replicates: int = 1000,
    seed: int = 0,
) -> Measured:
    """Choose thresholds on all pairs of a labelled set.

    Rates are counted on every pair of different people; the other rules and the probability use a sample of them.

    Parameters
    ----------
    compared : AllPairs
        Of `compare_all`, run with the rates wanted here.
    images : array_like of int, shape (P,)
        How many images each identity has.
    metric : {"cosine", "euclidean"}
        Euclidean stands for embeddings of unit length, whose distance is the root of twice the cosine distance.
    choose, rates, min_false_accepts, replicates, seed
        As for `calibrate_pairs`.

    Returns
    -------
    Measured

    Raises
    ------
    NotEnoughDataError, InvalidArgumentError
        As for `calibrate_pairs`.
    """
    genuine, sample = compared.genuine, compared.sample
    _require_both(len(genuine), compared.impostors)
    asked = _asked(choose, rates, compared.impostors, min_false_accepts)
    measured = {rate.far: rate for rate in compared.rates}
    missing = [far for far in asked if far not in measured]
    if missing:
        raise InvalidArgumentError(f"FAR {missing[0]:g} was not measured, or needs more false accepts than are kept")
    values = np.concatenate([genuine, sample])
    labels = np.arange(len(values)) < len(genuine)
    sizes = np.asarray(images)

    def measure(distances: FloatArray) -> FloatArray:
        return distances if metric == "cosine" else np.sqrt(2.0 * np.maximum(distances, 0.0))

    def row(name: str, cut: float, far: float | None) -> CalibratedThreshold:
        known = measured.get(far) if far is not None else None
        share, interval, count = (
            (known.measured, known.interval, known.false_accepts) if known else _rate_at(compared, sizes, cut, seed)
        )
        accepted = genuine <= cut
        owners = np.stack([compared.genuine_people] * 2, axis=1)
        return CalibratedThreshold(
            chosen_for=name,
            threshold=float(measure(np.asarray(cut))),
            far=far,
            measured_far=share,
            far_interval=interval,
            measured_tar=float(accepted.mean()),
            tar_interval=share_interval(accepted, owners, replicates=replicates, seed=seed),
            false_accepts=count,
        )

    people = np.concatenate([np.stack([compared.genuine_people] * 2, axis=1), compared.sample_people])
    curve, notes = _curve(measure(values), labels, people, seed)
    if len(sample) < compared.impostors:
        drawn = f"{len(sample):,} of {compared.impostors:,} impostor pairs, drawn evenly"
        notes = (*notes, f"the probability and the rules other than a rate use {drawn}")
    far_rows = [row(_rate(far), rate.threshold, far) for far, rate in measured.items()]
    return Measured(
        thresholds=_ordered(choose, [*(row(n, c, None) for n, c in _rule_thresholds(values, labels)), *far_rows]),
        probability=curve,
        genuine=len(genuine),
        impostors=compared.impostors,
        identities=len(sizes),
        notes=notes,
        distances=measure(values),
        same=labels,
    )


def _asked(choose: str | float, rates: Sequence[float], impostors: int, minimum: int) -> list[float]:
    if isinstance(choose, str):
        if choose not in RULES:
            raise InvalidArgumentError(f"choose must be one of {', '.join(RULES)} or a rate, but got {choose!r}")
        asked = list(rates)
    else:
        asked = [choose, *rates]
    for far in asked:
        require_support(far, impostors, minimum=minimum)
    return asked


def _rule_thresholds(values: FloatArray, labels: BoolArray) -> list[tuple[str, float]]:
    roc = roc_curve(values, labels)
    at = equal_error(roc)[1]
    equal = between(roc.thresholds, int(np.flatnonzero(roc.thresholds == at)[0]))
    rules = [("best accuracy", best_accuracy(roc)[1]), ("EER", equal)]
    if values.min() < values.max():
        rules.append(("information gain", information_gain(values, labels)[1]))
    return [(name, max(cut, 0.0)) for name, cut in rules]


def _curve(
    values: FloatArray, labels: BoolArray, people: ArrayLike, seed: int
) -> tuple[ProbabilityCurve | None, tuple[str, ...]]:
    rows, who = np.arange(len(values)), np.asarray(people)
    if len(rows) > _CURVE_PAIRS:  # two parameters, or steps as fine as the genuine pairs, gain nothing from more
        drawn = np.random.default_rng(seed).choice(len(rows), _CURVE_PAIRS, replace=False)
        rows = np.union1d(np.flatnonzero(labels), drawn)
    try:
        return fit_probability(values[rows], labels[rows], who[rows], seed=seed), ()
    except NotEnoughDataError as error:
        return None, (f"no probability: {error}",)


def _rate_at(compared: AllPairs, sizes: ArrayLike, cut: float, seed: int) -> tuple[float, Interval, int]:
    """Rate at any threshold: counted where all accepted pairs were kept, else estimated on the sample."""
    if len(compared.nearest) == compared.impostors or cut < compared.nearest[-1]:
        count = int(np.searchsorted(compared.nearest, cut, side="right"))
        interval = rate_interval(compared.nearest_people[:count], sizes, seed=seed)
        return count / compared.impostors, interval, count
    accepted = compared.sample <= cut
    interval = share_interval(accepted, compared.sample_people, seed=seed)
    return float(accepted.mean()), interval, round(float(accepted.mean()) * compared.impostors)


def _ordered(choose: str | float, rows: list[CalibratedThreshold]) -> tuple[CalibratedThreshold, ...]:
    wanted = choose if isinstance(choose, str) else _rate(choose)
    return tuple(sorted(rows, key=lambda row: row.chosen_for != wanted))


def _rate(far: float) -> str:
    return f"FAR {far:g}"


def _require_both(genuine: int, impostors: int) -> None:
    if not genuine or not impostors:
        raise NotEnoughDataError(f"a calibration needs both kinds of pairs, but there are {genuine} and {impostors}")


def _entropy(counts: FloatArray) -> FloatArray:
    """Entropy in bits of the columns of a (2, K) table of counts; 0 for an empty column."""
    sizes = counts.sum(axis=0)
    shares = np.divide(counts, sizes, out=np.zeros_like(counts, dtype=np.float64), where=sizes > 0)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=0))
