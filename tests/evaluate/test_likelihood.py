from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.likelihood import expected_calibration_error, fit_probability


def gaussians(genuine: int = 3000, impostors: int = 6000, seed: int = 0):
    """Two Gaussians of equal width: the true log likelihood ratio is the straight line 4 - 8 d."""
    generator = np.random.default_rng(seed)
    same = np.arange(genuine + impostors) < genuine
    distances = np.where(same, 0.0, 1.0) + np.sqrt(1 / 8) * generator.normal(size=len(same))
    people = generator.integers(300, size=(len(same), 2))
    people[same, 1] = people[same, 0]
    return distances, same, people


def test_a_straight_truth_is_found_whatever_the_share_of_genuine_pairs() -> None:
    for genuine in (300, 3000):
        curve = fit_probability(*gaussians(genuine), method="logistic")
        for distance in (0.2, 0.5, 0.8):
            assert curve.log_ratio(distance) == pytest.approx(4 - 8 * distance, abs=0.45)
    distances, same, people = gaussians()
    balanced = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
    oracle = LogisticRegression(C=1e9, tol=1e-10).fit(distances[:, None], same, sample_weight=balanced * 1e4)
    curve = fit_probability(distances, same, people, method="logistic")
    for distance in (0.0, 0.5, 1.0):
        assert curve.probability(distance) == pytest.approx(oracle.predict_proba([[distance]])[0, 1], abs=2e-3)


def test_isotonic_steps_are_those_of_scikit_learn() -> None:
    distances, same, people = gaussians(500, 700)
    curve = fit_probability(distances, same, people, method="isotonic")
    balanced = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
    oracle = IsotonicRegression(increasing=False).fit(distances, same, sample_weight=balanced)
    expected = oracle.predict(distances)
    order = np.argsort(distances)
    got = np.array([curve.probability(d) for d in distances[order]])
    inner = (expected[order] > 0.1) & (expected[order] < 0.9)
    assert inner.sum() > 200
    # Half a pair is added to each side of a block, which pulls small blocks towards even odds.
    np.testing.assert_allclose(got[inner], expected[order][inner], atol=0.08)
    assert np.abs(got[inner] - expected[order][inner]).mean() < 0.01
    assert all(a >= b for a, b in pairwise(got))
    assert 0 < got[-1] < got[0] < 1


def test_cross_validation_takes_the_form_that_fits() -> None:
    assert fit_probability(*gaussians()).method == "logistic"
    distances, same, people = gaussians()
    bent = np.where(distances < 0.5, 0.1 * distances, 10 * distances)  # no straight line any more
    curve = fit_probability(bent, same, people)
    assert curve.method == "isotonic"
    assert curve.ece["isotonic"] < curve.ece["logistic"]


def test_the_error_of_calibration_is_measured_on_unseen_people() -> None:
    curve = fit_probability(*gaussians())
    assert 0 < curve.ece["logistic"] < 0.03
    said, same = np.array([0.9] * 10 + [0.1] * 10), np.array([True] * 10 + [False] * 10)
    assert expected_calibration_error(said, same) == pytest.approx(0.1)
    assert expected_calibration_error(np.full(20, 0.5), same) == pytest.approx(0.0)


def test_separable_pairs_stay_finite() -> None:
    same = np.arange(60) < 30
    people = np.stack([np.arange(60), np.where(same, np.arange(60), (np.arange(60) + 1) % 60)], axis=1)
    for method in ("logistic", "isotonic"):
        curve = fit_probability(np.where(same, 0.1, 0.9) + np.linspace(0, 0.01, 60), same, people, method=method)
        assert 0.9 < curve.probability(0.1) < 1
        assert 0 < curve.probability(0.9) < 0.1


def test_too_little_or_turned_round_is_refused() -> None:
    distances, same, people = gaussians(100, 100)
    with pytest.raises(NotEnoughDataError, match="20 genuine and 20 impostor pairs"):
        fit_probability(distances[90:], same[90:], people[90:])
    with pytest.raises(NotEnoughDataError, match="not smaller"):
        fit_probability(-distances, same, people, method="logistic")
    with pytest.raises(InvalidArgumentError, match="method must be one of"):
        fit_probability(distances, same, people, method="magic")
    with pytest.raises(InvalidArgumentError, match="identities must have shape"):
        fit_probability(distances, same, people[:4])
