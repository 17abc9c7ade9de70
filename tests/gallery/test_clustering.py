from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.metrics.cluster import pair_confusion_matrix

from spherecv.errors import InvalidArgumentError, MissingThresholdError, NotEnoughDataError
from spherecv.gallery import FaceGallery, Origin, clustering
from spherecv.gallery.clustering import cluster_rows, pair_scores
from spherecv.zoo import get_recipe, open_model


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("min_faces", [1, 2, 4])
def test_groups_are_those_of_dbscan(metric: str, min_faces: int, numbers) -> None:
    names, rows, _ = numbers.crowd(60, 6, 24, spread=0.8)
    limit = 0.35 if metric == "cosine" else 4.6
    ours = cluster_rows(rows, limit, metric=metric, min_faces=min_faces)
    theirs = DBSCAN(eps=limit, min_samples=min_faces, metric=metric).fit(rows.astype(np.float64))
    core = np.zeros(len(rows), bool)
    core[theirs.core_sample_indices_] = True
    # Which of two groups a border face joins is a matter of order in DBSCAN; cores and noise are not.
    np.testing.assert_array_equal(ours < 0, theirs.labels_ < 0)
    pairs = set(zip(ours[core].tolist(), theirs.labels_[core].tolist(), strict=True))
    assert len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs}) > 5
    sizes = np.bincount(ours[ours >= 0])
    assert (np.diff(sizes) <= 0).all()
    assert len(names) == len(ours)


def test_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels, truth = generator.integers(0, 12, 200), generator.integers(0, 9, 200)
    (_, wrong), (missed, right) = pair_confusion_matrix(truth, labels)
    precision, recall, f1 = pair_scores(labels, truth.astype(str))
    assert precision == pytest.approx(right / (right + wrong))
    assert recall == pytest.approx(right / (right + missed))
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert pair_scores(np.array([-1, -1, -1]), ["a", "a", "b"]) == (1.0, 0.0, 0.0)


def test_a_gallery_groups_its_unknown_faces(gallery: FaceGallery, numbers) -> None:
    with pytest.raises(NotEnoughDataError, match="unknown"):
        gallery.cluster(threshold=0.3)
    names, rows, images = numbers.crowd(20, 4)
    gallery.enrol_embeddings([None] * len(rows), rows, images=images)
    found = gallery.cluster(threshold=0.4, labels=names)
    assert (found.precision, found.recall, found.f1, len(found.groups)) == (1, 1, 1, 20)
    plain = found.to_dict()
    assert sorted(face["image"] for person in plain["people"] for face in person) == sorted(images)
    with pytest.raises(InvalidArgumentError, match="labels must have 80"):
        gallery.cluster(threshold=0.4, labels=names[:-1])


def test_a_distance_at_which_all_are_one_is_refused(monkeypatch: pytest.MonkeyPatch, numbers) -> None:
    monkeypatch.setattr(clustering, "_MOST_LINKS", 1000)
    with pytest.raises(InvalidArgumentError, match="smaller distance"):
        cluster_rows(numbers.crowd(20, 4)[1], 1.9)


def test_the_distance_of_grouping_is_the_models_own(tmp_path, numbers) -> None:
    source = open_model("sphereface-mini")
    known = source.clustering("cosine")
    assert known is not None
    assert known.distance < min(row.threshold for row in source.thresholds if row.far is None)
    _, rows, images = numbers.crowd(20, 4)
    for metric, distance in (("cosine", known.distance), ("euclidean", np.sqrt(2 * known.distance))):
        with FaceGallery.open(tmp_path / f"{metric}.db", model=source, metric=metric) as gallery:
            gallery.enrol_embeddings([None] * len(rows), rows, images=images)
            found = gallery.cluster()
            assert found.distance == pytest.approx(distance)
            assert f"{known.precision:.3f}" in found.measured
            assert f"{known.recall:.3f}" in found.to_dict()["measured"]
            assert "detector" not in found.measured
            assert gallery.cluster(threshold=0.3).measured == ""
            assert "false accept rate of 0.0001" in gallery.cluster(far=1e-4).measured


def test_a_distance_measured_with_another_detector_says_so(tmp_path, numbers) -> None:
    _, rows, images = numbers.crowd(20, 4)
    with FaceGallery.open(tmp_path / "g.db", model=open_model("sphereface-mini"), detector="ssd") as gallery:
        gallery.enrol_embeddings([None] * len(rows), rows, images=images)
        assert "with the detector mtcnn and not ssd" in gallery.cluster().measured


def test_a_model_without_a_distance_says_what_to_do(tmp_path, numbers) -> None:
    recipe = dataclasses.replace(get_recipe("sphereface-mini"), mean=100.0)
    _, rows, _ = numbers.crowd(5, 2)
    for model in (open_model("sphereface-mini", recipe=recipe), Origin("theirs", "key")):
        with FaceGallery.open(tmp_path / f"{type(model).__name__}.db", model=model) as gallery:
            gallery.enrol_embeddings([None] * len(rows), rows)
            with pytest.raises(MissingThresholdError, match=r"grouping faces of .*threshold="):
                gallery.cluster()
            assert gallery.cluster(threshold=0.3).distance == 0.3
