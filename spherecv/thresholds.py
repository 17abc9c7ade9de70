"""Threshold lookup, and calibrations: distances that count as the same person, each with its provenance."""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from spherecv.brief import brief
from spherecv.errors import CalibrationError, InvalidArgumentError, MissingThresholdError
from spherecv.files import read_toml, without_none, write_toml
from spherecv.metrics import Metric, check_metric
from spherecv.records import WHOLE
from spherecv.zoo import KnownThreshold, Recipe, is_earlier
from spherecv.zoo.key import ModelKey
from spherecv.zoo.model import KnownPrecision
from spherecv.zoo.probability import ProbabilityCurve

FORMAT = 1
"""Of calibration files; a number that this version does not know is refused."""


_DIGEST = re.compile(rb"^# digest: ([0-9a-f]{64})\r?$", re.MULTILINE)
"""A comment, so that earlier versions read the file, too."""

GIVEN = "given by the caller"
"""The source of a threshold that nobody measured here."""


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
        What it was measured on, in words, or that the caller gave it.
    measured_far : float or None
        The false accept rate that was measured at a threshold chosen for something else, 0..1.
    """

    value: float
    far: float | None = None
    source: str = GIVEN
    measured_far: float | None = None

    @property
    def rate(self) -> float | None:
        """The false accept rate that is known of it, 0..1, whatever it was chosen for."""
        return self.measured_far if self.far is None else self.far

    def __post_init__(self) -> None:
        if not 0.0 <= self.value < float("inf"):
            raise InvalidArgumentError(f"threshold must be a distance of 0 or more, but got {self.value}")


def choose_threshold(
    known: Sequence[KnownThreshold],
    *,
    model: str,
    recipe: Recipe,
    metric: Metric,
    detector: str,
    far: float | None,
    precision: str = "float32",
    loss: KnownPrecision | None = None,
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
    precision : str
        In use. Thresholds are of float32, and used in another one only where their shift was measured.
    loss : KnownPrecision, optional
        What was measured of the precision.

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
        raise MissingThresholdError(_missing(fitting, model, recipe, metric, far), advice=_ADVICE)
    row = next((row for row in exact if row.detector == detector), exact[0])
    if row.detector != detector:
        used = "on whole images as crops" if detector == WHOLE else detector
        warnings.warn(
            f"the threshold {row.threshold:.4f} of {model} was measured with the detector {row.detector}, not {used}",
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
    source = f"{row.chosen_for} on {row.dataset}, {row.pairs:,} pairs, {row.source}"
    if precision != "float32":
        shift = None if loss is None else loss.shift(metric, row.threshold)
        if shift is None:
            raise MissingThresholdError(
                f"the thresholds of {model} were measured in float32, and nobody measured what becomes of their false "
                f"accept rates in {precision}",
                advice=": take precision='float32' (--precision float32), pass threshold= (--threshold), or measure "
                "one with `spherecv calibrate --precision`",
            )
        source += f"; in {precision} its false accept rate is {shift.measured:.3g}, in float32 {shift.far:.3g}"
    return Threshold(row.threshold, row.far, source, row.measured_far)


_ADVICE = ": pass threshold= (--threshold), or measure one on your own pairs with `spherecv calibrate`"


def _by_preference(rows: Sequence[KnownThreshold]) -> list[KnownThreshold]:
    return sorted(rows, key=lambda row: (row.far is not None, -(row.far or 0.0)))


def _missing(fitting: Sequence[KnownThreshold], model: str, recipe: Recipe, metric: str, far: float | None) -> str:
    rates = sorted({row.far for row in fitting if row.far is not None}, reverse=True)
    wanted = f" at a false accept rate of {far:g}" if far is not None else ""
    offered = f" (known rates: {', '.join(f'{rate:g}' for rate in rates)})" if rates else ""
    return f"no {metric} threshold of {model} with the recipe {recipe.name!r} is known{wanted}{offered}"


@dataclass(frozen=True, kw_only=True)
class CalibratedThreshold:
    """A threshold that was measured on pairs of the user's own.

    Attributes
    ----------
    chosen_for : str
        `"FAR 0.001"`, `"EER"`, `"best accuracy"` or `"information gain"`.
    threshold : float
        The largest distance that counts as the same person.
    far : float or None
        The false accept rate asked for, 0..1; None where it was chosen for something else.
    measured_far, measured_tar : float
        Shares of the impostor and of the genuine pairs accepted at it, 0..1.
    far_interval, tar_interval : (float, float)
        95 %, identities resampled.
    false_accepts : int
        Impostor pairs accepted at it.
    """

    chosen_for: str
    threshold: float
    far: float | None = None
    measured_far: float
    far_interval: tuple[float, float]
    measured_tar: float
    tar_interval: tuple[float, float]
    false_accepts: int

    __repr__ = brief


def accepted_text(row: CalibratedThreshold, impostors: int) -> str:
    """Write a measured false accept rate: of none that was seen, in how many pairs, and up to what it may be."""
    low, high = row.far_interval
    if not row.false_accepts:
        return f"0 of {impostors:,} impostor pairs accepted (95 %: up to {100 * high:.2g} %)"
    return f"FAR {row.measured_far:.2e} ({low:.1e} to {high:.1e}, {row.false_accepts:,} false accepts)"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured of one model, recipe, metric and detector on some pairs; `spherecv calibrate` writes it.

    Attributes
    ----------
    model, model_key : str
        Its name, and `ModelSource.key`: the hash of its files and of its recipe.
    recipe : Recipe
    metric : {"cosine", "euclidean"}
    detector : str
        Name of the detector, or `"whole"` for ready-made crops.
    face, no_face : str
        Which of several faces counted, and what was done with images without one.
    dataset : str
        What the pairs are, in words.
    impostor_pairs_from : str
        `"listed pairs"` or `"all pairs of different people"`.
    genuine, impostors, identities, images, failed : int
        How many pairs, people and images, and images that could not be used.
    thresholds : tuple of CalibratedThreshold
        The first is the default.
    probability : ProbabilityCurve or None
    notes : tuple of str
    created, version : str
        When, and by which version of SphereCV.
    """

    model: str
    model_key: str
    recipe: Recipe
    metric: Metric
    detector: str
    face: str
    no_face: str
    dataset: str
    impostor_pairs_from: str
    genuine: int
    impostors: int
    identities: int
    images: int
    failed: int
    thresholds: tuple[CalibratedThreshold, ...]
    probability: ProbabilityCurve | None = None
    notes: tuple[str, ...] = ()
    created: str = ""
    version: str = ""

    __repr__ = brief

    def check(self, *, model: str, model_key: str, metric: str, detector: str) -> None:
        """Refuse to be used where it was not measured.

        Raises
        ------
        CalibrationError
            Another model, recipe, metric or detector.

        Warns
        -----
        ThresholdWarning
            It was measured on ready-made crops, and a detector is used: what cut those is not known.
        """
        own, other = ModelKey.of(self.model_key), ModelKey.of(model_key)
        if own.files != other.files and is_earlier(model, self.model_key):
            raise CalibrationError(
                f"the calibration is of an earlier edition of {model}, which embeds otherwise: measure again with "
                "`spherecv calibrate`"
            )
        if own.files != other.files:
            raise CalibrationError(f"the calibration is of the model {self.model}, with other files than {model}")
        for what, mine, theirs in (
            ("recipe", own.recipe, other.recipe),
            ("precision", own.precision, other.precision),
            ("metric", self.metric, metric),
            ("detector", self.detector, detector if self.detector != WHOLE else WHOLE),
        ):
            if mine != theirs:
                raise CalibrationError(
                    f"the calibration of {self.model} was measured with the {what} {mine}, not {theirs}: "
                    "use that, or measure again with `spherecv calibrate`"
                )
        if self.detector == WHOLE and detector != WHOLE:
            warnings.warn(
                f"the calibration was measured on ready-made crops; {detector} may cut faces otherwise",
                ThresholdWarning,
                stacklevel=3,
            )

    def threshold(self, far: float | None = None) -> Threshold:
        """Give the threshold for a false accept rate, or the default.

        Raises
        ------
        MissingThresholdError
            The rate was not measured; the message lists those that were.
        """
        for row in self.thresholds:
            if far is None or (row.far is not None and math.isclose(row.far, far, rel_tol=1e-9)):
                counts = f"{self.genuine:,} genuine and {self.impostors:,} impostor pairs"
                source = f"{row.chosen_for} on {self.dataset}, {counts}, calibrated"
                if not row.false_accepts:
                    source += f", {accepted_text(row, self.impostors)}"
                return Threshold(row.threshold, row.far, source, row.measured_far)
        known = ", ".join(f"{row.far:g}" for row in self.thresholds if row.far is not None) or "none"
        raise MissingThresholdError(
            f"the calibration of {self.model} holds no threshold for FAR {far:g} (known rates: {known})",
            advice=": measure it with `spherecv calibrate --far`",
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration as TOML, whole or not at all; raises `StorageError` where that fails."""
        table = {"format": FORMAT, **asdict(self), "recipe": self.recipe.to_dict()}
        scope = "for this model, recipe, metric and detector only"
        comment = f"Written by `spherecv calibrate`: {scope}."
        write_toml(path, table, comment=f"{comment}\n# digest: {_digest(without_none(table))}")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read a calibration.

        Raises
        ------
        CalibrationError
            No such file, not TOML, not a calibration, or of a later format.

        Warns
        -----
        ThresholdWarning
            Its values are not those that were written: edited, or damaged.
        """
        file = Path(path)
        values = read_toml(file, CalibrationError)
        told = _DIGEST.search(file.read_bytes())
        if told is not None and told[1].decode() != _digest(values):  # files of earlier versions have none
            text = f"{file} is not what `spherecv calibrate` wrote: a value was edited or damaged; measure again"
            warnings.warn(text, ThresholdWarning, stacklevel=2)
        stated = values.pop("format", None)
        if isinstance(stated, bool) or stated != FORMAT:  # true == 1
            raise CalibrationError(f"{file} is not a calibration of format {FORMAT}: measure again")
        try:
            return _from_table(values)
        except (InvalidArgumentError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise CalibrationError(f"{file} is not a whole calibration: {error}") from None


def _digest(table: dict[str, Any]) -> str:
    return sha256(json.dumps(table, sort_keys=True, default=str).encode()).hexdigest()


def _from_table(values: dict[str, Any]) -> Calibration:
    thresholds = tuple(
        CalibratedThreshold(
            **{**row, "far_interval": tuple(row["far_interval"]), "tar_interval": tuple(row["tar_interval"])}
        )
        for row in values.pop("thresholds")
    )
    for row in thresholds:
        Threshold(row.threshold, row.far)  # a distance, as anywhere
    if not thresholds:
        raise ValueError("it holds no threshold")
    curve = values.pop("probability", None)
    if curve is not None:
        curve = ProbabilityCurve(
            **{**curve, "distances": tuple(curve["distances"]), "log_ratios": tuple(curve["log_ratios"])}
        )
    metric = check_metric(values.pop("metric"))
    recipe, notes = Recipe.from_dict(values.pop("recipe")), tuple(values.pop("notes", ()))
    calibration = Calibration(
        **values, metric=metric, recipe=recipe, notes=notes, thresholds=thresholds, probability=curve
    )
    if calibration.model_key.split("-")[-1] != recipe.fingerprint:
        raise ValueError("its recipe is not the one that its key names")
    return calibration
