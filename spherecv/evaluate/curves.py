"""Error rates over all thresholds: ROC and DET points, and the figures that are read off them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.checks import check_rate
from spherecv.errors import InvalidArgumentError, NotEnoughDataError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MIN_FALSE_ACCEPTS = 30
"""False accepts that a rate must rest on: with 30 errors the true rate lies, 9 times in 10, within 30 % of the
measured one (the rule of 30: Doddington et al. 2000)."""

FAR_TARGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""False accept rates that figures are given at, where the number of impostor pairs supports them."""


@dataclass(frozen=True, eq=False)
class Roc:
    """Error rates at every threshold that tells pairs apart. A pair is accepted where `distance <= threshold`.

    Attributes
    ----------
    thresholds : ndarray of float64, shape (K,)
        Ascending distances; the first is -inf, which accepts nothing, the last accepts everything.
    far : ndarray of float64, shape (K,)
        Share of the impostor pairs that are accepted, 0..1; NaN where there are no impostor pairs.
    tar : ndarray of float64, shape (K,)
        Share of the genuine pairs that are accepted, 0..1; NaN where there are no genuine pairs.
    genuine, impostors : int
        How many pairs of each kind.
    """

    thresholds: FloatArray
    far: FloatArray
    tar: FloatArray
    genuine: int
    impostors: int

    __repr__ = brief

    @property
    def frr(self) -> FloatArray:
        """Share of the genuine pairs that are rejected, 0..1: the other axis of the DET curve, shape (K,)."""
        return 1.0 - self.tar


