from __future__ import annotations

import cv2
import numpy as np
import pytest

from spherecv import FaceDetector
from spherecv.errors import DeviceError, InvalidArgumentError, ModelFileError, ModelNotFoundError

pytestmark = pytest.mark.runtime


@pytest.fixture(scope="module")
def path(data_dir):
    return data_dir / "yunet" / "yunet_n_640_640.onnx"


@pytest.fixture(scope="module")
def yunet(path):
    return FaceDetector("yunet", model=path)


def test_the_same_faces_as_mtcnn(yunet, photos, lfw):
    """Two detectors that share nothing: where each puts the landmarks says in which order and units they are."""
    mtcnn = FaceDetector()
    offsets = []
    for image in [*photos, *lfw]:
        for face in yunet.detect(image):
            others = [other for other in mtcnn.detect(image) if np.hypot(*np.subtract(other.center, face.center)) < 20]
            if others:
                goal = others[0].landmarks
                distances = np.linalg.norm(face.landmarks[:, None] - goal, axis=2)
                assert distances.argmin(axis=1).tolist() == [0, 1, 2, 3, 4]
                offsets.append((face.landmarks - goal) / np.linalg.norm(goal[1] - goal[0]))
    assert len(offsets) > 25
    # In units of the distance between the eyes: a tenth is what two detectors differ by on the same face.
    assert np.median(np.linalg.norm(offsets, axis=2)) < 0.1
    assert np.abs(np.median(offsets, axis=(0, 1))).max() < 0.04


def test_coordinates_of_large_images_are_those_of_the_image(yunet, lfw):
    for image in lfw[:6]:
        large = cv2.resize(image, (1920, 1280), interpolation=cv2.INTER_CUBIC)
        small = yunet.detect(cv2.resize(large, (640, 427), interpolation=cv2.INTER_AREA))
        ratio = np.array((1920 / 640, 1280 / 427))
        assert small
        for face, expected in zip(yunet.detect(large), small, strict=True):
            np.testing.assert_allclose(face.box, expected.box * np.tile(ratio, 2), atol=0.01)
            # The middle of the first pixel is 0 in both.
            np.testing.assert_allclose(face.landmarks, (expected.landmarks + 0.5) * ratio - 0.5, atol=0.01)


def test_no_face_in_even_images(yunet):
    random = np.random.default_rng(0)
    for _ in range(30):
        for shape in [(1, 1), (1, 2000), (2000, 1), (7, 9), (31, 33), (333, 501)]:
            # What a net reads without having written it must not happen to be zeros.
            _ = [np.full(random.integers(1_000, 300_000), np.float32(random.normal() * 50)) for _ in range(20)]
            assert yunet.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_threshold(path, lfw):
    strict = FaceDetector("yunet", model=path, thresholds=1.0)
    assert strict.name == "yunet thresholds=1"
    assert not any(strict.detect_batch(lfw[:4]))


def test_nothing_is_printed(path, capfd):
    FaceDetector("yunet", model=path)
    assert capfd.readouterr() == ("", "")


def test_other_files_are_refused(tmp_path, data_dir):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(ModelFileError, match=r"broken\.onnx is not YuNet, or is damaged"):
        FaceDetector("yunet", model=broken)
    with pytest.raises(ModelFileError, match="is not YuNet"):
        FaceDetector("yunet", model=data_dir / "teacher" / "mobilefacenet.onnx")
    with pytest.raises(ModelFileError, match="no such file"):
        FaceDetector("yunet", model=tmp_path / "nothing.onnx")


def test_a_file_that_may_not_be_downloaded(monkeypatch):
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="spherecv models download yunet"):
        FaceDetector("yunet")


def test_what_does_not_apply_is_refused(path):
    with pytest.raises(InvalidArgumentError, match="preset, min_size cannot be set for yunet"):
        FaceDetector("yunet", model=path, preset="fast", min_size=20)
    with pytest.raises(InvalidArgumentError, match="OpenCV only"):
        FaceDetector("yunet", model=path, backend="onnxruntime")
    with pytest.raises(InvalidArgumentError, match="path of one file"):
        FaceDetector("yunet", model=[path, path])
    with pytest.raises(InvalidArgumentError, match="device"):
        FaceDetector("yunet", model=path, device="tpu")


def test_cuda_that_is_not_there_is_an_error(path):
    if cv2.cuda.getCudaEnabledDeviceCount():
        pytest.skip("this OpenCV has CUDA")
    with pytest.raises(DeviceError, match="yunet cannot use device 'cuda'"):
        FaceDetector("yunet", model=path, device="cuda")
    FaceDetector("yunet", model=path, device="auto")
