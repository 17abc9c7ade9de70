from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.folds import (
    authors_accuracy,
    authors_threshold,
    evaluate_folds,
    evaluate_split,
    fold_distances,
)

_spec = importlib.util.spec_from_file_location("authors_matlab", Path(__file__).with_name("authors_matlab.py"))
matlab = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(matlab)


def random_folds(seed: int, folds: int = 5, each: int = 20, dimension: int = 16, noise: float = 1.6):
    generator = np.random.default_rng(seed)
    same = np.tile(np.repeat([True, False], each), folds)
    left = generator.normal(size=(len(same), dimension)) + 2.0  # a mean that matters
    right = np.where(same[:, None], left, generator.normal(size=left.shape) + 2.0)
    left, right = (side + noise * generator.normal(size=left.shape) for side in (left, right))
    return left, right, same, np.repeat(np.arange(1, folds + 1), 2 * each)


@pytest.mark.parametrize("seed", range(4))
def test_the_authors_script_gives_the_same_figures(seed: int) -> None:
    left, right, same, folds = random_folds(seed)
    table = evaluate_folds(left, right, same, folds)
    accuracies, thresholds, scores = matlab.evaluate(left.T, right.T, np.where(same, 1, -1), folds)
    np.testing.assert_allclose(table.accuracies, accuracies, atol=1e-12, rtol=0)
    np.testing.assert_allclose(1.0 - table.thresholds, thresholds, atol=1e-12, rtol=0)
    np.testing.assert_allclose(1.0 - table.distances, scores, atol=1e-12, rtol=0)
    assert 0.5 < table.mean < 1.0


@pytest.mark.parametrize("decimals", [1, 2, 4])
def test_thresholds_on_scores_with_ties_on_the_grid(decimals: int) -> None:
    generator = np.random.default_rng(decimals)
    same = generator.random(300) < 0.5
    scores = np.clip(np.round(0.3 * generator.normal(size=300) + 0.2 * same, decimals), -1, 1)
    flags = np.where(same, 1, -1)
    chosen = authors_threshold(scores, same)
    assert chosen == pytest.approx(matlab.threshold(scores, flags), abs=1e-12)
    for cut in (chosen, 0.1, 0.2):
        assert authors_accuracy(scores, same, cut) == pytest.approx(matlab.accuracy(scores, flags, cut), abs=1e-12)


@pytest.mark.parametrize("same", [np.zeros(9, bool), np.ones(9, bool), np.arange(9) < 4])
@pytest.mark.parametrize("scores", [np.full(9, 0.25), np.full(9, 1.0), np.linspace(-1, 1, 9)])
def test_thresholds_with_one_class_or_all_scores_equal(scores, same) -> None:
    flags = np.where(same, 1, -1)
    assert authors_threshold(scores, same) == pytest.approx(matlab.threshold(scores, flags), abs=1e-12)


def test_the_table_is_printed_in_the_authors_form() -> None:
    left, right, same, folds = random_folds(0)
    table = evaluate_folds(left, right, same, folds)
    lines = str(table).splitlines()
    assert lines[0] == "fold\tACC"
    assert lines[1] == lines[7] == "-" * 16
    assert lines[2] == f"1\t{100 * table.accuracies[0]:.2f}%"
    assert lines[8] == f"AVE\t{100 * table.mean:.2f}%"
    assert "standard deviation" in lines[9]
    assert "standard error" in lines[10]
    assert table.standard_deviation == pytest.approx(np.std(table.accuracies))
    assert table.standard_error == pytest.approx(np.std(table.accuracies, ddof=1) / np.sqrt(5))


def test_without_the_refinements_each_is_left_out() -> None:
    left, right, same, folds = random_folds(1)
    plain = evaluate_folds(left, right, same, folds, subtract_mean=False, authors_threshold=False)
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    np.testing.assert_allclose(plain.distances, 1.0 - cosines, atol=1e-12)
    again = fold_distances(1.0 - cosines, same, folds)
    np.testing.assert_array_equal(again.accuracies, plain.accuracies)
    for row, fold in enumerate(plain.folds):
        tested = folds == fold
        rates = [np.mean((plain.distances[~tested] <= t) == same[~tested]) for t in plain.distances[~tested]]
        chosen = np.mean((plain.distances[~tested] <= plain.thresholds[row]) == same[~tested])
        assert chosen == pytest.approx(max(rates))
        assert plain.accuracies[row] == np.mean((plain.distances[tested] <= plain.thresholds[row]) == same[tested])
    assert abs(plain.distances - evaluate_folds(left, right, same, folds).distances).max() > 0.01


