from __future__ import annotations

import sys
from subprocess import run

import cv2
import numpy as np
import pytest

from spherecv import FaceDetector
from spherecv.detect.base import Detections
from spherecv.errors import BackendError, ImageError, InvalidArgumentError, SphereCVError
from spherecv.quality import face_quality

LANDMARKS = np.array([[10, 10], [20, 10], [15, 15], [11, 20], [19, 20]], np.float32)


class Scripted:
    """A kind that finds as many faces as the image's first pixel says, and fails on 255."""

    name = "scripted"

    def __init__(self):
        self.batches = []

    def find(self, images):
        self.batches.append(len(images))
        if any(image[0, 0, 0] == 255 for image in images):
            raise BackendError("a net failed")
        return [self.faces(int(image[0, 0, 0])) for image in images]

    def faces(self, count):
        boxes = np.array([[5 + i, 5, 30 + i, 30] for i in range(count)], np.float32).reshape(-1, 4)
        scores = np.array([0.5 + 0.1 * i for i in range(count)], np.float32)
        return Detections(boxes, scores, np.repeat(LANDMARKS[None], count, axis=0)).valid()


def picture(value, side=40):
    return np.full((side, side, 3), value, np.uint8)


@pytest.fixture
def detector():
    made = FaceDetector.__new__(FaceDetector)
    made._kind = Scripted()
    made.name = "scripted"
    return made


def test_the_most_certain_face_is_the_first(detector):
    faces = detector.detect(picture(3))
    assert [round(face.score, 1) for face in faces] == [0.7, 0.6, 0.5]
    assert [face.box[0] for face in faces] == [7, 6, 5]


def test_faces_are_rated(detector):
    image = picture(1)
    face = detector.detect(image)[0]
    assert face.quality == face_quality(image, face)


def test_no_face_is_an_empty_list(detector):
    assert detector.detect(picture(0)) == []
    assert detector.detect_batch([]) == []


def test_answers_come_in_the_order_of_the_images(detector):
    assert [len(faces) for faces in detector.detect_batch(picture(i) for i in (2, 0, 1))] == [2, 0, 1]
    assert detector._kind.batches == [3]


def test_long_batches_and_large_images_are_divided(detector, monkeypatch):
    assert len(detector.detect_batch([picture(1)] * 40)) == 40
    assert detector._kind.batches == [16, 16, 8]
    monkeypatch.setattr("spherecv.images.BATCH_PIXELS", 3000)
    detector._kind.batches.clear()
    detector.detect_batch([picture(1)] * 5)
    assert detector._kind.batches == [2, 2, 1]


def test_every_form_of_image(detector, tmp_path):
    path = tmp_path / "ß.png"
    data = cv2.imencode(".png", picture(2))[1].tobytes()
    path.write_bytes(data)
    grey = np.full((40, 40), 2, np.uint8)
    assert [len(faces) for faces in detector.detect_batch([path, str(path), data, grey])] == [2] * 4


@pytest.mark.parametrize("images", [None, "a.jpg", picture(1)])
def test_one_image_is_no_batch(detector, images):
    with pytest.raises(InvalidArgumentError, match="images must be several"):
        detector.detect_batch(images)


def test_errors_are_raised_or_returned(detector, tmp_path):
    images = [picture(1), tmp_path / "nothing.jpg", picture(255), picture(2)]
    answers = detector.detect_batch(images, errors="return")
    assert [type(answer) for answer in answers] == [list, ImageError, BackendError, list]
    assert [len(answers[0]), len(answers[3])] == [1, 2]
    with pytest.raises(ImageError, match=r"nothing\.jpg"):
        detector.detect_batch(images)
    with pytest.raises(BackendError, match="a net failed"):
        detector.detect_batch([images[0], images[2]])
    with pytest.raises(SphereCVError):
        detector.detect(images[1])
    with pytest.raises(InvalidArgumentError, match="errors must be one of raise, return"):
        detector.detect_batch([], errors="ignore")


def test_what_cannot_be_a_face_is_left_out():
    boxes = np.array([[0, 0, 9, 9], [5, 5, 5, 9], [np.nan, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9]], np.float32)
    scores = np.array([1.0000001, 0.9, 0.9, np.nan, 0.8], np.float32)
    landmarks = np.repeat(LANDMARKS[None], 5, axis=0)
    landmarks[4, 2] = np.inf
    found = Detections(boxes, scores, landmarks).valid()
    assert found.boxes.tolist() == [[0, 0, 9, 9]]
    assert found.scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "haar"}, "a detector must be one of mtcnn, yunet, retinaface, ssd, but got 'haar'"),
        ({"threads": 0}, "threads must be a whole number from 1 to 1024, but got 0"),
        ({"threads": 1.5}, "threads"),
        ({"preset": "best"}, "preset"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        FaceDetector(**arguments)


def test_only_the_chosen_kind_is_imported():
    code = (
        "import sys, spherecv\n"
        "spherecv.FaceDetector\n"
        "slow = {'cv2', 'retinaface', 'onnxruntime', 'onnx', 'openvino', 'spherecv.detect.mtcnn'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    run([sys.executable, "-c", code], check=True)
