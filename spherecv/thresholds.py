"""Which distance still counts as the same person, and where that number comes from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from spherecv.errors import InvalidArgumentError, MissingThresholdError
from spherecv.metrics import Metric
from spherecv.zoo import KnownThreshold, Recipe


class ThresholdWarning(UserWarning):
    """A threshold used with another detector than it was measured with, or one that nobody has reproduced."""


@dataclass(frozen=True)
class Threshold:
    """A threshold in use.

    Attributes
    ----------
    value : float
        The largest distance that counts as the same person.
    far : float or None
        The false accept rate it was chosen for, 0..1; None where it was chosen for something else.
    source : str
        What it was measured on, in words; empty where the caller gave it.
    """

    value: float
    far: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.value < float("inf"):
            raise InvalidArgumentError(f"threshold must be a distance of 0 or more, but got {self.value}")


def choose_threshold(
    known: Sequence[KnownThreshold], *, model: str, recipe: Recipe, metric: Metric, detector: str, far: float | None
) -> Threshold:
    """Find the threshold that was measured for a model, a recipe and a metric.

    Parameters
    ----------
    known : sequence of KnownThreshold
        What is known of the model.
    model : str
        Its name, for messages.
    recipe : Recipe
        In use; only thresholds of this very recipe count.
    metric : {"cosine", "euclidean"}
    detector : str
        In use. A threshold measured with another one is used with a warning.
    far : float or None
        The false accept rate asked for, 0..1; None takes the one for best accuracy, or else the highest rate known.

    Returns
    -------
    Threshold

    Raises
    ------
    MissingThresholdError
        None is known; the message says how to measure one.

    Warns
    -----
    ThresholdWarning
        The threshold was measured with another detector, or its figures were never reproduced.
    """
    fitting = [row for row in known if row.metric == metric and row.fingerprint == recipe.fingerprint]
    exact = [row for row in fitting if row.far == far] if far is not None else _by_preference(fitting)
    if not exact:
        raise MissingThresholdError(_missing(fitting, model, recipe, metric, far))
    row = next((row for row in exact if row.detector == detector), exact[0])
    if row.detector != detector:
        warnings.warn(
            f"the threshold {row.threshold:.4f} of {model} was measured with the detector {row.detector}, "
            f"not {detector}",
            ThresholdWarning,
            stacklevel=3,
        )
    if not row.reproduced:
        warnings.warn(
            f"the threshold {row.threshold:.4f} of {model} is passed on from its source and was not reproduced: "
            f"{row.source}",
            ThresholdWarning,
            stacklevel=3,
        )
    return Threshold(row.threshold, row.far, f"{row.chosen_for} on {row.dataset}, {row.pairs:,} pairs, {row.source}")


def _by_preference(rows: Sequence[KnownThreshold]) -> list[KnownThreshold]:
    return sorted(rows, key=lambda row: (row.far is not None, -(row.far or 0.0)))


def _missing(fitting: Sequence[KnownThreshold], model: str, recipe: Recipe, metric: str, far: float | None) -> str:
    rates = sorted({row.far for row in fitting if row.far is not None}, reverse=True)
    wanted = f" at a false accept rate of {far:g}" if far is not None else ""
    offered = f" (known rates: {', '.join(f'{rate:g}' for rate in rates)})" if rates else ""
    return (
        f"no {metric} threshold of {model} with the recipe {recipe.name!r} is known{wanted}{offered}: "
        "pass threshold=..., or measure one on your own pairs with `spherecv calibrate`"
    )
