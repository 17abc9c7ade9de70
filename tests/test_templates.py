from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import InvalidArgumentError
from spherecv.evaluate.ytf import make_templates
from spherecv.gallery import FaceGallery
from spherecv.gallery.matrix import Matrix
from spherecv.gallery.rows import Origin
from spherecv.metrics import distance
from spherecv.templates import SetTemplate, grouped_means, pooled, unlike_text, unlike_the_rest

ROWS = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
QUALITIES = [0.9, 0.1, 0.5, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4]


def written_out(rows, qualities, metric):
    """The rule in float64, term by term."""
    total, weight = np.zeros(rows.shape[1]), 0.0
    for row, quality in zip(rows.astype(np.float64), qualities, strict=True):
        one = 0.5 if quality is None or np.isnan(quality) else max(quality, 0.001)
        length = np.sqrt((row * row).sum()) if metric == "cosine" else 1.0
        total, weight = total + one * row / length, weight + one
    return total / weight


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@settings(deadline=None, max_examples=40)
@given(st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1, width=32)), min_size=9, max_size=9), st.data())
def test_there_is_one_rule(metric, qualities, data) -> None:
    owners = np.array(data.draw(st.lists(st.integers(3, 6), min_size=9, max_size=9)))
    matrix = Matrix(16, metric)
    matrix.append(ROWS)
    many, people = matrix.means(owners, np.array(qualities, np.float32))
    videos = {str(person): np.flatnonzero(owners == person).tolist() for person in people}
    of_frames, _ = make_templates(ROWS, np.array(qualities), videos, pooling="quality")
    assert people.tolist() == sorted(set(owners.tolist()))
    for number, person in enumerate(people):
        mine = owners == person
        chosen = np.array(qualities)[mine]
        expected = written_out(ROWS[mine], chosen, metric)
        one = pooled(ROWS[mine], chosen, metric=metric)
        assert distance(one, expected, metric)[0] < 1e-6
        assert distance(many.take(np.array([number])), expected, metric)[0] < 1e-6
        if metric == "cosine":  # a frame without a face, whose quality is unknown, counts as the worst
            frames = written_out(ROWS[mine], np.nan_to_num(chosen), metric)
            np.testing.assert_allclose(of_frames[str(person)], frames, atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_templates_have_the_shapes_promised(metric) -> None:
    for owners in ([7] * 9, [3, 3, 7, 7, 7, 9, 9, 9, 9]):
        means, people = grouped_means([(0, ROWS[:4]), (4, ROWS[4:])], np.array(owners), np.array(QUALITIES, np.float32))
        assert (means.shape, means.dtype) == ((len(set(owners)), 16), np.float32)
        assert people.tolist() == sorted(set(owners))
    nothing, people = grouped_means([], np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert (nothing.shape, people.shape) == ((0, 0), (0,))
    one = pooled(ROWS[:1], [None], metric=metric)
    assert (one.shape, one.dtype) == ((16,), np.float32)


def test_the_template_of_a_person_depends_on_nobody_else(tmp_path) -> None:
    with FaceGallery.open(tmp_path / "g.db", model=Origin("numbers", "k0-r0")) as gallery:
        gallery.enrol_embeddings(["Ann", "Ann"], ROWS[:2], qualities=[1.0, np.nan])
        (before,) = gallery.identify_embeddings(ROWS[2], 1, threshold=2, template="mean")
        gallery.enrol_embeddings(["Ben"] * 5, -np.tile(ROWS[2], (5, 1)), qualities=[0.01] * 5)
        (after,) = gallery.identify_embeddings(ROWS[2], 1, threshold=2, template="mean")
    expected = distance(ROWS[2], pooled(ROWS[:2], [1.0, None]))[0]
    assert before.distance == after.distance == pytest.approx(expected, abs=1e-6)


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


def test_faces_unlike_the_rest_are_those_far_from_most_of_the_others() -> None:
    one, other, third = np.eye(3)
    near = np.array([1.0, 0.1, 0.0])
    for rows, expected in (
        ([one], []),
        ([one, near], []),
        ([one, other], [0, 1]),
        ([one, near, other], [2]),
        ([one, near, one, other], [3]),
        ([one, near, other, other], [0, 1, 2, 3]),
        ([one, other, third], [0, 1, 2]),
    ):
        for metric in ("cosine", "euclidean"):
            assert unlike_the_rest(rows, 0.5, metric=metric).tolist() == expected
    assert unlike_the_rest([one, other], 1.0).tolist() == []


def test_a_set_that_may_be_several_people_is_named_with_its_images() -> None:
    assert unlike_text("Ann", ["x/a.jpg", "x/b.jpg"], 2).startswith("Ann: its two faces are unlike each other (a.jpg,")
    assert "1 of the 9 faces is unlike the others (a.jpg)" in unlike_text("Ann", ["x/a.jpg"], 9)
    assert "5 of the 9 faces are unlike the others (1, 2, 3, ...)" in unlike_text("Ann", list("12345"), 9)
