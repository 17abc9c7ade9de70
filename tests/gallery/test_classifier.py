from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from spherecv.errors import GalleryError, InvalidArgumentError, NotEnoughDataError
from spherecv.gallery import FaceGallery
from spherecv.gallery.classifier import Classifier


@pytest.fixture
def taught(gallery: FaceGallery, numbers):
    names, rows, images = numbers.crowd(25, 4, spread=0.6)
    gallery.enrol_embeddings(names, rows, images=images)
    return gallery, names, rows


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_scores_are_those_of_scikit_learn_and_strangers_are_nobody(taught, numbers, kind: str) -> None:
    gallery, names, rows = taught
    report = gallery.fit_classifier(kind, strangers=0.05)
    assert report.accuracy > 0.9
    assert report.strangers_named <= 0.05
    assert (report.people, report.faces) == (25, 100)
    generator = np.random.default_rng(4)
    probes = (rows[::4] + 0.3 * generator.standard_normal((25, 64))).astype(np.float32)
    matches = gallery.classify_embeddings(probes, 25)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    asked = probes / np.linalg.norm(probes, axis=1, keepdims=True)
    if kind == "logistic":
        theirs = LogisticRegression(C=100.0, class_weight="balanced", max_iter=500).fit(unit, names)
        wanted = theirs.predict_proba(asked)
    else:
        theirs = LinearSVC(C=1.0, class_weight="balanced", random_state=0).fit(unit, names)
        wanted = 1 / (1 + np.exp(-2 * theirs.decision_function(asked)))
    for match, row in zip(matches, wanted, strict=True):
        ours = {candidate.identity: candidate.similarity for candidate in match.candidates}
        np.testing.assert_allclose([ours[name] for name in theirs.classes_], row, atol=2e-3)
        assert match.probability == max(ours.values())
    assert np.mean([match.identity == name for match, name in zip(matches, names[::4], strict=True)]) > 0.9
    strangers = gallery.classify_embeddings(numbers.crowd(200, 1, seed=77)[1])
    assert np.mean([match.identity is not None for match in strangers]) < 0.3  # all of them without a reject option


def test_the_classifier_lives_in_the_file_and_dies_with_a_removal(taught, tmp_path, numbers) -> None:
    gallery, names, rows = taught
    with pytest.raises(GalleryError, match="no classifier"):
        gallery.classify_embeddings(rows[:1])
    gallery.fit_classifier()
    with FaceGallery.open(tmp_path / "people.db", model=numbers.ORIGIN) as other:
        assert other.classify_embeddings(rows[:1])[0].identity == names[0]
    gallery.remove(names[4])
    with pytest.raises(GalleryError, match="no classifier"):
        gallery.classify_embeddings(rows[:1])


def test_two_known_people_in_a_fold(gallery: FaceGallery, numbers) -> None:
    names, rows, _ = numbers.crowd(3, 5)
    gallery.enrol_embeddings(names, rows)
    assert gallery.fit_classifier("svm").people == 3


def test_too_little_to_learn_from(gallery: FaceGallery, numbers) -> None:
    names, rows, _ = numbers.crowd(3, 2)
    gallery.enrol_embeddings(names[:4], rows[:4])
    with pytest.raises(NotEnoughDataError, match="three people"):
        gallery.fit_classifier()
    gallery.enrol_embeddings(names[4:5], rows[4:5])
    with pytest.raises(NotEnoughDataError, match=f"two images of each person, but '{names[4]}' has 1"):
        gallery.fit_classifier()
    with pytest.raises(InvalidArgumentError, match="logistic"):
        gallery.fit_classifier("forest")
    with pytest.raises(GalleryError, match="damaged"):
        Classifier.from_bytes(b"not a classifier")
    with pytest.raises(GalleryError, match="damaged"):
        Classifier.from_bytes(b"PK\x03\x04 and no more")
