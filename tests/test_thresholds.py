from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from spherecv.errors import CalibrationError, InvalidArgumentError, MissingThresholdError
from spherecv.records import detector_text
from spherecv.thresholds import CalibratedThreshold, Calibration, Threshold, ThresholdWarning, choose_threshold
from spherecv.zoo import KnownThreshold, get_recipe
from spherecv.zoo.model import KnownPrecision, Shift
from spherecv.zoo.probability import ProbabilityCurve

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


def test_a_threshold_for_best_accuracy_says_its_false_accept_rate() -> None:
    best = choose([replace(ROW, measured_far=0.0174)])
    assert (best.far, best.measured_far, best.rate) == (None, 0.0174, 0.0174)
    assert choose(ROWS).rate is None
    assert choose(ROWS, far=1e-2).rate == 1e-2


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


def test_which_threshold_is_taken_when_none_was_measured_with_the_detector_in_use() -> None:
    """The one for best accuracy, or else the highest rate; of those alike the first; but one's own detector first."""
    best, loose, strict = ROW, replace(ROW, threshold=0.5, far=1e-2), replace(ROW, threshold=0.4, far=1e-3)
    whole = replace(ROW, threshold=0.55, far=1e-2, detector="whole")
    for rows, taken in (
        ([strict, loose, best], best),
        ([strict, loose], loose),
        ([strict, whole, loose], whole),
        ([best, replace(strict, detector="yunet")], replace(strict, detector="yunet")),
    ):
        for far in (None, taken.far) if taken.far else (None,):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                chosen = choose(rows, detector="yunet", far=far)
            assert (chosen.value, chosen.far) == (taken.threshold, taken.far)
            assert [type(warning.message) for warning in caught] == [ThresholdWarning] * (taken.detector != "yunet")


def test_a_warning_names_both_detectors_and_the_line_of_the_caller() -> None:
    with pytest.warns(ThresholdWarning, match="the detector mtcnn, not on whole images as crops") as caught:
        choose(ROWS, detector="whole")
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(ThresholdWarning, match="measured here") as caught:
        choose([replace(ROW, reproduced=False)])
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(ThresholdWarning, match="yunet may cut faces otherwise") as caught:
        check(calibration(detector="whole"), detector="yunet")
    assert [warning.filename for warning in caught] == [__file__]
    assert detector_text("whole") == "no detector, whole images as crops"
    assert detector_text("yunet") == "detector yunet"


def test_a_threshold_is_a_distance() -> None:
    assert Threshold(0.0).value == 0.0
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InvalidArgumentError, match="threshold"):
            Threshold(value)


KEY = f"0123456789abcdef-{RECIPE.fingerprint}"


