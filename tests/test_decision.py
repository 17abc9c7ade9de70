from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from spherecv import FacePipeline
from spherecv.config import PipelineConfig
from spherecv.decision import DecisionRule, stated_threshold
from spherecv.errors import CalibrationError, InvalidArgumentError, MissingThresholdError
from spherecv.records import WHOLE
from spherecv.thresholds import CalibratedThreshold, Calibration, ThresholdWarning
from spherecv.zoo import DEFAULT_MODEL


@pytest.fixture(scope="module")
def pipeline() -> FacePipeline:
    return FacePipeline(DEFAULT_MODEL)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_rate_that_is_named_has_a_threshold(pipeline: FacePipeline, metric: str) -> None:
    rule = DecisionRule.of(pipeline, metric=metric)
    rates = rule.known_rates
    assert rates == sorted(rates, reverse=True)
    assert rates[:2] == [1e-2, 1e-3]
    cuts = rule.known_thresholds
    assert [cut.far for cut in cuts] == rates
    assert all(one.value > next_one.value for one, next_one in pairwise(cuts))
    assert rule.threshold.far is None
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.01, 0\.001"):
        rule.threshold_at(0.5)


def test_a_rule_is_settled_when_it_is_made(pipeline: FacePipeline) -> None:
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.01, 0\.001"):
        DecisionRule.of(pipeline, far=0.1)
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.01, 0\.001"):
        DecisionRule.of(PipelineConfig(), far=0.1)  # and before any net is opened
    with pytest.raises(InvalidArgumentError, match="not both"):
        DecisionRule.of(pipeline, far=0.01, threshold=0.5)
    assert DecisionRule.of(pipeline, far=0.01).threshold.far == 0.01
    assert DecisionRule.of(pipeline, threshold=0.5).threshold.value == 0.5


def test_where_nothing_is_known_a_rule_measures_and_decides_nothing(pipeline: FacePipeline) -> None:
    unknown = pipeline.with_recipe(replace(pipeline.source.recipe, mean=(1.0, 2.0, 3.0)))
    rule = DecisionRule.of(unknown)
    assert rule.distance(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
    assert rule.prior is None
    assert rule.probability(0.1) is None
    assert rule.known_thresholds == []
    with pytest.raises(MissingThresholdError, match="spherecv calibrate"):
        _ = rule.threshold


def test_a_threshold_may_be_stated_but_not_beside_a_rate() -> None:
    assert stated_threshold(None, 1e-3) is None
    stated = stated_threshold(0.25, None)
    assert stated is not None
    assert stated.value == 0.25
    assert stated_threshold(stated, None) is stated
    with pytest.raises(InvalidArgumentError, match="not both"):
        stated_threshold(0.25, 1e-3)
    with pytest.raises(InvalidArgumentError, match="threshold must be a distance"):
        stated_threshold(-1.0, None)


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
    rule = DecisionRule.of(pipeline)
    assert rule.detector_used("center") == "mtcnn"
    assert rule.detector_used("whole") == WHOLE
    with pytest.warns(ThresholdWarning, match="on whole images as crops"):
        rule.threshold_at(1e-2, face="whole")
    measured = DecisionRule.of(pipeline, calibration=calibration(pipeline, "mtcnn"))
    with pytest.raises(CalibrationError, match="with the detector mtcnn, not whole"):
        measured.threshold_at(None, face="whole")
    assert measured.threshold.value == 0.5


def test_a_calibration_of_crops_warns_where_a_detector_is_used_and_only_there(pipeline: FacePipeline) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rule = DecisionRule.of(pipeline, calibration=calibration(pipeline, WHOLE))
        assert rule.threshold_at(None, face="whole").value == 0.5
        measured = calibration(pipeline, WHOLE)
        measured = replace(measured, thresholds=(replace(measured.thresholds[0], far=0.1),))
        asked = DecisionRule.of(pipeline, calibration=measured, far=0.1)
        assert asked.threshold_at(None, face="whole").value == 0.5
    with pytest.raises(MissingThresholdError, match="no threshold for FAR"):
        DecisionRule.of(pipeline, calibration=calibration(pipeline, WHOLE), far=1e-5)
    with pytest.warns(ThresholdWarning, match="ready-made crops; mtcnn may cut faces otherwise"):
        assert rule.threshold.value == 0.5


def test_arguments_of_the_wrong_type_or_range_are_refused(pipeline: FacePipeline) -> None:
    with pytest.raises(InvalidArgumentError, match="far must be a number"):
        DecisionRule.of(pipeline, far=float("nan"))
    with pytest.raises(InvalidArgumentError, match="calibration must be"):
        DecisionRule.of(pipeline, calibration=3)
    with pytest.raises(InvalidArgumentError, match="prior must be a number"):
        DecisionRule.of(pipeline, prior=1.0)
