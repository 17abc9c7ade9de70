from __future__ import annotations

import warnings
from dataclasses import replace

import pytest

from spherecv.errors import InvalidArgumentError, MissingThresholdError
from spherecv.thresholds import Threshold, ThresholdWarning, choose_threshold
from spherecv.zoo import KnownThreshold, get_recipe

RECIPE = get_recipe("sphereface")
ROW = KnownThreshold(
    metric="cosine",
    threshold=0.6,
    far=None,
    dataset="pairs",
    pairs=1000,
    detector="mtcnn",
    recipe="sphereface",
    fingerprint=RECIPE.fingerprint,
    rate=0.99,
    interval=(0.98, 0.995),
    reproduced=True,
    source="measured here",
)
ROWS = [replace(ROW, threshold=0.4, far=1e-3), replace(ROW, threshold=0.5, far=1e-2), ROW]


def choose(rows, **changes):
    settings = {"model": "net", "recipe": RECIPE, "metric": "cosine", "detector": "mtcnn", "far": None} | changes
    return choose_threshold(rows, **settings)


def test_the_threshold_asked_for_is_found_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose(ROWS).value == 0.6
        assert choose(ROWS, far=1e-3).value == 0.4
        assert choose(ROWS[:2]).value == 0.5
    assert choose(ROWS, far=1e-2).far == 1e-2


def test_a_threshold_of_another_recipe_metric_or_rate_does_not_count() -> None:
    other = replace(RECIPE, mirror=not RECIPE.mirror)
    for changes in ({"recipe": other}, {"metric": "euclidean"}, {"far": 1e-6}):
        with pytest.raises(MissingThresholdError, match="spherecv calibrate"):
            choose(ROWS, **changes)
    with pytest.raises(MissingThresholdError, match=r"known rates: 0\.01, 0\.001"):
        choose(ROWS, far=1e-6)


def test_another_detector_and_unreproduced_figures_warn() -> None:
    with pytest.warns(ThresholdWarning, match="detector mtcnn, not yunet"):
        choose(ROWS, detector="yunet")
    with pytest.warns(ThresholdWarning, match="not reproduced"):
        choose([replace(ROW, reproduced=False)])


def test_a_threshold_is_a_distance() -> None:
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InvalidArgumentError, match="threshold"):
            Threshold(value)
