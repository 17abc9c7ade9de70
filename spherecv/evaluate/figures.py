"""The figures of a verification experiment, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spherecv.brief import brief
from spherecv.evaluate.curves import (
    FAR_TARGETS,
    MIN_FALSE_ACCEPTS,
    Roc,
    area_under,
    best_accuracy,
    checked_pairs,
    equal_error,
    roc_curve,
    supported_rates,
    tar_at_far,
)
from spherecv.evaluate.intervals import Interval, bootstrap

_NONE: Interval = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Figure:
    """A measured number and how sure it is.

    Attributes
    ----------
    value : float
    interval : (float, float)
        Bootstrap over identities; NaN where it was not asked for.
    threshold : float or None
        The largest distance accepted where it was read off.
    """

    value: float
    interval: Interval = _NONE
    threshold: float | None = None

    def __str__(self) -> str:
        """Draw value and interval in per cent."""
        text = f"{100 * self.value:.2f} %"
        if np.isnan(self.interval).any():
            return text
        return f"{text} ({100 * self.interval[0]:.2f} to {100 * self.interval[1]:.2f})"

    def to_dict(self) -> dict[str, Any]:
        """The figure as plain Python values; NaN and infinity become null."""
        return {
            "value": finite(self.value),
            "interval": None if np.isnan(self.interval).any() else list(self.interval),
            "threshold": None if self.threshold is None else finite(self.threshold),
        }


@dataclass(frozen=True, eq=False)
class VerificationFigures:
    """What a set of pairs says about a model.

    Attributes
    ----------
    accuracy : Figure
        At `threshold`, or at the best threshold of these very pairs, which is optimistic; see `accuracy_at`.
    accuracy_at : str
        Which of the two, in words.
    eer, auc : Figure
    tar : dict of float to Figure
        By false accept rate: only rates that the number of impostor pairs supports.
    unsupported : tuple of float
        The rates left out.
    genuine, impostors, identities : int
        How many.
    roc : Roc
    """

    accuracy: Figure
    accuracy_at: str
    eer: Figure
    auc: Figure
    tar: dict[float, Figure]
    unsupported: tuple[float, ...]
    genuine: int
    impostors: int
    identities: int
    roc: Roc

    __repr__ = brief

    def rows(self) -> list[tuple[str, str]]:
        """Names and values, for a table."""
        rates = [(f"TAR at FAR {far:g}", str(figure)) for far, figure in self.tar.items()]
        return [
            (f"accuracy ({self.accuracy_at})", str(self.accuracy)),
            ("EER", str(self.eer)),
            ("AUC", str(self.auc)),
            *rates,
        ]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            "accuracy": {**self.accuracy.to_dict(), "at": self.accuracy_at},
            "eer": self.eer.to_dict(),
            "auc": self.auc.to_dict(),
            "tar_at_far": {f"{far:g}": figure.to_dict() for far, figure in self.tar.items()},
            "far_without_support": [f"{far:g}" for far in self.unsupported],
            "genuine_pairs": self.genuine,
            "impostor_pairs": self.impostors,
            "identities": self.identities,
        }


def verification_figures(
    distances: ArrayLike,
    same: ArrayLike,
    identities: ArrayLike | None = None,
    *,
    threshold: ArrayLike | None = None,
    threshold_from: str = "threshold given",
    min_false_accepts: int = MIN_FALSE_ACCEPTS,
    replicates: int = 1000,
    seed: int = 0,
) -> VerificationFigures:
    """Measure accuracy, EER, AUC and TAR at FAR of pairs.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)
    identities : array_like, shape (N, 2), optional
        Who is in each pair; without it there are no intervals.
    threshold : float or array_like of float, shape (N,), optional
        The largest distance accepted, chosen elsewhere; one for all, or one each, as folds have.
    threshold_from : str
        Where it comes from, in words.
    min_false_accepts : int
        False accepts that a TAR must rest on to be given.
    replicates : int
        Of the bootstrap; 0 leaves the intervals out.
    seed : int

    Returns
    -------
    VerificationFigures
        With one class missing, EER, AUC and TAR are NaN and there are no intervals.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, NaN distances, no pairs.
    """
    values, labels = checked_pairs(distances, same)
    roc = roc_curve(values, labels)
    rates = supported_rates(roc.impostors, minimum=min_false_accepts) if roc.genuine else ()
    optimistic, best = best_accuracy(roc)
    used = best if threshold is None else threshold
    accuracy = optimistic if threshold is None else float(np.mean((values <= np.asarray(threshold)) == labels))
    drawn = None
    if identities is not None and replicates and roc.genuine and roc.impostors:
        drawn = bootstrap(values, labels, identities, threshold=used, rates=rates, replicates=replicates, seed=seed)
    rate, at = equal_error(roc)
    read = {far: tar_at_far(roc, far) for far in rates}
    single = float(np.asarray(used)) if np.ndim(used) == 0 else None
    return VerificationFigures(
        accuracy=Figure(accuracy, _NONE if drawn is None or drawn.accuracy is None else drawn.accuracy, single),
        accuracy_at="best threshold of these pairs" if threshold is None else threshold_from,
        eer=Figure(rate, _NONE if drawn is None else drawn.eer, at),
        auc=Figure(area_under(roc), _NONE if drawn is None else drawn.auc),
        tar={far: Figure(tar, _NONE if drawn is None else drawn.tar[far], cut) for far, (tar, cut) in read.items()},
        unsupported=tuple(far for far in FAR_TARGETS if far not in rates),
        genuine=roc.genuine,
        impostors=roc.impostors,
        identities=0 if identities is None else len(np.unique(np.asarray(identities))),
        roc=roc,
    )


def finite(value: float) -> float | None:
    """Return a number that JSON can hold, or None."""
    return float(value) if np.isfinite(value) else None
