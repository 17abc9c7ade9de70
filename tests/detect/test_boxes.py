from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from spherecv.detect import boxes as module
from spherecv.detect.boxes import moved, non_maximum, squared

NAMES = {False: "Union", True: "Min"}


@st.composite
def scored_boxes(draw, most=40):
    count = draw(st.integers(0, most))
    corners = draw(npst.arrays(np.float32, (count, 2), elements=st.integers(0, 30).map(float)))
    sides = draw(npst.arrays(np.float32, (count, 2), elements=st.integers(0, 20).map(float)))
    # Few values, so that scores tie.
    scores = draw(npst.arrays(np.float32, count, elements=st.sampled_from([0.1, 0.5, 0.6, 0.9])))
    return np.hstack([corners, corners + sides]), scores


@given(scored_boxes(), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.booleans(), st.sampled_from([1, 3, 256]))
@settings(deadline=None, max_examples=100)
def test_non_maximum_is_the_loop_of_the_paper(plain, case, limit, of_smaller, block):
    boxes, scores = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        patch.setattr(module, "_REST", 2 * block)
        picked = non_maximum(boxes, scores, limit, of_smaller=of_smaller)
    assert picked.tolist() == plain.nms(np.column_stack([boxes, scores]), limit, NAMES[of_smaller])


def test_non_maximum_keeps_boxes_that_only_a_suppressed_one_covers():
    boxes = np.array([[0, 0, 9, 9], [4, 0, 13, 9], [8, 0, 17, 9]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert non_maximum(boxes, scores, 0.4).tolist() == [0, 2]


def test_non_maximum_of_exactly_two_boxes():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 4]], np.float32)  # half of the first
    apart = np.array([[0, 0, 9, 9], [10, 0, 19, 9]], np.float32)
    for scores, best in (([0.9, 0.8], 0), ([0.8, 0.9], 1), ([0.9, 0.9], 1)):
        of = np.array(scores, np.float32)
        assert non_maximum(boxes, of, 0.49).tolist() == [best]
        assert non_maximum(boxes, of, 0.5).tolist() == [best, 1 - best]
        assert non_maximum(boxes, of, 0.5, of_smaller=True).tolist() == [best]
        assert non_maximum(apart, of, 0.0).tolist() == [best, 1 - best]
    assert non_maximum(boxes[:1], np.ones(1, np.float32), 0.0).tolist() == [0]


def test_non_maximum_over_more_boxes_than_a_block(plain):
    random = np.random.default_rng(0)
    corners = random.integers(0, 400, (2000, 2))
    boxes = np.hstack([corners, corners + random.integers(10, 60, (2000, 2))]).astype(np.float32)
    scores = random.random(2000, np.float32)
    expected = plain.nms(np.column_stack([boxes, scores]), 0.5, "Union")
    assert 256 < len(expected) < 2000
    assert non_maximum(boxes, scores, 0.5).tolist() == expected


finite = st.floats(-1e4, 1e4, width=32)


fractions = st.floats(-2, 2, width=32)


@given(npst.arrays(np.float32, (7, 4), elements=finite), npst.arrays(np.float32, (7, 4), elements=fractions))
def test_moved_and_squared_are_bbreg_and_rerec(plain, boxes, offsets):
    np.testing.assert_array_equal(moved(boxes, offsets, inclusive=True), plain.bbreg(boxes, offsets))
    np.testing.assert_array_equal(squared(boxes), plain.rerec(boxes))


def test_moved_without_the_last_pixel():
    box = np.array([[10, 20, 30, 60]], np.float32)
    assert moved(box, np.array([[0.5, 0.25, 0, 1]], np.float32), inclusive=False).tolist() == [[20, 30, 30, 100]]


def test_squared_keeps_the_centre():
    assert squared(np.array([[10, 20, 30, 60]], np.float32)).tolist() == [[0, 20, 40, 60]]


def test_nothing_in_nothing_out():
    none = np.empty((0, 4), np.float32)
    assert non_maximum(none, np.empty(0, np.float32), 0.5).shape == (0,)
    assert squared(none).shape == moved(none, none, inclusive=True).shape == (0, 4)
