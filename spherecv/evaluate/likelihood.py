"""From distances to probabilities: logistic or isotonic, whichever holds better on pairs that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.checks import check_choice
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.curves import BoolArray, FloatArray, checked_pairs
from spherecv.zoo.probability import ProbabilityCurve

FOLDS = 5
BINS = 15
MIN_PAIRS = 20
"""Of each kind: fewer say nothing of a probability."""

Method = Literal["logistic", "isotonic"]


def fit_probability(
    distances: ArrayLike, same: ArrayLike, identities: ArrayLike, *, method: Method | None = None, seed: int = 0
) -> ProbabilityCurve:
    """Fit a probability of the same person to the distances of pairs.

    Genuine and impostor pairs weigh the same in total, so that the curve is a likelihood ratio, to be used at any
    prior.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)
    identities : array_like, shape (N, 2)
        Who is in each pair: the cross-validation keeps people apart.
    method : {"logistic", "isotonic"}, optional
        By default the one whose cross-validated log loss is smaller.
    seed : int
        Of the assignment of people to folds.

    Returns
    -------
    ProbabilityCurve

    Raises
    ------
    NotEnoughDataError
        Fewer than 20 pairs of a kind, or distances that do not grow from genuine to impostor pairs.
    InvalidArgumentError
        Shapes that do not fit, or an unknown method.
    """
    values, labels = checked_pairs(distances, same)
    genuine = int(labels.sum())
    if min(genuine, len(labels) - genuine) < MIN_PAIRS:
        raise NotEnoughDataError(
            f"a probability needs {MIN_PAIRS} genuine and {MIN_PAIRS} impostor pairs, but there are {genuine} and "
            f"{len(labels) - genuine}"
        )
    if method is not None:
        check_choice("method", method, _FITS)
    held_out = _cross_validate(values, labels, np.asarray(identities), seed)
    losses = {name: _log_loss(odds, labels) for name, odds in held_out.items()}
    chosen = method if method is not None else min(losses, key=losses.__getitem__)
    knots, ratios = _FITS[chosen](values, labels)
    return ProbabilityCurve(
        method=chosen,
        distances=tuple(knots.tolist()),
        log_ratios=tuple(ratios.tolist()),
        ece={name: expected_calibration_error(_sigmoid(odds), labels) for name, odds in held_out.items()},
    )


def expected_calibration_error(probabilities: ArrayLike, same: ArrayLike, *, bins: int = BINS) -> float:
    """Mean gap between what was said and what came true, both kinds of pairs weighing the same in total.

    Parameters
    ----------
    probabilities : array_like of float, shape (N,)
        0..1.
    same : array_like of bool, shape (N,)
    bins : int
        Equally wide.

    Returns
    -------
    float
        0..1; Guo et al. 2017 with class weights.
    """
    said, labels = np.asarray(probabilities, np.float64), np.asarray(same, np.bool_)
    weights = _balanced(labels)
    which = np.minimum((said * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(which, weights * (labels - said), minlength=bins)
    return float(np.abs(gaps).sum())


def _cross_validate(
    values: FloatArray, labels: BoolArray, people: NDArray[np.intp], seed: int
) -> dict[Method, FloatArray]:
    """Log odds of every pair by curves fitted without the two people in it."""
    if people.shape != (len(values), 2):
        raise InvalidArgumentError(f"identities must have shape ({len(values)}, 2), but got {people.shape}")
    numbers = np.unique(people, return_inverse=True)[1].reshape(people.shape)
    count = int(numbers.max()) + 1
    fold_of = np.random.default_rng(seed).permutation(count) % min(FOLDS, count)
    folds = fold_of[numbers]
    odds = {name: np.zeros(len(values)) for name in _FITS}
    for fold in range(min(FOLDS, count)):
        tested, trained = folds[:, 0] == fold, (folds != fold).all(axis=1)
        if min(np.count_nonzero(labels[trained]), np.count_nonzero(~labels[trained])) < 2:
            continue  # too few people to keep apart: these pairs are left at even odds, which costs the method
        for name, fit in _FITS.items():
            try:
                knots, ratios = fit(values[trained], labels[trained])
            except NotEnoughDataError:
                continue
            curve = ProbabilityCurve(
                method=name, distances=tuple(knots.tolist()), log_ratios=tuple(ratios.tolist()), ece={}
            )
            odds[name][tested] = _at(curve, values[tested])
    return odds


def _at(curve: ProbabilityCurve, values: FloatArray) -> FloatArray:
    knots, ratios = np.array(curve.distances), np.array(curve.log_ratios)
    if curve.method == "logistic":
        slope = (ratios[-1] - ratios[0]) / (knots[-1] - knots[0])
        return np.asarray(ratios[0] + slope * (values - knots[0]))
    return np.asarray(np.interp(values, knots, ratios))


def _logistic(values: FloatArray, labels: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Newton's method on two parameters; targets short of 0 and 1 (Platt 1999) keep separable pairs finite."""
    weights = _balanced(labels)
    genuine, impostors = np.count_nonzero(labels), np.count_nonzero(~labels)
    targets = np.where(labels, (genuine + 1) / (genuine + 2), 1 / (impostors + 2))
    centre, scale = float(values.mean()), float(values.std()) or 1.0
    design = np.stack([np.ones_like(values), (values - centre) / scale])
    beta = np.zeros(2)
    loss = np.inf
    for _ in range(100):
        odds = beta @ design
        said = _sigmoid(odds)
        slope = design @ (weights * (targets - said))
        bend = (design * (weights * said * (1 - said))) @ design.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(bend, slope)
        for shrink in 0.5 ** np.arange(20):
            tried = float((weights * (np.logaddexp(0, odds + shrink * (step @ design)))).sum())
            tried -= float((weights * targets) @ (odds + shrink * (step @ design)))
            if tried <= loss:
                break
        beta = beta + shrink * step
        if loss - tried < 1e-12:
            break
        loss = tried
    if beta[1] >= 0:
        raise NotEnoughDataError("the distances of genuine pairs are not smaller than those of impostor pairs")
    low, high = float(values.min()), float(values.max())
    ends = np.array([low, max(high, low + 1e-6)])
    return ends, beta[0] + beta[1] * (ends - centre) / scale


