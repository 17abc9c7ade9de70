from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as oracle

from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.allpairs import compare_all
from spherecv.evaluate.curves import (
    allowed_false_accepts,
    area_under,
    best_accuracy,
    between,
    checked_pairs,
    equal_error,
    require_support,
    roc_curve,
    supported_rates,
    tar_at_far,
)
from spherecv.evaluate.intervals import percentiles


def random_pairs(seed: int, size: int = 500, decimals: int = 2):
    generator = np.random.default_rng(seed)
    same = generator.random(size) < 0.4
    return np.round(generator.normal(size=size) - same, decimals), same


@pytest.mark.parametrize("decimals", [0, 1, 2, 12])
@pytest.mark.parametrize("seed", range(3))
def test_points_and_area_are_those_of_scikit_learn(seed: int, decimals: int) -> None:
    distances, same = random_pairs(seed, decimals=decimals)
    far, tar, thresholds = oracle(same, -distances, drop_intermediate=False)
    roc = roc_curve(distances, same)
    np.testing.assert_allclose(roc.far, far, atol=1e-12, rtol=0)
    np.testing.assert_allclose(roc.tar, tar, atol=1e-12, rtol=0)
    np.testing.assert_allclose(roc.thresholds[1:], -thresholds[1:], atol=1e-12, rtol=0)
    assert area_under(roc) == pytest.approx(roc_auc_score(same, -distances), abs=1e-12)


@pytest.mark.parametrize("same", [np.zeros(7, bool), np.ones(7, bool)])
@pytest.mark.filterwarnings("ignore:No (positive|negative) samples")
def test_a_missing_class_is_nan_as_in_scikit_learn(same) -> None:
    distances = np.arange(7.0)
    far, tar, _ = oracle(same, -distances, drop_intermediate=False)
    roc = roc_curve(distances, same)
    np.testing.assert_array_equal(np.isnan(roc.far), np.isnan(far))
    np.testing.assert_array_equal(np.isnan(roc.tar), np.isnan(tar))
    assert np.isnan(area_under(roc))
    assert np.isnan(equal_error(roc)).all()
    assert np.isnan(tar_at_far(roc, 0.1)).all()
    assert best_accuracy(roc)[0] == 1.0


def test_the_other_axis_and_the_numbers_behind_it() -> None:
    roc = roc_curve(np.array([1, 2, 3, 4], np.int8), [1, 0, 1, 0])
    assert roc.frr.tolist() == [1.0, 0.5, 0.5, 0.0, 0.0]
    assert (roc.genuine, roc.impostors) == (2, 2)
    assert roc.thresholds.tolist() == [-np.inf, 1.0, 2.0, 3.0, 4.0]
    values, labels = checked_pairs(np.float32([0.5, 1]), [1, 0])
    assert (values.dtype, labels.dtype) == (np.float64, np.bool_)


def test_all_distances_equal_tell_nothing() -> None:
    same = np.array([1, 0, 1, 0, 0], bool)
    roc = roc_curve(np.full(5, 0.3), same)
    far, tar, _ = oracle(same, np.full(5, -0.3), drop_intermediate=False)
    np.testing.assert_array_equal(roc.far, far)
    np.testing.assert_array_equal(roc.tar, tar)
    assert area_under(roc) == 0.5
    assert equal_error(roc)[0] == 0.5
    assert tar_at_far(roc, 0.5)[0] == 0.0
    assert best_accuracy(roc)[0] == 0.6


def test_equal_error_is_where_the_interpolated_curve_crosses() -> None:
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq

    for seed in range(5):
        distances, same = random_pairs(seed)
        far, tar, _ = oracle(same, -distances, drop_intermediate=False)
        curve = interp1d(far, tar)
        crossing = brentq(lambda x, curve=curve: 1.0 - x - curve(x), 0.0, 1.0, xtol=1e-14)
        assert equal_error(roc_curve(distances, same))[0] == pytest.approx(crossing, abs=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.5, 0.1, 0.07, 0.01, 0.0]))
@settings(max_examples=40, deadline=None)
def test_tar_at_far_is_the_best_that_keeps_to_the_rate(seed: int, far: float) -> None:
    distances, same = random_pairs(seed, size=100, decimals=1)
    tar, threshold = tar_at_far(roc_curve(distances, same), far)
    kept = [t for t in [-np.inf, *distances] if np.mean(distances[~same] <= t) <= far + 1e-12]
    assert tar == max(np.mean(distances[same] <= t) for t in kept)
    assert np.mean(distances[same] <= threshold) == tar
    assert np.mean(distances[~same] <= threshold) <= far + 1e-12


