from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import distance as scipy_distance

from spherecv.errors import InvalidArgumentError
from spherecv.metrics import at_unit_length, distance, pairwise_distance, similarity

vectors = arrays(np.float64, (4, 6), elements=st.floats(-50, 50, width=32)).filter(
    lambda rows: bool(np.linalg.norm(rows, axis=1).min() > 1e-3)
)


@given(vectors, vectors)
@settings(deadline=None)
def test_distances_equal_scipys(a, b) -> None:
    for metric in ("cosine", "euclidean"):
        expected = scipy_distance.cdist(a, b, metric)
        np.testing.assert_allclose(pairwise_distance(a, b, metric), expected, atol=1e-9)
        np.testing.assert_allclose(distance(a, b, metric), np.diag(expected), atol=1e-9)
        np.testing.assert_allclose(distance(a[0], b, metric), expected[0], atol=1e-9)


def test_similarity_grows_with_likeness() -> None:
    assert similarity([0.0, 0.25, 2.0]).tolist() == [1.0, 0.75, -1.0]
    assert similarity([0.0, 1.0, 3.0], "euclidean").tolist() == [1.0, 0.5, 0.25]


def test_a_zero_vector_is_like_nothing() -> None:
    assert distance([0, 0], [1, 0]).tolist() == [1.0]
    rows = np.array([[0, 0], [3, 4]], np.float32)
    for shape in ((2, 2), (1, 2, 2)):
        unit = at_unit_length(rows.reshape(shape))
        assert (unit.dtype, unit.shape) == (np.float32, shape)
        np.testing.assert_allclose(unit.reshape(2, 2), [[0, 0], [0.6, 0.8]], rtol=1e-6)


def test_rows_of_zeros_stay_zeros_in_memory_that_was_used_before() -> None:
    for _ in range(20):
        np.full((50, 8), np.nan)  # freed at once, and handed out again by what allocates next
        assert (at_unit_length(np.zeros((50, 8))) == 0).all()


@given(arrays(np.float64, (50, 3), elements=st.floats(-1, 1).filter(lambda value: value == 0 or abs(value) > 1e-9)))
@settings(deadline=None)
def test_cosine_distances_never_leave_their_range(rows) -> None:
    """Rounding would take the distance of a row to itself a little below 0, and to its opposite above 2."""
    for found in (distance(rows, rows), distance(rows, -rows), pairwise_distance(rows, -rows)):
        assert found.min() >= 0
        assert found.max() <= 2
    assert distance(rows, rows)[rows.any(axis=1)] == pytest.approx(0, abs=1e-15)


def test_integers_are_compared_as_numbers_too() -> None:
    assert similarity([0, 1], "euclidean").dtype == similarity(np.float32([0, 1])).dtype == np.float64


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="cosine, euclidean"):
        distance([1.0], [1.0], "manhattan")
    with pytest.raises(InvalidArgumentError, match="equal shapes"):
        distance(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(InvalidArgumentError, match="columns"):
        pairwise_distance(np.ones((2, 3)), np.ones((2, 4)))
    for wrong in ("a", [[1, 2], [3]]):
        for call in (distance, pairwise_distance):
            with pytest.raises(InvalidArgumentError, match="a must hold numbers"):
                call(wrong, [1.0, 2.0])
        with pytest.raises(InvalidArgumentError, match="distances must hold numbers"):
            similarity(wrong)
    with pytest.raises(InvalidArgumentError, match=r"\(N, D\)"):
        distance(np.ones((2, 3, 4)), np.ones((2, 3)))
