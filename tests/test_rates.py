from __future__ import annotations

from itertools import pairwise

import pytest

from spherecv import FacePipeline
from spherecv.errors import CalibrationError, InvalidArgumentError, MissingThresholdError
from spherecv.rates import detector_used, measured_rates, open_calibration, threshold_at
from spherecv.records import WHOLE
from spherecv.thresholds import CalibratedThreshold, Calibration, ThresholdWarning
from spherecv.zoo import DEFAULT_MODEL


@pytest.fixture(scope="module")
def pipeline() -> FacePipeline:
    return FacePipeline(DEFAULT_MODEL)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_rate_that_is_named_has_a_threshold(pipeline: FacePipeline, metric: str) -> None:
    rates = measured_rates(pipeline, metric)
    assert rates == sorted(rates, reverse=True)
    assert rates[:2] == [1e-2, 1e-3]
    cuts = [threshold_at(pipeline, metric, far) for far in rates]
    assert [cut.far for cut in cuts] == rates
    assert all(one.value > next_one.value for one, next_one in pairwise(cuts))
    assert threshold_at(pipeline, metric, None).far is None
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.01, 0\.001"):
        threshold_at(pipeline, metric, 0.5)


def calibration(pipeline: FacePipeline, detector: str) -> Calibration:
    row = CalibratedThreshold(
        chosen_for="EER", threshold=0.5, measured_far=0.1, far_interval=(0, 1), measured_tar=0.9, tar_interval=(0, 1),
        false_accepts=30,
    )  # fmt: skip
    net = pipeline.embedder.source
    return Calibration(
        model=net.name, model_key=net.key, recipe=net.recipe, metric="cosine", detector=detector, face="largest",
        no_face="skip", dataset="our doors", impostor_pairs_from="listed pairs", genuine=9, impostors=9, identities=9,
        images=9, failed=0, thresholds=(row,),
    )  # fmt: skip


def test_thresholds_measured_with_a_detector_are_not_those_of_whole_images(pipeline: FacePipeline) -> None:
    assert detector_used(pipeline, "center") == "mtcnn"
    assert detector_used(pipeline, "whole") == WHOLE
    with pytest.warns(ThresholdWarning, match="on whole images as crops"):
        threshold_at(pipeline, "cosine", 1e-2, face="whole")
    with pytest.raises(CalibrationError, match="with the detector mtcnn, not whole"):
        threshold_at(pipeline, "cosine", None, calibration(pipeline, "mtcnn"), face="whole")
    assert threshold_at(pipeline, "cosine", None, calibration(pipeline, "mtcnn")).value == 0.5
    assert threshold_at(pipeline, "cosine", None, calibration(pipeline, WHOLE), face="whole").value == 0.5


def test_what_is_no_rate_and_no_calibration_is_refused(pipeline: FacePipeline) -> None:
    with pytest.raises(InvalidArgumentError, match="far must be a number"):
        threshold_at(pipeline, "cosine", float("nan"))
    with pytest.raises(InvalidArgumentError, match="calibration must be"):
        open_calibration(3)
    assert open_calibration(None) is None