def checked_pairs(distances: ArrayLike, same: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return both as equally long arrays, float64 and bool.

    Raises
    ------
    InvalidArgumentError
        Other shapes, distances that are NaN, or no pairs.
    """
    values, labels = np.asarray(distances, dtype=np.float64), np.asarray(same)
    if values.ndim != 1 or labels.shape != values.shape:
        raise InvalidArgumentError(f"distances and same must be (N,) both, but got {values.shape} and {labels.shape}")
    if not len(values):
        raise InvalidArgumentError("no pairs: there must be at least one")
    if np.isnan(values).any():
        raise InvalidArgumentError(f"distances must be numbers, but {int(np.isnan(values).sum())} are NaN")
    if labels.dtype != np.bool_ and not np.isin(labels, (0, 1)).all():
        raise InvalidArgumentError("same must hold only 0 and 1, or False and True")
    return values, labels.astype(np.bool_)


def roc_curve(distances: ArrayLike, same: ArrayLike) -> Roc:
    """Measure the error rates of pairs at every threshold.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
        Distance of each pair; infinite ones count as never, or always, accepted.
    same : array_like of bool, shape (N,)
        Whether the pair is genuine.

    Returns
    -------
    Roc
        Pairs of equal distance share one point. The same points as scikit-learn's `roc_curve(same, -distances,
        drop_intermediate=False)`.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, NaN distances, no pairs.
    """
    values, labels = checked_pairs(distances, same)
    order = np.argsort(values, kind="stable")
    values, labels = values[order], labels[order]
    ends = tie_ends(values)
    accepted = np.concatenate([[0], np.cumsum(labels)[ends]])
    false = np.concatenate([[0], ends + 1]) - accepted
    genuine, impostors = int(labels.sum()), int(len(labels) - labels.sum())
    return Roc(
        thresholds=np.concatenate([[-np.inf], values[ends]]),
        far=_share(false, impostors),
        tar=_share(accepted, genuine),
        genuine=genuine,
        impostors=impostors,
    )


def tie_ends(ordered: FloatArray) -> NDArray[np.intp]:
    """Index of the last of each run of equal values in a sorted array."""
    return np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)


def area_under(roc: Roc) -> float:
    """Area under the ROC curve, 0..1 (trapezoids, so that ties count half); NaN where one class is missing."""
    return float(np.trapezoid(roc.tar, roc.far))


def equal_error(roc: Roc) -> tuple[float, float]:
    """Find where as many genuine pairs are rejected as impostor pairs are accepted.

    Returns
    -------
    rate : float
        The equal error rate, 0..1, on the straight line between the two measured points beside it; NaN where one
        class is missing.
    threshold : float
        The measured threshold at which the two rates are nearest; NaN where one class is missing.
    """
    if not roc.genuine or not roc.impostors:
        return float("nan"), float("nan")
    gap = roc.far - roc.frr  # grows from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    rate = roc.far[after - 1] + share * (roc.far[after] - roc.far[after - 1])
    nearest = after if after == 1 or abs(gap[after]) <= abs(gap[after - 1]) else after - 1
    return float(rate), float(roc.thresholds[nearest])


def allowed_false_accepts(far: float, impostors: int) -> int:
    """Most false accepts that keep the rate within `far`; 0.29 of 100 are 29, whatever the floating point says."""
    return int(np.floor(far * impostors * (1 + 1e-12) + 1e-12))


def tar_at_far(roc: Roc, far: float) -> tuple[float, float]:
    """Read off the share of genuine pairs accepted where at most a share `far` of the impostor pairs is.

    Parameters
    ----------
    roc : Roc
    far : float
        The false accept rate allowed, 0..1; both ends can be read off.

    Returns
    -------
    tar : float
        0..1; nothing is interpolated. NaN where one class is missing.
    threshold : float
        The largest measured threshold that keeps to `far`; -inf where none does.

    Raises
    ------
    InvalidArgumentError
        `far` outside 0..1.
    """
    if not 0.0 <= far <= 1.0:
        raise InvalidArgumentError(f"far must be within 0..1, but got {far}")
    if not roc.impostors or not roc.genuine:
        return float("nan"), float("nan")
    allowed = allowed_false_accepts(far, roc.impostors)
    counts = np.rint(roc.far * roc.impostors)
    last = int(np.searchsorted(counts, allowed, side="right")) - 1
    return float(roc.tar[last]), float(roc.thresholds[last])


def best_accuracy(roc: Roc) -> tuple[float, float]:
    """Find the threshold that judges most of these very pairs rightly.

    Returns
    -------
    accuracy : float
        0..1. Optimistic: chosen on the pairs that it is measured on.
    threshold : float
        Half way to the next distance; of several as good, the middle one.
    """
    right = np.nan_to_num(roc.tar) * roc.genuine + (1.0 - np.nan_to_num(roc.far)) * roc.impostors
    right = np.rint(right) if roc.impostors else np.rint(np.nan_to_num(roc.tar) * roc.genuine)
    best = np.flatnonzero(right == right.max())
    return float(right.max() / (roc.genuine + roc.impostors)), between(roc.thresholds, int(best[(len(best) - 1) // 2]))


def between(thresholds: FloatArray, index: int) -> float:
    """Threshold half way between a measured distance and the next, which decides these pairs alike.

    Below the first distance it is half of it, so that it stays a distance; above the last it is the last.
    """
    here = thresholds[index]
    if index + 1 == len(thresholds) or np.isinf(thresholds[index + 1]):
        return float(here)
    above = thresholds[index + 1]
    if np.isneginf(here):
        return float(above / 2) if above > 0 else float(np.nextafter(above, -np.inf))
    middle = here + (above - here) / 2
    return float(middle if middle < above else here)


def supported_rates(impostors: int, *, minimum: int = MIN_FALSE_ACCEPTS) -> tuple[float, ...]:
    """Those of `FAR_TARGETS` at which this many impostor pairs give at least `minimum` false accepts."""
    return tuple(far for far in FAR_TARGETS if allowed_false_accepts(far, impostors) >= minimum)


def require_support(far: float, impostors: int, *, minimum: int = MIN_FALSE_ACCEPTS) -> None:
    """Refuse a false accept rate that too few impostor pairs stand behind.

    Raises
    ------
    NotEnoughDataError
        Fewer than `minimum` false accepts can be expected.
    InvalidArgumentError
        `far` not within 0..1, both exclusive.
    """
    check_rate("far", far)
    if allowed_false_accepts(far, impostors) < minimum:
        least = minimum / impostors if impostors else 1.0
        other = f", or ask for {least:.2g} or more" if least < 0.5 else ""
        raise NotEnoughDataError(
            f"FAR {far:g} on {impostors:,} impostor pairs rests on {far * impostors:.3g} false accepts, and needs "
            f"{minimum}: bring at least {int(np.ceil(minimum / far)):,} impostor pairs{other}"
        )


def _share(counts: NDArray[np.intp], total: int) -> FloatArray:
    return counts / total if total else np.full(len(counts), np.nan)
