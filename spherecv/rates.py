"""What is known of a pipeline's error rates: what its own calibration holds, or else its model's manifest entry."""

from __future__ import annotations

import os

from spherecv.checks import check_path, check_rate
from spherecv.metrics import Metric
from spherecv.pipeline import FacePipeline, WhichFace
from spherecv.records import WHOLE
from spherecv.thresholds import Calibration, Threshold, choose_threshold


def open_calibration(calibration: Calibration | str | os.PathLike[str] | None) -> Calibration | None:
    """Read a calibration where a path is given.

    Raises
    ------
    InvalidArgumentError, CalibrationError
    """
    if calibration is None or isinstance(calibration, Calibration):
        return calibration
    check_path("calibration must be a Calibration or the path of one", calibration)
    return Calibration.load(calibration)


def check_calibration(
    calibration: Calibration, pipeline: FacePipeline, metric: Metric, face: WhichFace = "largest"
) -> None:
    """Refuse a calibration that was measured with another model, recipe, metric or detector.

    Raises
    ------
    CalibrationError
    """
    embedder, detector = pipeline.embedder, detector_used(pipeline, face)
    calibration.check(model=embedder.name, model_key=embedder.source.key, metric=metric, detector=detector)


def detector_used(pipeline: FacePipeline, face: WhichFace) -> str:
    """Name what finds the faces: the pipeline's detector, or `WHOLE` where images are taken as ready-made crops."""
    return WHOLE if face == "whole" else pipeline.detector.name


def threshold_at(
    pipeline: FacePipeline,
    metric: Metric,
    far: float | None,
    calibration: Calibration | None = None,
    *,
    face: WhichFace = "largest",
) -> Threshold:
    """Find the threshold for a false accept rate, 0..1, or for None the default one.

    Raises
    ------
    InvalidArgumentError
        The rate is none.
    MissingThresholdError
        None is known; the message says which rates are, and how to measure one.
    CalibrationError
        The calibration was measured with a detector, and with `face="whole"` there is none.

    Warns
    -----
    ThresholdWarning
        The model's threshold was measured with another detector, or with one where there is none.
    """
    if far is not None:
        check_rate("far", far)
    if calibration is not None:
        if face == "whole" and calibration.detector != WHOLE:
            check_calibration(calibration, pipeline, metric, face)
        return calibration.threshold(far)
    embedder = pipeline.embedder
    return choose_threshold(
        embedder.source.thresholds,
        model=embedder.name,
        recipe=embedder.recipe,
        metric=metric,
        detector=detector_used(pipeline, face),
        far=far,
    )


def measured_rates(pipeline: FacePipeline, metric: Metric, calibration: Calibration | None = None) -> list[float]:
    """Return the false accept rates, 0..1, for which a threshold is known, highest first."""
    if calibration is not None:
        rates = {row.far for row in calibration.thresholds}
    else:
        embedder = pipeline.embedder
        fingerprint = embedder.recipe.fingerprint
        known = [row for row in embedder.source.thresholds if row.fingerprint == fingerprint]
        rates = {row.far for row in known if row.metric == metric}
    return sorted((far for far in rates if far is not None), reverse=True)
