from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.records import Face
from spherecv.video.association import Expected, Pair, Rules, associate, box_overlaps

ANN, BEN = np.eye(2, dtype=np.float32)
RULES = Rules(same=0.5)


def box(x: float, side: float = 100) -> np.ndarray:
    return np.array((x, 0, x + side, side), np.float32)


def face(x: float, quality: float | None = 0.9, side: float = 100) -> Face:
    return Face(box(x, side), quality=quality)


def test_who_it_is_counts_more_than_where() -> None:
    tracks = [Expected(box(0), ANN, 0.0), Expected(box(30), BEN, 0.0)]
    assert associate(tracks, [face(0), face(30)], [BEN, ANN], RULES) == [Pair(0, 1, True), Pair(1, 0, True)]


def test_somebody_else_in_the_same_place_is_a_new_face_when_that_goes_on() -> None:
    for quality, most in ((0.9, 2), (0.5, 4), (None, 4)):
        for doubts in range(6):
            track = [Expected(box(0), ANN, 0.0, doubts)]
            expected = [Pair(0, 0, False)] if doubts < most else []
            assert associate(track, [face(0, quality)], [BEN], RULES) == expected


def test_without_an_embedding_the_place_decides() -> None:
    assert associate([Expected(box(0), ANN, 0.0)], [face(20)], [None], RULES) == [Pair(0, 0, False)]
    assert associate([Expected(box(0), None, 0.0)], [face(20)], [ANN], RULES) == [Pair(0, 0, False)]
    assert associate([Expected(box(0), ANN, 0.0)], [face(80)], [None], RULES) == []


def test_somebody_lost_is_found_within_reach_only() -> None:
    far = [face(700)]
    assert associate([Expected(box(0), ANN, 0.1)], far, [ANN], RULES) == []
    assert associate([Expected(box(0), ANN, 1.0)], far, [ANN], RULES) == [Pair(0, 0, True)]
    assert associate([Expected(box(0), ANN, 1.0)], [face(0, side=250)], [ANN], RULES) == []
    assert associate([], far, [ANN], RULES) == associate([Expected(box(0), ANN, 0.0)], [], [], RULES) == []


boxes = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2)


@settings(deadline=None)
@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, min_size=1, max_size=4))
def test_overlaps_are_counted_in_pixels(a, b) -> None:
    def mask(x, y, width, height):
        grid = np.zeros((100, 100), bool)
        grid[y : y + height, x : x + width] = True
        return grid

    corners = [np.array([(x, y, x + width, y + height) for x, y, width, height in side]) for side in (a, b)]
    counted = [[(mask(*p) & mask(*q)).sum() / (mask(*p) | mask(*q)).sum() for q in b] for p in a]
    np.testing.assert_allclose(box_overlaps(*corners), counted, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.integers(0, 80), min_size=3, max_size=3), st.lists(st.integers(0, 80), min_size=3, max_size=3))
def test_the_whole_costs_least(places, found) -> None:
    tracks, faces = [Expected(box(x), ANN, 0.0) for x in places], [face(x) for x in found]
    overlaps = box_overlaps(np.stack([box(x) for x in places]), np.stack([box(x) for x in found]))
    pairs = associate(tracks, faces, [ANN] * 3, RULES)
    assert len(pairs) == 3
    best = max(sum(overlaps[i, j] for i, j in enumerate(order)) for order in permutations(range(3)))
    assert sum(overlaps[pair.track, pair.face] for pair in pairs) == pytest.approx(best)
