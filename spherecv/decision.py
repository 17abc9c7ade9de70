"""DecisionRule: which distance counts as the same person for one pipeline, and what is known of its error rates."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherecv import metrics
from spherecv.checks import check_distance, check_path, check_rate
from spherecv.errors import InvalidArgumentError, MissingThresholdError
from spherecv.metrics import Metric, check_metric
from spherecv.pipeline import WhichFace
from spherecv.records import WHOLE
from spherecv.thresholds import Calibration, Threshold, ThresholdWarning, choose_threshold
from spherecv.zoo.probability import ProbabilityCurve

if TYPE_CHECKING:
    from spherecv.config import Stages
    from spherecv.zoo import ModelSource


@dataclass(frozen=True)
class DecisionRule:
    """Metric, threshold and probability for one pipeline, settled when it is made.

    Made by `DecisionRule.of`.

    Attributes
    ----------
    metric : {"cosine", "euclidean"}
    given : Threshold or None
        The threshold that the caller stated.
    far : float or None
        The false accept rate asked for, 0..1; None for the threshold of best accuracy.
    calibration : Calibration or None
        In place of what the manifest knows.
    """

    metric: Metric
    given: Threshold | None
    far: float | None
    calibration: Calibration | None
    _prior: float = field(repr=False)
    _source: ModelSource = field(repr=False)
    _detector: str = field(repr=False)
    _settled: dict[bool, Threshold] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        stages: Stages,
        *,
        metric: str = "cosine",
        threshold: float | Threshold | None = None,
        far: float | None = None,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        prior: float = 0.5,
    ) -> DecisionRule:
        """Settle how a pipeline decides.

        Parameters
        ----------
        stages : PipelineConfig or FacePipeline
        metric : {"cosine", "euclidean"}
        threshold : float or Threshold, optional
            The largest distance that counts as the same person. By default the one that the manifest knows.
        far : float, optional
            Ask for the threshold that was measured at this false accept rate, 0..1.
        calibration : Calibration or path, optional
            What `spherecv calibrate` wrote for this model, recipe, metric and detector: its thresholds and
            probabilities in place of the manifest's.
        prior : float
            Share of genuine pairs among all that will be compared, 0..1 exclusive, for the probability.

        Returns
        -------
        DecisionRule
            Where nothing was asked for and nothing is known, it measures distances and decides nothing.

        Raises
        ------
        InvalidArgumentError
            A threshold and a rate; or a value of the wrong type or range.
        MissingThresholdError
            No threshold is known at the rate asked for; the message names the known rates.
        CalibrationError
            The calibration was measured with another model, recipe, metric or detector.
        """
        checked = check_metric(metric)
        rule = cls(
            metric=checked,
            given=stated_threshold(threshold, far),
            far=None if far is None else check_rate("far", far),
            calibration=open_calibration(calibration) or _models_own(stages, checked),
            _prior=check_rate("prior", prior),
            _source=stages.source,
            _detector=stages.detector_name,
        )
        if rule.calibration is not None:
            # Of one that was measured on crops it is not known yet whether faces will be looked for: `_look_up` warns.
            whole = rule.calibration.detector == WHOLE
            rule._check_calibration(rule.calibration, WHOLE if whole else stages.detector_name)
            if far is not None:
                rule.calibration.threshold(far)
        elif far is not None:
            rule.threshold_at(None)
        return rule

    @property
    def threshold(self) -> Threshold:
        """The threshold in use, with its provenance; raises `MissingThresholdError` where none is known."""
        return self.threshold_at(None)

    def threshold_at(self, far: float | None, *, face: WhichFace = "largest") -> Threshold:
        """Look up the threshold that was measured at a false accept rate, 0..1; for None, the one in use.

        Raises
        ------
        InvalidArgumentError
            The rate is not within 0..1.
        MissingThresholdError
            None is known; the message says which rates are, and how to measure one.
        CalibrationError
            With `face="whole"`, of a calibration that was measured with a detector.

        Warns
        -----
        ThresholdWarning
            The threshold was measured with another detector, or with one where there is none, or on ready-made crops
            where there is one.
        """
        whole = face == "whole"
        if far is not None:
            return self._look_up(check_rate("far", far), whole)
        if self.given is not None:
            return self.given
        if whole not in self._settled:
            self._settled[whole] = self._look_up(self.far, whole)
        return self._settled[whole]

    @property
    def known_rates(self) -> list[float]:
        """The false accept rates, 0..1, for which a threshold is known, highest first."""
        if self.calibration is not None:
            rates = {row.far for row in self.calibration.thresholds}
        else:
            fingerprint = self._source.recipe.fingerprint
            known = [row for row in self._source.thresholds if row.fingerprint == fingerprint]
            rates = {row.far for row in known if row.metric == self.metric}
        return sorted((far for far in rates if far is not None), reverse=True)

    @property
    def known_thresholds(self) -> list[Threshold]:
        """Thresholds that were measured at a false accept rate, highest rate first."""
        return [self._look_up(far, False) for far in self.known_rates]

    @property
    def usual_distance(self) -> float | None:
        """Within which faces of one person mostly lie, whatever was asked for; None where nothing is known.

        It is the threshold of best accuracy, or that of the highest rate known, or the one that was given.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ThresholdWarning)  # it decides nothing
            try:
                if self.calibration is None:
                    return self._look_up(None, False).value
                rows = {row.chosen_for: row.threshold for row in self.calibration.thresholds}
                return rows.get("best accuracy", self.calibration.thresholds[0].threshold)
            except MissingThresholdError:
                return None if self.given is None else self.given.value

    @property
    def prior(self) -> float | None:
        """The share of genuine pairs that probabilities assume, 0..1; None where no probability can be given."""
        return self._prior if self._curve is not None else None

    def probability(self, distance: float) -> float | None:
        """Return the probability that a distance is of one person, 0..1; None where none can be given."""
        curve = self._curve
        return None if curve is None else curve.probability(distance, self._prior)

    def distance(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """Measure the distance between two embeddings, each of shape (D,)."""
        return float(metrics.distance(first, second, self.metric)[0])

    def detector_used(self, face: WhichFace) -> str:
        """Name what finds the faces: the pipeline's detector, or `WHOLE` where images are taken as crops."""
        return WHOLE if face == "whole" else self._detector

    @property
    def _curve(self) -> ProbabilityCurve | None:
        return self.calibration.probability if self.calibration else self._source.probability(self.metric)

    def _look_up(self, far: float | None, whole: bool) -> Threshold:
        detector = WHOLE if whole else self._detector
        if self.calibration is not None:
            if whole != (self.calibration.detector == WHOLE):
                self._check_calibration(self.calibration, detector)
            return self.calibration.threshold(far)
        return choose_threshold(
            self._source.thresholds,
            model=self._source.name,
            recipe=self._source.recipe,
            metric=self.metric,
            detector=detector,
            far=far,
            precision=self._source.precision,
            loss=self._source.loss,
        )

    def _check_calibration(self, calibration: Calibration, detector: str) -> None:
        source = self._source
        calibration.check(model=source.name, model_key=source.key, metric=self.metric, detector=detector)


def _models_own(stages: Stages, metric: Metric) -> Calibration | None:
    """What the user measured of a model of their own, where it was with this metric and detector."""
    path = stages.source.calibration
    measured = None if path is None else Calibration.load(path)
    if measured is None or measured.metric != metric or measured.detector not in (stages.detector_name, WHOLE):
        return None
    return measured


def stated_threshold(threshold: float | Threshold | None, far: float | None) -> Threshold | None:
    """Take a threshold that a caller states, if any; raises `InvalidArgumentError` for a rate beside it."""
    if threshold is not None and far is not None:
        raise InvalidArgumentError("give threshold (--threshold) or far (--far), not both")
    if threshold is None or isinstance(threshold, Threshold):
        return threshold
    return Threshold(check_distance("threshold", threshold))


def open_calibration(calibration: Calibration | str | os.PathLike[str] | Any | None) -> Calibration | None:
    """Read a calibration where a path is given.

    Raises
    ------
    InvalidArgumentError, CalibrationError
    """
    if calibration is None or isinstance(calibration, Calibration):
        return calibration
    check_path("calibration must be a Calibration or the path of one", calibration)
    return Calibration.load(calibration)
