"""Closed-set classification over folds, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix

from spherecv.errors import DatasetError, InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.classification import class_figures, class_folds, groups_of
from spherecv.evaluate.plots import confusion_png


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), images=st.integers(2, 80), classes=st.integers(1, 6), folds=st.integers(2, 5))
def test_figures_are_those_of_scikit_learn(seed: int, images: int, classes: int, folds: int) -> None:
    generator = np.random.default_rng(seed)
    labels, predicted = generator.integers(classes, size=(2, images))
    numbers = np.arange(images) % folds
    found = class_figures(labels, predicted, numbers, [f"c{i}" for i in range(classes)], replicates=5)
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, predicted, labels=range(classes)))
    assert found.accuracy.value == pytest.approx(accuracy_score(labels, predicted))
    present = np.unique(labels)
    if set(predicted) <= set(present):
        assert np.nanmean(found.recalls) == pytest.approx(balanced_accuracy_score(labels, predicted))
    for fold, accuracy in enumerate(found.accuracies):
        mine = numbers == fold
        assert accuracy == pytest.approx(accuracy_score(labels[mine], predicted[mine]))
    assert "accuracy over" in str(found)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), images=st.integers(5, 80), folds=st.integers(2, 5))
def test_folds_are_even_and_never_share_a_person(seed: int, images: int, folds: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=images)
    plain = class_folds(labels, folds, seed=seed)
    for label in range(3):
        counts = np.bincount(plain[labels == label], minlength=folds)
        assert counts.max() - counts.min() <= 1
    counts = np.bincount(plain, minlength=folds)
    assert counts.max() - counts.min() <= 1
    assert class_folds(labels, folds, seed=seed).tolist() == plain.tolist()
    people = [f"S{n}" for n in generator.integers(12, size=images)]
    if len(set(people)) < folds:
        with pytest.raises(NotEnoughDataError, match="people cannot be cut"):
            class_folds(labels, folds, groups=people)
        return
    numbers = class_folds(labels, folds, groups=people)
    assert set(numbers) == set(range(folds))
    assert all(len(set(numbers[np.array(people) == person])) == 1 for person in set(people))


def test_people_are_read_off_names() -> None:
    assert groups_of(["happy/S010_004_17.png", "sad/S011_1.png"], "S[0-9]+") == ["S010", "S011"]
    assert groups_of(["happy/S010_004_17.png"], "(S[0-9]+)_") == ["S010"]
    with pytest.raises(DatasetError, match="does not match"):
        groups_of(["a.png"], "S[0-9]+")
    with pytest.raises(DatasetError, match="not a regular expression"):
        groups_of(["a.png"], "(")


def test_the_interval_resamples_people() -> None:
    labels = np.zeros(40, int)
    predicted = np.repeat([0, 1], 20)
    numbers = np.arange(40) % 2
    by_image = class_figures(labels, predicted, numbers, ["a", "b"], replicates=500)
    by_person = class_figures(labels, predicted, numbers, ["a", "b"], groups=["x"] * 20 + ["y"] * 20, replicates=500)
    assert by_person.accuracy.interval == (0.0, 1.0)
    assert by_image.accuracy.interval[0] > 0.3
    assert by_person.groups == 2


def test_refusals_and_picture() -> None:
    with pytest.raises(InvalidArgumentError, match="two folds"):
        class_folds([0, 1], 1)
    with pytest.raises(NotEnoughDataError, match="2 images"):
        class_folds([0, 1], 3)
    with pytest.raises(InvalidArgumentError, match="one entry for each"):
        class_folds([0, 1], 2, groups=["a"])
    with pytest.raises(InvalidArgumentError, match="all three"):
        class_figures([0], [0, 1], [0], ["a"])
    with pytest.raises(InvalidArgumentError, match=r"within 0\.\.0"):
        class_figures([0], [1], [0], ["a"])
    for count in (2, 30):
        assert confusion_png([f"c{i}" for i in range(count)], np.eye(count, dtype=np.int64)).startswith(b"\x89PNG")