def _isotonic(values: FloatArray, labels: BoolArray) -> tuple[FloatArray, FloatArray]:
    from scipy.optimize import isotonic_regression

    order = np.argsort(values, kind="stable")
    distances, where = np.unique(values[order], return_inverse=True)
    weights = _balanced(labels)[order]
    mass = np.bincount(where, weights)
    rate = np.bincount(where, weights * labels[order]) / mass
    fit = isotonic_regression(rate, weights=mass, increasing=False)
    # A block's rate is kept as far from 0 and 1 as its own pairs can tell.
    starts = np.asarray(fit.blocks, dtype=np.intp)
    genuine, impostors = np.count_nonzero(labels), np.count_nonzero(~labels)
    ratios = np.array(
        [
            _block_ratio(
                2 * genuine * float(mass[a:b] @ rate[a:b]), 2 * impostors * float(mass[a:b] @ (1 - rate[a:b]))
            )
            for a, b in pairwise(starts)
        ]
    ) + np.log((impostors + 1) / (genuine + 1))
    ratios = np.minimum.accumulate(ratios)
    if ratios[0] <= ratios[-1]:
        raise NotEnoughDataError("the distances of genuine pairs are not smaller than those of impostor pairs")
    # Level from the first distance of a block to its last, and straight from there to the next.
    knots = np.stack([starts[:-1], starts[1:] - 1], axis=1).reshape(-1)
    kept = np.concatenate([[True], knots[1:] != knots[:-1]])
    return distances[knots[kept]], np.repeat(ratios, 2)[kept]


def _block_ratio(genuine: float, impostors: float) -> float:
    return float(np.log((genuine + 0.5) / (impostors + 0.5)))


_FITS: dict[Method, Callable[[FloatArray, BoolArray], tuple[FloatArray, FloatArray]]] = {
    "logistic": _logistic,
    "isotonic": _isotonic,
}


def _balanced(labels: BoolArray) -> FloatArray:
    genuine = max(int(np.count_nonzero(labels)), 1)
    return np.where(labels, 0.5 / genuine, 0.5 / max(len(labels) - genuine, 1))


def _log_loss(odds: FloatArray, labels: BoolArray) -> float:
    return float((_balanced(labels) * np.logaddexp(0, np.where(labels, -odds, odds))).sum())


def _sigmoid(odds: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(odds, -700, 700))))
