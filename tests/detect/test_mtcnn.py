from __future__ import annotations

import cv2
import numpy as np
import pytest

from spherecv.detect import FaceDetector
from spherecv.detect.base import Detections
from spherecv.detect.mtcnn import PRESETS, Mtcnn, open_mtcnn
from spherecv.errors import InvalidArgumentError, ModelFileError

pytestmark = pytest.mark.runtime

AUTHORS = (0.6, 0.7, 0.9)


@pytest.fixture(scope="module")
def detectors(sessions):
    """Both presets on the very sessions that the plain reading uses, one thread; and on threads of their own."""
    by_name = dict(zip(("pnet", "rnet", "onet"), sessions, strict=True))
    return {preset: Mtcnn(by_name.__getitem__, preset=preset) for preset in PRESETS}


@pytest.fixture(scope="module")
def read_plainly(plain, sessions):
    """What the plain reading finds, in the coordinates that a Face has."""

    def read(image, min_size, thresholds, fastresize, factor):
        nets = [session.run for session in sessions]
        boxes, landmarks = plain.detect_face(image, min_size, *nets, thresholds, fastresize, factor)
        return Detections(boxes[:, :4] - (1, 1, 0, 0), boxes[:, 4], landmarks - 1)

    return read


def assert_same_faces(got: Detections, expected: Detections, tolerance=0.01):
    assert len(got.boxes) == len(expected.boxes)
    for name in ("boxes", "scores", "landmarks"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=tolerance, err_msg=name)


def test_the_authors_preset_is_the_plain_reading(read_plainly, detectors, photos, lfw):
    images = [*photos[:3], *lfw]
    expected = [read_plainly(image, 20, AUTHORS, False, 0.85) for image in images]
    assert sum(len(faces.boxes) for faces in expected) >= len(images)
    for image, faces in zip(images, expected, strict=True):
        assert_same_faces(detectors["sphereface"].find([image])[0], faces)