def test_the_threshold_of_equal_error_is_the_nearest_measured() -> None:
    for seed in range(20):
        distances, same = random_pairs(seed, size=30, decimals=1)
        gaps = {t: abs(np.mean(distances[~same] <= t) - np.mean(distances[same] > t)) for t in distances}
        assert gaps[equal_error(roc_curve(distances, same))[1]] == pytest.approx(min(gaps.values()), abs=1e-12)
    # Of two as near, the one that accepts more; and where all genuine pairs are nearer, the last of them.
    assert equal_error(roc_curve([0.1, 0.2, 0.2, 0.3], [1, 0, 0, 1])) == (0.5, 0.2)
    assert equal_error(roc_curve([0.1, 0.2, 0.3, 0.4], [1, 1, 0, 0])) == (0.0, 0.2)
    assert equal_error(roc_curve([0.1, 0.2], [0, 1])) == (1.0, 0.1)


def test_of_several_thresholds_as_good_the_middle_one_is_taken() -> None:
    assert best_accuracy(roc_curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1, 0] * 3)) == (4 / 6, pytest.approx(0.35))
    assert best_accuracy(roc_curve([0.1, 0.2, 0.3, 0.4], [1, 0] * 2)) == (3 / 4, pytest.approx(0.15))


def test_best_accuracy_is_the_best_of_all_thresholds() -> None:
    for seed in range(10):
        distances, same = random_pairs(seed, size=80, decimals=1)
        accuracy, threshold = best_accuracy(roc_curve(distances, same))
        tried = [np.mean((distances <= t) == same) for t in [-np.inf, *distances]]
        assert accuracy == pytest.approx(max(tried), abs=1e-12)
        assert np.mean((distances <= threshold) == same) == accuracy


def test_thresholds_lie_between_the_measured_distances() -> None:
    cuts = np.array([-np.inf, 0.2, 0.6])
    assert between(cuts, 0) == pytest.approx(0.1)
    assert between(cuts, 1) == pytest.approx(0.4)
    assert between(cuts, 2) == 0.6
    assert between(np.array([-np.inf, 0.2, np.inf]), 1) == 0.2
    for first in (0.0, -0.3):  # nothing between it and a distance below
        assert between(np.array([-np.inf, first]), 0) == np.nextafter(first, -np.inf)
    odd = np.nextafter(1.0, 2.0)
    neighbours = np.array([-np.inf, odd, np.nextafter(odd, 2.0)])  # the middle would be rounded up
    assert between(neighbours, 1) == odd


def test_rates_are_given_only_where_30_false_accepts_stand_behind_them() -> None:
    assert supported_rates(3000) == (1e-1, 1e-2)
    assert supported_rates(299) == ()
    assert supported_rates(300) == (1e-1,)
    assert supported_rates(30_000_000) == (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    assert supported_rates(100, minimum=10) == (1e-1,)
    assert allowed_false_accepts(0.29, 100) == 29
    assert all(allowed_false_accepts(part / n, n) == part for n in range(1, 200) for part in range(n + 1))
    assert allowed_false_accepts(0.299, 100) == 29
    require_support(0.01, 3000)
    with pytest.raises(NotEnoughDataError, match=r"needs 30: bring at least 3,000 impostor pairs"):
        require_support(0.01, 2999)
    with pytest.raises(NotEnoughDataError):
        require_support(0.5, 0)
    require_support(0.1, 100, minimum=10)
    with pytest.raises(InvalidArgumentError, match="far must be"):
        require_support(0.0, 3000)


@pytest.mark.parametrize(
    ("distances", "same", "message"),
    [
        ([], [], "no pairs"),
        ([0.1, np.nan], [True, False], "1 are NaN"),
        ([0.1, 0.2], [True], "must be"),
        ([0.1, 0.2], [2, 1], "only 0 and 1"),
        ([0.1, 0.2, 0.3], [0, 1, 2], "only 0 and 1"),
        ([[0.1]], [[True]], "must be"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused(distances, same, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        roc_curve(distances, same)
    with pytest.raises(InvalidArgumentError, match=r"within 0\.\.1"):
        tar_at_far(roc_curve([0.1, 0.2], [1, 0]), 1.5)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan"), "0.1"])
def test_a_rate_asked_for_means_the_same_everywhere(rate: object) -> None:
    for ask in (
        lambda: require_support(rate, 10**6),
        lambda: compare_all(np.eye(4, 3), [0, 0, 1, 1], rates=[rate]),
        lambda: percentiles(np.zeros((2, 1)), rate),
    ):
        with pytest.raises(InvalidArgumentError, match=r"must be a number within 0\.\.1, both exclusive"):
            ask()
