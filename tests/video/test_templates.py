from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import InvalidArgumentError
from spherecv.gallery.rows import Table
from spherecv.gallery.templates import mean_of
from spherecv.metrics import distance
from spherecv.video.templates import SetTemplate, pooled

ROWS = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
QUALITIES = [0.9, 0.1, 0.5, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_template_is_what_a_gallery_makes_of_the_same_faces(metric) -> None:
    vectors = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True) if metric == "cosine" else ROWS
    table = Table(np.arange(9), np.zeros(9, np.int64), np.array(QUALITIES, np.float32), vectors, {0: "Ann"})
    assert mean_of(table, metric).shape == (1, 16)
    assert mean_of(table, metric).dtype == np.float32
    assert distance(mean_of(table, metric), pooled(ROWS, QUALITIES, metric=metric), metric)[0] < 1e-6


@settings(deadline=None)
@given(st.permutations(range(9)), st.integers(1, 9))
def test_the_best_faces_are_kept_in_whatever_order_they_come(order, best) -> None:
    template = SetTemplate(best=best)
    for place in order:
        template.add(ROWS[place], QUALITIES[place], frame=place)
    chosen = sorted(range(9), key=lambda place: -QUALITIES[place])[:best]
    assert template.frames == tuple(chosen)
    assert (template.seen, len(template)) == (9, best)
    np.testing.assert_allclose(template.vector, pooled(ROWS[chosen], [QUALITIES[i] for i in chosen]), atol=1e-6)


def test_faces_without_a_quality_and_without_any_count_too() -> None:
    np.testing.assert_allclose(pooled(ROWS[:2], [0.0, 0.0]), pooled(ROWS[:2], [None, None]), atol=1e-6)
    assert np.linalg.norm(pooled(ROWS, QUALITIES)) == pytest.approx(1)
    assert not pooled(np.zeros((2, 4)), [1.0, 1.0]).any()


def test_wrong_arguments_are_refused() -> None:
    for best in (0, True, 2.0):
        with pytest.raises(InvalidArgumentError, match="best"):
            SetTemplate(best=best)
    with pytest.raises(InvalidArgumentError, match="N >= 1"):
        _ = SetTemplate().vector
    with pytest.raises(InvalidArgumentError, match="quality each"):
        pooled(ROWS, [1.0])
    with pytest.raises(InvalidArgumentError, match="metric"):
        SetTemplate(metric="manhattan")
