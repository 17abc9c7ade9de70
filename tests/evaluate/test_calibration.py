from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.allpairs import compare_all
from spherecv.evaluate.calibration import calibrate_all, calibrate_pairs, information_gain
from spherecv.evaluate.curves import require_support
from spherecv.thresholds import CalibratedThreshold, accepted_text


def pairs(genuine: int = 300, impostors: int = 3000, seed: int = 0, decimals: int = 9):
    generator = np.random.default_rng(seed)
    same = np.arange(genuine + impostors) < genuine
    distances = np.clip(np.round(generator.normal(0.4, 0.15, len(same)) + 0.5 * ~same, decimals), 0, 2)
    people = generator.integers(80, size=(len(same), 2))
    people[same, 1] = people[same, 0]
    return distances, same, people


@pytest.mark.parametrize("decimals", [9, 2, 1])
@pytest.mark.parametrize("seed", range(5))
def test_the_best_split_is_that_of_a_decision_stump(seed: int, decimals: int) -> None:
    distances, same, _ = pairs(100, 160, seed, decimals)
    gain, threshold = information_gain(distances, same)
    stump = DecisionTreeClassifier(criterion="entropy", max_depth=1).fit(distances[:, None], same).tree_
    parts = stump.weighted_n_node_samples[1:] / stump.weighted_n_node_samples[0]
    assert gain == pytest.approx(stump.impurity[0] - parts @ stump.impurity[1:], abs=1e-6)  # it computes in float32
    np.testing.assert_array_equal(distances <= threshold, distances <= stump.threshold[0])
    assert threshold in distances


def test_a_rate_is_kept_on_the_pairs_it_was_measured_on_and_counted() -> None:
    distances, same, people = pairs()
    measured = calibrate_pairs(distances, same, people, choose=0.05, rates=(0.02,), replicates=50)
    names = [row.chosen_for for row in measured.thresholds]
    assert names[0] == "FAR 0.05"
    assert set(names) == {"FAR 0.05", "FAR 0.02", "FAR 0.1", "FAR 0.01", "best accuracy", "EER", "information gain"}
    for row in measured.thresholds:
        accepted = distances <= row.threshold
        assert row.false_accepts == accepted[~same].sum()
        assert row.measured_far == pytest.approx(accepted[~same].mean())
        assert row.measured_tar == pytest.approx(accepted[same].mean())
        assert row.far_interval[0] <= row.measured_far <= row.far_interval[1]
        assert row.far is None or row.measured_far <= row.far
    assert measured.thresholds[0].false_accepts == 150
    assert (measured.genuine, measured.impostors) == (300, 3000)
    assert measured.probability is not None


def test_rules_find_what_they_promise() -> None:
    distances, same, people = pairs(decimals=2)
    rows = {row.chosen_for: row for row in calibrate_pairs(distances, same, people, replicates=5).thresholds}
    best = max(np.mean((distances <= t) == same) for t in distances)
    assert np.mean((distances <= rows["best accuracy"].threshold) == same) == pytest.approx(best)
    equal = rows["EER"]
    assert abs(equal.measured_far - (1 - equal.measured_tar)) < 0.03
    assert next(iter(rows)) == "best accuracy"


def test_a_rate_that_too_few_false_accepts_support_is_refused() -> None:
    distances, same, people = pairs()
    with pytest.raises(NotEnoughDataError, match=r"FAR 0\.001 on 3,000 impostor pairs rests on 3 false accepts"):
        calibrate_pairs(distances, same, people, choose=1e-3)
    with pytest.raises(NotEnoughDataError):
        calibrate_pairs(distances, same, people, rates=(1e-3,))
    with pytest.raises(NotEnoughDataError, match="both kinds of pairs"):
        calibrate_pairs(distances[same], same[same], people[same])
    with pytest.raises(InvalidArgumentError, match="choose must be one of"):
        calibrate_pairs(distances, same, people, choose="luck")
    with pytest.raises(NotEnoughDataError, match="all distances are equal"):
        information_gain(np.ones(4), [1, 0, 1, 0])


def test_few_pairs_give_thresholds_without_a_probability() -> None:
    distances, same, people = pairs(10, 300)
    measured = calibrate_pairs(distances, same, people, replicates=5)
    assert measured.probability is None
    assert "no probability" in measured.notes[0]


def test_all_pairs_of_a_folder_support_lower_rates_than_a_list_of_them() -> None:
    generator = np.random.default_rng(0)
    identities = np.repeat(np.arange(80), 4)
    embeddings = generator.normal(size=(80, 32))[identities] + generator.normal(size=(320, 32))
    compared = compare_all(embeddings, identities, rates=(1e-1, 1e-2, 1e-3), replicates=20)
    measured = calibrate_all(compared, np.full(80, 4), choose=1e-3, replicates=20)
    assert measured.impostors == 320 * 316 // 2
    first = measured.thresholds[0]
    assert first.chosen_for == "FAR 0.001"
    assert first.false_accepts == 50
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    a, b = np.triu_indices(320, 1)
    distances, same = 1 - (unit @ unit.T)[a, b], identities[a] == identities[b]
    for row in measured.thresholds:
        assert abs(int((distances[~same] <= row.threshold).sum()) - row.false_accepts) <= 1
        assert row.measured_tar == pytest.approx(np.mean(distances[same] <= row.threshold), abs=0.003)
    euclidean = calibrate_all(compared, np.full(80, 4), metric="euclidean", choose=1e-3, replicates=20)
    lengths = np.linalg.norm(unit[a] - unit[b], axis=1)
    for row, cosine in zip(euclidean.thresholds, measured.thresholds, strict=True):
        assert (row.chosen_for, row.measured_far) == (cosine.chosen_for, cosine.measured_far)
        assert abs(int((lengths[~same] <= row.threshold).sum()) - row.false_accepts) <= 1
    for distance in (0.8, 1.1, 1.3):  # the same odds, up to what two fits of one curve differ by
        asked = euclidean.probability.probability(distance)
        assert asked == pytest.approx(measured.probability.probability(distance**2 / 2), abs=0.05)
    with pytest.raises(NotEnoughDataError):
        calibrate_all(compared, np.full(80, 4), choose=1e-4)
    with pytest.raises(InvalidArgumentError, match="was not measured"):
        calibrate_all(compared, np.full(80, 4), choose=0.005)


def test_no_rate_is_ever_advised_that_is_none() -> None:
    for far, impostors in ((0.3, 2), (0.3, 4), (0.9, 20), (0.001, 50)):
        with pytest.raises(NotEnoughDataError) as caught:
            require_support(far, impostors)
        assert "or ask for" not in str(caught.value)
        assert f"bring at least {int(np.ceil(30 / far)):,} impostor pairs" in str(caught.value)
    with pytest.raises(NotEnoughDataError, match=r"or ask for 0\.03 or more"):
        require_support(0.001, 1000)


def test_a_rate_of_nothing_seen_says_in_how_many_pairs() -> None:
    row = CalibratedThreshold(
        chosen_for="best accuracy", threshold=0.4, measured_far=0.0, far_interval=(0.0, 0.01145), measured_tar=0.9,
        tar_interval=(0.8, 1.0), false_accepts=0,
    )  # fmt: skip
    assert accepted_text(row, 262) == "0 of 262 impostor pairs accepted (95 %: up to 1.1 %)"
    seen = replace(row, measured_far=0.01, far_interval=(0.005, 0.02), false_accepts=3)
    assert accepted_text(seen, 300) == "FAR 1.00e-02 (5.0e-03 to 2.0e-02, 3 false accepts)"