def test_a_split_chooses_on_one_set_and_judges_the_other() -> None:
    left, right, same, _ = random_folds(2)
    cut = 120
    table = evaluate_split((left[:cut], right[:cut], same[:cut]), (left[cut:], right[cut:], same[cut:]))
    mean = np.concatenate([left[:cut], right[:cut]]).mean(axis=0)
    x, y = left - mean, right - mean
    scores = (x * y).sum(1) / np.sqrt((x**2).sum(1)) / np.sqrt((y**2).sum(1))
    flags = np.where(same, 1, -1)
    threshold = matlab.threshold(scores[:cut], flags[:cut])
    assert 1.0 - table.thresholds[0] == pytest.approx(threshold, abs=1e-12)
    assert table.mean == pytest.approx(matlab.accuracy(scores[cut:], flags[cut:], threshold), abs=1e-12)
    assert table.folds.tolist() == [1]
    assert table.accuracies.shape == table.thresholds.shape == (1,)
    assert table.distances.shape == table.pair_folds.shape == table.pair_thresholds.shape == (len(same) - cut,)
    np.testing.assert_allclose(table.distances, 1.0 - scores[cut:], atol=1e-12)
    assert (table.pair_folds == 1).all()
    assert (table.standard_deviation, table.to_dict()["standard_error"]) == (0.0, None)
    assert "mean of the training pairs subtracted" in table.method


def test_the_method_says_what_was_done() -> None:
    columns = random_folds(5)
    mean, grid = "mean of the other folds subtracted", "mean of the best of 20,001 thresholds"
    for settings, text in (
        ({}, f"cosine, {mean}, {grid} of the other folds"),
        ({"subtract_mean": False}, f"cosine, no mean subtracted, {grid} of the other folds"),
        ({"authors_threshold": False}, f"cosine, {mean}, best threshold of the other folds"),
    ):
        assert evaluate_folds(*columns, **settings).method == text
    table = evaluate_folds(*columns)
    assert table.to_dict() == {
        "method": table.method,
        "folds": [1, 2, 3, 4, 5],
        "accuracies": table.accuracies.tolist(),
        "thresholds": table.thresholds.tolist(),
        "mean": table.mean,
        "standard_deviation": table.standard_deviation,
        "standard_error": table.standard_error,
        "notes": [],
    }


def test_uneven_folds_are_told_and_impossible_ones_refused() -> None:
    left, right, same, folds = random_folds(3)
    assert evaluate_folds(left, right, same, folds).notes == ()
    (note,) = evaluate_folds(left[3:], right[3:], same[3:], folds[3:]).notes
    assert "uneven (37 to 40 pairs)" in note
    with pytest.raises(InvalidArgumentError, match="at least two folds"):
        evaluate_folds(left, right, same, np.ones_like(folds))
    with pytest.raises(NotEnoughDataError, match="fold 1 has only genuine pairs"):
        evaluate_folds(left, right, same | (folds == 1), folds)
    with pytest.raises(NotEnoughDataError, match="fold 2 has only impostor pairs"):
        evaluate_folds(left, right, same & (folds != 2), folds)
    with pytest.raises(NotEnoughDataError, match="fold 2 has only impostor pairs"):
        fold_distances(np.arange(len(same)), same & (folds != 2), folds)


@pytest.mark.parametrize("wrong", range(4))
def test_columns_of_other_lengths_are_refused(wrong: int) -> None:
    columns = list(random_folds(3))
    columns[wrong] = columns[wrong][1:]
    with pytest.raises(InvalidArgumentError, match=r"left and right must be \(N, D\), same and folds \(N,\)"):
        evaluate_folds(*columns)
    left, _, same, folds = random_folds(3)
    with pytest.raises(InvalidArgumentError, match="must be"):
        evaluate_folds(left[:, 0], left[:, 0], same, folds)
    with pytest.raises(InvalidArgumentError, match="must be"):
        evaluate_folds(left, left[:, 1:], same, folds)


def test_distances_of_other_shapes_are_refused_and_answers_have_those_promised() -> None:
    distances, same, folds = np.linspace(0, 1, 12), np.tile([True, False], 6), np.repeat([3, 5, 9], 4)
    table = fold_distances(distances, same, folds)
    assert table.folds.tolist() == [3, 5, 9]
    assert table.accuracies.shape == table.thresholds.shape == (3,)
    assert table.distances.shape == table.pair_folds.shape == table.pair_thresholds.shape == (12,)
    assert table.pair_thresholds.tolist() == np.repeat(table.thresholds, 4).tolist()
    for columns in (
        (distances[1:], same, folds),
        (distances, same[1:], folds),
        (distances, same, folds[1:]),
        (distances[:, None], same[:, None], folds[:, None]),
    ):
        with pytest.raises(InvalidArgumentError, match=r"distances, same and folds must be \(N,\)"):
            fold_distances(*columns)


def test_a_zero_embedding_is_like_nothing() -> None:
    left, right, same, folds = random_folds(4)
    left[0] = 0
    table = evaluate_folds(left, right, same, folds, subtract_mean=False, authors_threshold=False)
    assert table.distances[0] == 1.0
