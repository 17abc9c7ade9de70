from __future__ import annotations

import numpy as np
import pytest

from spherecv.errors import DatasetError, InvalidArgumentError
from spherecv.evaluate.ytf import frames_of, make_templates, read_splits

SPLITS = """split number, first name, second name, is same
1, A/0, A/1, 1
1, A/0, B/0, 0
2, B/0, B/2, 1
2, C/1, B/0, 0
"""


def write(tmp_path, text, name="splits.txt"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_splits_have_folds_people_and_truth(tmp_path) -> None:
    for text in (SPLITS, SPLITS.split("\n", 1)[1], SPLITS.replace(", 1\n", ", x, 1\n", 1)):
        pairs = read_splits(write(tmp_path, text))
        assert pairs.images == ("A/0", "A/1", "B/0", "B/2", "C/1")
        assert pairs.folds.tolist() == [1, 1, 2, 2]
        assert pairs.same.tolist() == [True, False, True, False]


def test_corrections_replace_labels_or_drop_pairs(tmp_path) -> None:
    wrong = write(tmp_path, "# known\nB/0, C/1, same\nA/0,A/1,drop\n", "wrong.csv")
    pairs = read_splits(write(tmp_path, SPLITS), corrections=wrong)
    assert pairs.same.tolist() == [False, True, True]
    assert pairs.notes[-1] == "1 labels corrected and 1 pairs left out by wrong.csv"


@pytest.mark.parametrize(
    ("splits", "wrong", "message"),
    [
        ("1, A/0, A, 1\n", "", "line 1: expected a split"),
        (SPLITS + "3, A/0, C/1, 2\n", "", "line 6: expected a split"),
        (SPLITS, "A/0, A/1\n", "line 1: expected two videos"),
        (SPLITS, "A/0, A/9, drop\n", "a pair that the splits do not hold"),
        ("", "", "no pairs"),
    ],
)
def test_bad_splits_name_the_line(tmp_path, splits, wrong, message) -> None:
    corrections = write(tmp_path, wrong, "wrong.csv") if wrong else None
    with pytest.raises(DatasetError, match=message):
        read_splits(write(tmp_path, splits), corrections=corrections)


def test_frames_come_in_their_order_and_evenly(tmp_path) -> None:
    pairs = read_splits(write(tmp_path, "1, A/0, A/1, 1\n"))
    for video in ("A/0", "A/1"):
        (tmp_path / video).mkdir(parents=True)
        for number in (1, 2, 10, 11, 20):
            (tmp_path / video / f"{number}.jpg").touch()
    assert frames_of(pairs, tmp_path)["A/0"][2] == "A/0/10.jpg"
    assert frames_of(pairs, tmp_path, limit=3)["A/1"] == ["A/1/1.jpg", "A/1/10.jpg", "A/1/20.jpg"]
    with pytest.raises(InvalidArgumentError):
        frames_of(pairs, tmp_path, limit=0)
    with pytest.raises(DatasetError, match="no such folder of frames"):
        frames_of(read_splits(write(tmp_path, "1, A/0, Z/1, 0\n")), tmp_path)


def test_templates_are_means_of_unit_rows_weighted_by_quality() -> None:
    rows = np.array([[2.0, 0.0], [0.0, 5.0], [3.0, 4.0]])
    templates, empty = make_templates(rows, np.array([0.9, 0.1, np.nan]), {"a": [0, 1], "b": [2], "c": []})
    np.testing.assert_allclose(templates["a"], [0.5, 0.5])
    assert empty == ["c"]
    weighted, _ = make_templates(rows, np.array([0.9, 0.1, np.nan]), {"a": [0, 1], "b": [2]}, pooling="quality")
    np.testing.assert_allclose(weighted["a"], [0.9, 0.1])
    np.testing.assert_allclose(weighted["b"], [0.6, 0.8])
    with pytest.raises(InvalidArgumentError, match="pooling"):
        make_templates(rows, np.ones(3), {}, pooling="median")
    with pytest.raises(InvalidArgumentError, match="must be"):
        make_templates(rows, np.ones(2), {})
