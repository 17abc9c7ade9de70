from __future__ import annotations

import numpy as np
import pytest

import spherecv.compat.face_recognition as face_recognition
from spherecv.records import Face

POINTS = np.array([[40, 50], [60, 50], [50, 62], [42, 72], [58, 72]], np.float32)


@pytest.fixture(autouse=True)
def one_face(monkeypatch: pytest.MonkeyPatch) -> None:
    face = Face(box=np.array([30, 30, 70, 80], np.float32), score=0.99, landmarks=POINTS)

    class Detector:
        def detect(self, image: object) -> list[Face]:
            return [face]

    class Pipeline:
        detector = Detector()

    monkeypatch.setattr(face_recognition, "_engine", face_recognition._Engine(Pipeline(), 1.0))  # type: ignore[arg-type]


def test_landmarks_have_the_names_of_dlib() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    (small,) = face_recognition.face_landmarks(image, model="small")
    assert small == {"left_eye": [(40, 50)], "right_eye": [(60, 50)], "nose_tip": [(50, 62)]}
    near, far = face_recognition.face_landmarks(image, [(30, 70, 80, 30), (0, 9, 9, 0)])
    assert near["top_lip"] == near["bottom_lip"] == [(42, 72), (58, 72)]
    assert far == {}


def test_locations_of_several_images() -> None:
    images = [np.zeros((100, 100, 3), np.uint8)] * 2
    assert face_recognition.batch_face_locations(images) == [[(30, 70, 80, 30)]] * 2