def test_a_changed_digit_of_a_calibration_is_said(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    place = tmp_path / "c.toml"
    calibration().save(place)
    assert Calibration.load(place) == calibration()
    text = place.read_text()
    place.write_text(text.replace("\n", "\r\n"), newline="")  # as an editor on Windows leaves it
    Calibration.load(place)
    place.write_text("".join(line for line in text.splitlines(True) if "digest" not in line))  # of an earlier version
    Calibration.load(place)
    assert not recwarn.list
    assert "threshold = 0.5" in text
    place.write_text(text.replace("threshold = 0.5", "threshold = 0.4"))
    with pytest.warns(ThresholdWarning, match="edited or damaged"):
        assert Calibration.load(place).thresholds[1].threshold == 0.4


def calibration(**changes) -> Calibration:
    row = CalibratedThreshold(
        chosen_for="FAR 0.01",
        threshold=0.1 + 0.2,  # no short decimal
        far=0.01,
        measured_far=0.0099,
        far_interval=(0.008, 0.012),
        measured_tar=0.97,
        tar_interval=(0.95, 0.98),
        false_accepts=99,
    )
    curve = ProbabilityCurve(method="logistic", distances=(0.1, 0.9), log_ratios=(4.0, -4.0), ece={"logistic": 0.01})
    values = {
        "model": "net",
        "model_key": KEY,
        "recipe": RECIPE,
        "metric": "cosine",
        "detector": "mtcnn",
        "face": "largest",
        "no_face": "skip",
        "dataset": "Eingang \"Nord\"\n2026",
        "impostor_pairs_from": "listed pairs",
        "genuine": 500,
        "impostors": 10_000,
        "identities": 70,
        "images": 900,
        "failed": 3,
        "thresholds": (row, replace(row, chosen_for="EER", far=None, threshold=0.5)),
        "probability": curve,
        "notes": ("one",),
    }
    return Calibration(**values | changes)


def check(given: Calibration, **changes) -> None:
    given.check(**{"model": "net", "model_key": KEY, "metric": "cosine", "detector": "mtcnn"} | changes)


def test_a_calibration_is_read_back_to_the_last_digit(tmp_path) -> None:
    for given in (calibration(), calibration(probability=None, notes=(), dataset="\x7f\u00e4")):
        given.save(tmp_path / "door.toml")
        assert Calibration.load(tmp_path / "door.toml") == given


def test_a_calibration_gives_thresholds_with_their_source() -> None:
    given = calibration()
    assert (given.threshold().value, given.threshold().far) == (0.1 + 0.2, 0.01)
    assert given.threshold(0.01) == given.threshold()
    assert "FAR 0.01 on Eingang" in given.threshold().source
    assert "500 genuine and 10,000 impostor pairs" in given.threshold().source
    with pytest.raises(MissingThresholdError, match=r"FAR 0\.001 \(known rates: 0\.01\).*calibrate --far"):
        given.threshold(0.001)


def test_a_calibration_refuses_what_it_was_not_measured_on() -> None:
    check(calibration())
    other = replace(RECIPE, mirror=not RECIPE.mirror).fingerprint
    for changes, what in (
        ({"model_key": f"ffffffffffffffff-{RECIPE.fingerprint}"}, "other files"),
        ({"model_key": f"0123456789abcdef-{other}"}, "recipe"),
        ({"metric": "euclidean"}, "metric cosine, not euclidean"),
        ({"detector": "yunet"}, "detector mtcnn, not yunet"),
    ):
        with pytest.raises(CalibrationError, match=what):
            check(calibration(), **changes)
    with pytest.warns(ThresholdWarning, match="ready-made crops"):
        check(calibration(detector="whole"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(calibration(detector="whole"), detector="whole")  # as measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "not a calibration of format 1"),
        (lambda text: text.replace("format = 1", "format = 2"), "not a calibration of format 1"),
        (lambda text: text[:200], "is not"),
        (lambda text: text.replace('metric = "cosine"', 'metric = "fuzzy"'), "metric must be one of"),
        (lambda text: text.replace("mirror = true", "mirror = false"), "recipe is not the one that its key names"),
        (lambda text: text.replace("threshold = 0.5", "threshold = -0.5"), "threshold must be a distance"),
        (lambda text: text.replace("genuine = 500\n", ""), "not a whole calibration"),
        (lambda text: text.replace("[probability]", "[probability]\nnonsense = 1"), "not a whole calibration"),
        (lambda text: text.replace("    4.0,\n    -4.0,", "    -4.0,\n    4.0,"), "falling log_ratios"),
    ],
)
def test_a_damaged_calibration_says_what_is_wrong(tmp_path, change, message: str) -> None:
    path = tmp_path / "door.toml"
    calibration().save(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(CalibrationError, match=message) as caught:
        Calibration.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_calibration_is_named(tmp_path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        Calibration.load(tmp_path / "none.toml")


def test_in_another_precision_a_threshold_holds_where_its_shift_was_measured() -> None:
    loss = KnownPrecision(
        precision="bfloat16", recipe="sphereface", fingerprint=RECIPE.fingerprint, backends=("openvino",), dataset="x",
        detector="mtcnn", accuracy=(0.98, 0.98), tar=(0.9, 0.9), cosine=(1.0, 1.0), source="x",
        shifts=(Shift(metric="cosine", threshold=0.4, far=1e-3, measured=1.1e-3, mixed=1e-3),),
    )  # fmt: skip
    found = choose(ROWS, far=1e-3, precision="bfloat16", loss=loss)
    assert found.value == 0.4
    assert "in bfloat16 its false accept rate is 0.0011, in float32 0.001" in found.source
    assert "float32" not in choose(ROWS, far=1e-3).source
    for settings in ({"far": 1e-2, "loss": loss}, {"far": 1e-3}):
        with pytest.raises(MissingThresholdError, match="nobody measured what becomes of their false accept rates"):
            choose(ROWS, precision="bfloat16", **settings)


def test_a_loss_is_small_and_comparable_within_stated_bounds() -> None:
    shift = Shift(metric="cosine", threshold=0.4, far=1e-3, measured=1e-3, mixed=1.05e-3)
    loss = KnownPrecision(
        precision="int8", recipe="sphereface", fingerprint="x", backends=("openvino",), dataset="x", detector="mtcnn",
        accuracy=(0.98, 0.979), tar=(0.9, 0.897), cosine=(1.0, 1.0), source="x", shifts=(shift,),
    )  # fmt: skip
    assert loss.is_small
    assert not replace(loss, accuracy=(0.98, 0.9788)).is_small
    assert not replace(loss, tar=(0.9, 0.896)).is_small
    assert loss.is_comparable
    assert not replace(loss, shifts=(replace(shift, mixed=1.2e-3),)).is_comparable
    assert replace(loss, shifts=(shift, replace(shift, far=1e-5, mixed=2e-5))).is_comparable
    assert not replace(loss, shifts=(replace(shift, far=1e-5),)).is_comparable


def test_a_calibration_holds_for_its_precision() -> None:
    made = calibration()
    files, _, recipe = made.model_key.partition("-")
    with pytest.raises(CalibrationError, match="with the precision float32, not bfloat16"):
        check(made, model_key=f"{files}+bfloat16-{recipe}")
