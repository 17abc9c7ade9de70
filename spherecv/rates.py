"""What is known of a pipeline's error rates: what its own calibration holds, or else its model's manifest entry."""

from __future__ import annotations

from spherecv.metrics import Metric
from spherecv.pipeline import FacePipeline
from spherecv.thresholds import Calibration, Threshold, choose_threshold


def check_calibration(calibration: Calibration, pipeline: FacePipeline, metric: Metric) -> None:
    """Refuse a calibration that was measured with another model, recipe, metric or detector.

    Raises
    ------
    CalibrationError
    """
    source = pipeline.embedder.source
    name = pipeline.embedder.name
    calibration.check(model=name, model_key=source.key, metric=metric, detector=pipeline.detector.name)


def threshold_at(
    pipeline: FacePipeline, metric: Metric, far: float | None, calibration: Calibration | None = None
) -> Threshold:
    """Find the threshold for a false accept rate, 0..1, or for None the default one.

    Raises
    ------
    MissingThresholdError
        None is known; the message says which rates are, and how to measure one.
    """
    if calibration is not None:
        return calibration.threshold(far)
    embedder = pipeline.embedder
    return choose_threshold(
        embedder.source.thresholds,
        model=embedder.name,
        recipe=embedder.recipe,
        metric=metric,
        detector=pipeline.detector.name,
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
