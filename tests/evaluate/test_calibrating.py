"""Calibrations from files: on the pairs that the sefiks.com post chose its thresholds on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.calibrating import Choice, calibrate_subject
from spherecv.evaluate.collection import ImageEmbeddings
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.subject import Subject
from spherecv.metrics import distance
from spherecv.zoo import ModelSource


@pytest.mark.runtime
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_best_split_of_deepfaces_pairs_is_that_of_a_stump(
    data_dir: Path, mobilefacenet: tuple[Path, Path], tmp_path: Path, metric: str
) -> None:
    source = ModelSource.from_caffe(*mobilefacenet, recipe="mobilefacenet")
    subject = Subject.of(source, preset=None, face="largest")
    master = data_dir / "deepface-pairs" / "master.csv"
    choice = Choice(rule="information gain", metric=metric, replicates=10)
    made = calibrate_subject(master, subject, choice, saved=lambda _folder, _mirror: tmp_path / "e.npz")
    assert (made.genuine, made.impostors, made.failed) == (38, 262, 0)
    assert made.thresholds[0].chosen_for == "information gain"
    embedded, pairs = ImageEmbeddings.load(tmp_path / "e.npz")[0], read_pairs(master)
    rows = embedded.by(source.recipe)
    left, right = (rows[embedded.rows([pairs.images[i] for i in side])] for side in (pairs.first, pairs.second))
    distances = distance(left, right, metric)
    stump = DecisionTreeClassifier(criterion="entropy", max_depth=1).fit(distances[:, None], pairs.same)
    np.testing.assert_array_equal(distances <= made.thresholds[0].threshold, distances <= stump.tree_.threshold[0])
    assert made.thresholds[0].threshold in distances  # C4.5 takes a distance that occurred


def test_a_folder_is_compared_with_itself(people, subject) -> None:
    made = calibrate_subject(people, subject, Choice(rule=0.1, rates=(0.05,), replicates=20))
    assert made.impostors == 48 * 44 // 2
    assert made.genuine == 12 * 6
    assert [row.false_accepts for row in made.thresholds if row.far in (0.1, 0.05)] == [105, 52]
    assert made.probability is not None
    assert made.dataset == "people"


def test_impossible_choices_are_refused_before_any_work(people, subject) -> None:
    for choice, message in (
        (Choice(metric="euclidean"), "by cosine only"),
        (Choice(impostors="some"), "one of listed, all"),
        (Choice(replicates=0), "at least one replicate"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            calibrate_subject(people, subject, choice)
    assert subject.stages.opened == []
    with pytest.raises(NotEnoughDataError, match=r"FAR 0\.001 on 1,056 impostor pairs"):
        calibrate_subject(people, subject, Choice(rule=0.001))