def test_the_fast_preset_is_the_plain_reading_too(read_plainly, detectors, photos, lfw):
    for image in [*photos, *lfw]:
        least = max(20, min(image.shape[:2]) // 12)
        assert least / 32 < 2  # not shrunk
        expected = read_plainly(image, least, (0.7, 0.7, 0.9), True, 0.709)
        assert_same_faces(detectors["fast"].find([image])[0], expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_batch_and_threads_change_nothing(detectors, photos, lfw, preset):
    images = [*photos[::3], *lfw[:12]]
    one_by_one = [detectors[preset].find([image])[0] for image in images]
    for detector in (detectors[preset], open_mtcnn(preset=preset, threads=3)):
        for got, expected in zip(detector.find(images), one_by_one, strict=True):
            assert_same_faces(got, expected)


def test_of_several_images_each_goes_through_the_nets_alone(sessions, lfw, monkeypatch):
    by_name = dict(zip(("pnet", "rnet", "onet"), sessions, strict=True))
    seen = []

    class Counted:
        def __init__(self, name):
            self.name = name

        def run(self, pictures):
            if self.name == "rnet":
                seen.append(len(pictures))
            return by_name[self.name].run(pictures)

    detector = Mtcnn(Counted, workers=2)
    blank = np.zeros_like(lfw[0])
    detector.find([lfw[0]])
    shared_out = sorted(seen)
    seen.clear()
    detector.find([lfw[0], blank])
    assert max(seen) == sum(count for count in shared_out if count > 4)  # with 4 it looks at how a face lies
    seen.clear()
    monkeypatch.setattr("spherecv.detect.mtcnn.PIXELS_AT_ONCE", blank.size // 3)  # unless they are too large together
    detector.find([lfw[0], blank])
    assert sorted(seen) == shared_out


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_other_backends_find_the_same(detectors, lfw, backend):
    pytest.importorskip(backend)
    # One thread: those that wait for work by spinning would slow down a machine that is busy with other tests.
    got = open_mtcnn(backend=backend, threads=1).find(lfw[:12])
    for faces, expected in zip(got, detectors["fast"].find(lfw[:12]), strict=True):
        # A coordinate cut to a whole pixel may fall on the other side of it: the nets differ in the sixth digit.
        assert_same_faces(faces, expected, tolerance=1.5)


def test_landmarks_lie_in_the_order_of_a_face(detectors, lfw):
    for faces in detectors["fast"].find(lfw):
        best = faces.landmarks[faces.scores.argmax()]
        left_eye, right_eye, nose, left_mouth, right_mouth = best
        assert left_eye[0] < nose[0] < right_eye[0] or left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < min(left_mouth[1], right_mouth[1])


def test_landmarks_of_a_mirror_image_are_mirrored(detectors, lfw):
    """The middle of the image is (width - 1) / 2 where the middle of the first pixel is 0; MATLAB's reading, which is
    kept, lies half a pixel to the left of that, and its mirror image half a pixel to the right."""
    found = detectors["sphereface"].find(lfw)
    mirrored = detectors["sphereface"].find([np.ascontiguousarray(image[:, ::-1]) for image in lfw])
    sums = [
        a.landmarks[0][:, 0] + b.landmarks[0][[1, 0, 2, 4, 3], 0]
        for a, b in zip(found, mirrored, strict=True)
        if len(a.boxes) == len(b.boxes) == 1
    ]
    assert len(sums) > 12
    assert np.median(sums) == pytest.approx(249 - 1, abs=0.3)


def test_faces_at_the_border_and_across_it(detectors, lfw):
    image = next(image for image in lfw if len(detectors["fast"].find([image])[0].boxes) == 1)
    left, top = detectors["fast"].find([image])[0].boxes[0, :2].astype(int)
    cut = image[top + 5 :, left + 5 :]
    found = detectors["fast"].find([np.ascontiguousarray(cut)])[0]
    assert len(found.boxes) == 1
    assert found.boxes[0, :2] == pytest.approx((-5, -5), abs=12)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (11, 11), (12, 12), (20, 20), (19, 300), (21, 500), (64, 64)])
@pytest.mark.parametrize("value", [0, 255])
def test_no_face_in_tiny_and_even_images(detectors, preset, shape, value):
    found = detectors[preset].find([np.full((*shape, 3), value, np.uint8)])[0]
    assert found.boxes.shape == (0, 4)
    assert found.landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize("shape", [(1, 1), (40, 60), (3, 5000)])
def test_a_smallest_face_larger_than_the_image_finds_nothing(shape):
    assert FaceDetector(min_size=100_000).detect(np.zeros((*shape, 3), np.uint8)) == []


def test_a_large_image_of_one_row_finds_nothing():
    assert FaceDetector(min_size=10).detect(np.zeros((1, 40_000_000, 3), np.uint8)) == []


def test_no_images_no_answers(detectors):
    assert detectors["fast"].find([]) == []


def test_large_images_are_shrunk_and_coordinates_are_not(detectors, lfw):
    image = lfw[0]
    large = cv2.resize(image, None, fx=16, fy=16, interpolation=cv2.INTER_NEAREST)  # 16 megapixels
    for preset in PRESETS:
        small, found = detectors[preset].find([image])[0], detectors[preset].find([large])[0]
        assert len(found.boxes) >= len(small.boxes)
        for box, landmarks in zip(small.boxes, small.landmarks, strict=True):
            same = np.abs(found.boxes - box * 16).max(axis=1).argmin()
            # The middle of pixel x is the middle of the sixteen that it became, 16 x + 7.5.
            np.testing.assert_allclose(found.landmarks[same], landmarks * 16 + 7.5, atol=3 * 16)
            np.testing.assert_allclose(found.boxes[same], box * 16, atol=8 * 16)


def test_plans_bound_the_pixels(detectors):
    for preset, detector in detectors.items():
        for height, width in ((480, 640), (3000, 4000), (9000, 9900), (100, 60_000)):
            shrink, least = detector._plan(height, width)
            assert height * width / shrink**2 * max(1, (12 / least) ** 2) <= 12_500_000, (preset, height, width)
            assert least >= 12
    assert detectors["fast"]._plan(480, 640) == (1, 40)
    assert detectors["fast"]._plan(1080, 1920) == (2, 45)
    assert detectors["fast"]._plan(4000, 6000) == (10, 33.3)
    assert detectors["sphereface"]._plan(1080, 1920) == (1, 20)
    assert detectors["sphereface"]._plan(4000, 6000) == (2, 12)


def test_min_size_leaves_smaller_faces_out(detectors, lfw, sessions):
    by_name = dict(zip(("pnet", "rnet", "onet"), sessions, strict=True))
    images = lfw[:6]
    sizes = [faces.boxes[:, 2] - faces.boxes[:, 0] for faces in detectors["fast"].find(images)]
    assert max(size.max() for size in sizes) < 150
    # A net that was taught faces of 12 to 24 pixels takes smaller ones too, but not of a third.
    assert not any(len(faces.boxes) for faces in Mtcnn(by_name.__getitem__, min_size=249).find([*images]))


def test_nets_from_caffe_files(data_dir, detectors, lfw):
    folder = data_dir / "mtcnn-caffe"
    six = [folder / f"det{i}.{suffix}" for i in (1, 2, 3) for suffix in ("prototxt", "caffemodel")]
    for model in (folder, six):
        for got, expected in zip(open_mtcnn(model).find(lfw[:4]), detectors["fast"].find(lfw[:4]), strict=True):
            assert_same_faces(got, expected)


def test_nets_from_onnx_files(tmp_path, detectors, lfw):
    from spherecv.zoo import mtcnn_onnx

    paths = []
    for name, data in mtcnn_onnx().items():
        paths.append(tmp_path / f"{name}.onnx")
        paths[-1].write_bytes(data)
    assert_same_faces(open_mtcnn(paths).find(lfw[:1])[0], detectors["fast"].find(lfw[:1])[0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "slow"}, "preset must be one of"),
        ({"min_size": 9.9}, "min_size must be a number from 10, but got 9.9"),
        ({"min_size": float("nan")}, "min_size"),
        ({"min_size": float("inf")}, "min_size"),
        ({"min_size": "20"}, "min_size"),
        ({"factor": 1.0}, "factor must be a number within 0.1..0.95, but got 1.0"),
        ({"factor": True}, "factor"),
        ({"thresholds": 0.9}, "thresholds must be three numbers"),
        ({"thresholds": (0.6, 0.7)}, "thresholds must be three numbers"),
        ({"thresholds": (0.6, 0.7, 1.1)}, "within 0..1, but got 1.1"),
        ({"model": ["a", "b"]}, "six files, but got 2"),
        ({"backend": "caffe"}, "backend"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(InvalidArgumentError, match=words):
        open_mtcnn(**settings)


def test_missing_files_and_other_nets_are_named(tmp_path, data_dir):
    with pytest.raises(ModelFileError, match="not a folder"):
        open_mtcnn(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="det1"):
        open_mtcnn(tmp_path)
    with pytest.raises(ModelFileError, match=r"a\.onnx"):
        open_mtcnn([tmp_path / "a.onnx"] * 3)
    other = data_dir / "teacher" / "mobilefacenet.onnx"
    with pytest.raises((ModelFileError, InvalidArgumentError)):
        open_mtcnn([other] * 3).find([np.zeros((112, 112, 3), np.uint8)])


def test_the_name_says_what_is_not_default(sessions):
    by_name = dict(zip(("pnet", "rnet", "onet"), sessions, strict=True))
    assert Mtcnn(by_name.__getitem__).name == "mtcnn"
    assert Mtcnn(by_name.__getitem__, preset="sphereface").name == "mtcnn preset=sphereface"
    changed = Mtcnn(by_name.__getitem__, min_size=40, thresholds=(0.6, 0.7, 0.8)).name
    assert changed == "mtcnn min_size=40 thresholds=0.6/0.7/0.8"


def test_small_faces_of_a_large_image_are_found_where_nobody_large_is(detectors, lfw):
    around = np.full((1600, 2000, 3), 125, np.uint8)
    around[700:950, 900:1150] = lfw[0]  # a face of a fifteenth of the image, below the preset's twelfth
    alone, found = (detectors["fast"].find([image])[0].boxes for image in (lfw[0], around))
    largest = alone[np.argmax(np.prod(alone[:, 2:] - alone[:, :2], axis=1))] + (900, 700, 900, 700)
    assert np.abs(found - largest).max(axis=1).min() < 8
