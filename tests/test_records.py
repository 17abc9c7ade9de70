from __future__ import annotations

import json

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.records import EmbeddedFace, Face, Verification

POINTS = np.arange(10).reshape(5, 2)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"box": (0, 0, 1)}, r"box must have shape \(4,\), but got \(3,\)"),
        ({"box": (5, 0, 5, 9)}, "x1 < x2"),
        ({"box": (0, 0, np.nan, 9)}, "finite"),
        ({"box": (0, 0, 9, 9), "landmarks": np.zeros((4, 2))}, r"landmarks must have shape \(5, 2\) or \(2, 2\)"),
        ({"box": (0, 0, 9, 9), "score": 1.5}, "score must be within 0..1"),
        ({"box": (0, 0, 9, 9), "quality": -0.1}, "quality must be within 0..1"),
    ],
)
def test_a_face_that_cannot_be_is_refused(values, text) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        Face(**values)


def test_a_face_keeps_its_own_read_only_copy() -> None:
    box = np.array([1.0, 2.0, 3.0, 5.0])
    face = Face(box=box, landmarks=POINTS)
    box[0] = 99
    assert face.box.tolist() == [1, 2, 3, 5]
    assert (face.width, face.height, face.center) == (2, 3, (2, 3.5))
    with pytest.raises(ValueError, match="read-only"):
        face.landmarks[0, 0] = 7


def result(verified: bool, images=None) -> Verification:
    face = Face(box=(10, 10, 60, 70), score=0.99, landmarks=POINTS + 20, quality=0.5)
    embedded = EmbeddedFace(face, np.full((112, 96, 3), 90, np.uint8), np.zeros(4, np.float32))
    return Verification(
        verified=verified,
        distance=0.25 if verified else 0.9,
        threshold=0.5,
        metric="cosine",
        similarity=0.75,
        faces=(embedded, embedded),
        model="net",
        detector="mtcnn",
        images=images,
        seconds=0.01,
    )


def test_a_verification_speaks_deepfaces_vocabulary_in_json() -> None:
    answer = json.loads(json.dumps(result(True).to_dict()))
    wanted = {
        "verified",
        "distance",
        "threshold",
        "model",
        "detector_backend",
        "similarity_metric",
        "facial_areas",
        "time",
    }
    assert wanted <= set(answer)
    assert answer["facial_areas"]["img1"]["box"] == [10, 10, 60, 70]
    assert answer["verified"] is True


def test_a_verification_is_as_true_as_its_answer() -> None:
    assert result(True)
    assert not result(False)


def test_the_picture_shows_the_verdict_in_its_colour() -> None:
    photo = np.full((100, 80, 3), 200, np.uint8)
    same, different = (np.asarray(result(verdict, (photo, photo)).plot()) for verdict in (True, False))
    assert same.shape[1] == different.shape[1] == 1120
    green, red = same[2, 5].astype(int), different[2, 5].astype(int)
    assert green[1] > green[0]
    assert red[0] > red[1]
    with pytest.raises(InvalidArgumentError, match="kept no images"):
        result(True).plot()


def test_a_face_says_how_it_lies() -> None:
    upright = np.float32([[3, 3], [7, 3], [5, 5], [3.5, 7], [6.5, 7]])
    for quarter, degrees in enumerate((0, 90, 180, 270)):
        x, y = upright.T
        points = {0: (x, y), 1: (10 - y, x), 2: (10 - x, 10 - y), 3: (y, 10 - x)}[quarter]  # turned clockwise
        face = Face((0, 0, 10, 10), landmarks=np.stack(points, axis=1))
        assert face.turn == face.to_dict()["turn"] == degrees
    assert Face((0, 0, 10, 10)).turn == 0
