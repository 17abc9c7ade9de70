"""FaceNet's and InsightFace's evaluation, against a transcription of what their scripts compute, with SciPy's parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline, interp1d
from scipy.optimize import brentq
from sklearn import metrics
from sklearn.model_selection import KFold

from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.gridfolds import grid_figures, split_folds
from spherecv.metrics import at_unit_length


def their_distances(x, y, kind: str):
    if kind == "squared":
        return np.sum(np.square(np.subtract(x, y)), 1)
    dot = np.sum(np.multiply(x, y), axis=1)
    return np.arccos(dot / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))) / np.pi


def their_spline(rates, thresholds, far: float) -> float:
    """A linear spline by its definition: the knots are the rates, ends doubled, the coefficients the thresholds."""
    return float(BSpline(np.r_[rates[0], rates, rates[-1]], thresholds, 1)(far))


def their_figures(x, y, same, folds: int, kind: str, subtract_mean: bool, far: float):
    coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    accuracies, values, fars, curves = [], [], [], []
    for train, test in KFold(n_splits=folds, shuffle=False).split(np.arange(len(same))):
        mean = np.mean(np.concatenate([x[train], y[train]]), axis=0) if subtract_mean else 0.0
        distances = their_distances(x - mean, y - mean, kind)

        def judged(threshold, where, distances=distances):
            predicted = np.less(distances[where], threshold)
            actual = same[where]
            tp, fp = np.sum(predicted & actual), np.sum(predicted & ~actual)
            tn, fn = np.sum(~predicted & ~actual), np.sum(~predicted & actual)
            return tp / (tp + fn), fp / (fp + tn), (tp + tn) / len(where)

        best = np.argmax([judged(threshold, train)[2] for threshold in coarse])
        accuracies.append(judged(coarse[best], test)[2])
        curves.append([judged(threshold, test)[:2] for threshold in coarse])
        rates = np.array([judged(threshold, train)[1] for threshold in fine])
        threshold = their_spline(rates, fine, far) if rates.max() >= far else 0.0
        values.append(judged(threshold, test)[0])
        fars.append(judged(threshold, test)[1])
    tpr, fpr = np.mean(curves, axis=0).T
    return accuracies, values, fars, tpr, fpr


def embeddings(seed: int, pairs: int, width: int = 6, spread: float = 0.7):
    generator = np.random.default_rng(seed)
    same = np.tile([True, False], pairs)[:pairs]
    left = generator.normal(size=(pairs, width))
    right = np.where(same[:, None], left, generator.normal(size=(pairs, width)))
    right = right + spread * generator.normal(size=right.shape)
    return at_unit_length(left), at_unit_length(right), same


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    seed=st.integers(0, 10_000), pairs=st.integers(40, 130), folds=st.integers(2, 6),
    kind=st.sampled_from(["squared", "angle"]), subtract_mean=st.booleans(), far=st.sampled_from([1e-3, 0.05, 0.3]),
    spread=st.floats(0.3, 2.0),
)  # fmt: skip
def test_equal_to_the_transcription(seed, pairs, folds, kind, subtract_mean, far, spread) -> None:
    x, y, same = embeddings(seed, pairs, spread=spread)
    found = grid_figures(
        x, y, same, split_folds(pairs, folds), distance=kind, subtract_mean=subtract_mean, far=far
    )
    accuracies, values, fars, tpr, fpr = their_figures(x, y, same, folds, kind, subtract_mean, far)
    np.testing.assert_allclose(found.accuracies, accuracies, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.validation, values, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.false_accepts, fars, rtol=0, atol=1e-12)
    assert found.auc == pytest.approx(metrics.auc(fpr, tpr), abs=1e-12)
    theirs = brentq(lambda rate: 1.0 - rate - float(interp1d(fpr, tpr)(rate)), 0.0, fpr[-1], xtol=1e-14)
    assert found.eer == pytest.approx(theirs, abs=1e-9)
    assert found.accuracy == (pytest.approx(np.mean(accuracies)), pytest.approx(np.std(accuracies)))


@settings(deadline=None)
@given(count=st.integers(2, 200), folds=st.integers(2, 12))
def test_folds_are_those_of_scikit_learn(count: int, folds: int) -> None:
    if folds > count:
        with pytest.raises(InvalidArgumentError, match="number of pairs"):
            split_folds(count, folds)
        return
    numbers = split_folds(count, folds)
    for number, (_, test) in enumerate(KFold(folds).split(np.arange(count)), start=1):
        assert np.flatnonzero(numbers == number).tolist() == test.tolist()


def test_the_table_accepts_what_the_grid_accepts() -> None:
    x, y, same = embeddings(3, 100)
    found = grid_figures(x, y, same)
    table = found.table()
    right = (table.distances <= table.pair_thresholds) == same
    assert [right[table.pair_folds == fold].mean() for fold in table.folds] == found.accuracies.tolist()
    assert table.distances == pytest.approx(1 - np.einsum("ij,ij->i", x, y))
    assert "Validation rate: " in str(found)
    assert set(found.to_dict()) >= {"accuracy", "accuracy_deviation", "validation_rate", "auc", "eer", "far_target"}


def test_a_list_sorted_by_kind_has_accuracies_all_the_same() -> None:
    x, y, same = embeddings(4, 100)
    order = np.argsort(~same, kind="stable")
    found = grid_figures(x[order], y[order], same[order])
    theirs = []
    for train, test in KFold(10).split(order):
        distances = their_distances(x[order], y[order], "squared")
        right = [np.mean(np.less(distances[train], cut) == same[order][train]) for cut in np.arange(0, 4, 0.01)]
        cut = np.arange(0, 4, 0.01)[np.argmax(right)]
        theirs.append(np.mean(np.less(distances[test], cut) == same[order][test]))
    assert found.accuracies.tolist() == theirs
    assert np.isnan(found.validation).tolist() == [False] * 5 + [True] * 5
    assert 0 <= found.validation_rate[0] <= 1
    assert "10 folds have only one kind" in found.notes[0]


def test_refusals() -> None:
    x, y, same = embeddings(1, 40)
    with pytest.raises(InvalidArgumentError, match=r"\(N, D\)"):
        grid_figures(x[:5], y, same)
    with pytest.raises(InvalidArgumentError, match="one of squared, angle"):
        grid_figures(x, y, same, distance="cosine")
    with pytest.raises(InvalidArgumentError, match=r"within 0\.\.1"):
        grid_figures(x, y, same, far=1.0)
    with pytest.raises(InvalidArgumentError, match="finite"):
        grid_figures(x * np.nan, y, same)
    with pytest.raises(InvalidArgumentError, match="folds must have shape"):
        grid_figures(x, y, same, [1, 2])
    with pytest.raises(NotEnoughDataError, match="only genuine"):
        grid_figures(x, y, np.ones(40, bool))
