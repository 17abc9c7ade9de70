"""SSD face detectors: OpenCV 4's answers on res10, landmarks, and what is refused."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from spherecv import FaceAligner, FaceDetector, PipelineConfig
from spherecv.errors import InvalidArgumentError, ModelFileError, ModelNotFoundError
from spherecv.zoo import model_info, models_dir

pytestmark = pytest.mark.runtime


def _maker():
    spec = importlib.util.spec_from_file_location("make_ssd_golden", Path(__file__).with_name("make_ssd_golden.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(data_dir):
    folder = data_dir / "ssd-res10-caffe"
    return folder / "deploy.prototxt", folder / "res10_300x300_ssd_iter_140000.caffemodel"


@pytest.fixture(scope="module")
def ssd(files):
    return FaceDetector("ssd", model=files)


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("ssd_golden.npz")) as stored:
        return dict(stored)


def test_boxes_and_scores_are_those_of_opencv_4(ssd, golden, data_dir):
    seen = 0
    for name, image in _maker().images(data_dir):
        expected = golden[name][np.argsort(-golden[name][:, 0], kind="stable")]
        faces = ssd.detect(image)
        assert len(faces) == len(expected), name
        for face, row in zip(faces, expected, strict=True):
            assert abs(face.score - row[0]) < 1e-4
            np.testing.assert_allclose(face.box, row[1:], rtol=0, atol=1e-3, err_msg=name)
        seen += len(faces)
    assert seen > 100


def test_a_batch_gives_what_its_images_give(ssd, photos):
    alone = [ssd.detect(image) for image in photos]
    for faces, expected in zip(ssd.detect_batch([*photos, np.zeros((50, 40, 3), np.uint8)]), [*alone, []], strict=True):
        assert len(faces) == len(expected)
        for face, wanted in zip(faces, expected, strict=True):
            np.testing.assert_allclose(face.box, wanted.box, atol=1e-2)
            np.testing.assert_allclose(face.landmarks, wanted.landmarks, atol=0.1)


def test_landmarks_are_those_of_mtcnn(ssd, lfw):
    mtcnn = FaceDetector("mtcnn")
    errors = []
    for image in lfw:
        (face, *_), others = ssd.detect(image), mtcnn.detect(image)
        width = face.box[2] - face.box[0]
        errors.append(min(float(np.abs(face.landmarks - other.landmarks).mean()) / width for other in others))
    assert np.median(errors) < 0.01
    assert max(errors) < 0.05


def test_faces_can_be_aligned(ssd, photos):
    faces = ssd.detect(photos[0])
    assert FaceAligner().align(photos[0], faces).shape == (len(faces), 112, 96, 3)
    assert all(face.quality is not None for face in faces)


def test_thresholds_and_names(files, tmp_path, photos):
    assert FaceDetector("ssd", model=files).name == "ssd"
    strict = FaceDetector("ssd", model=files, thresholds=0.9)
    assert strict.name == "ssd thresholds=0.9"
    assert all(face.score >= 0.9 for face in strict.detect(photos[-1]))
    recipe = {"size": [300, 300], "color": "BGR", "mean": [104, 177, 123]}
    same = pickle.loads(pickle.dumps(FaceDetector("ssd", model=files, recipe=recipe)))
    assert same.name.startswith("ssd recipe=")
    expected = FaceDetector("ssd", model=files).detect(photos[0])
    np.testing.assert_array_equal(same.detect(photos[0])[0].box, expected[0].box)
    wrong = FaceDetector("ssd", model=files, recipe={**recipe, "color": "RGB", "scale": 0.01})
    assert [face.score for face in wrong.detect(photos[0])] != [face.score for face in same.detect(photos[0])]


def test_by_the_manifest(files, photos, monkeypatch, tmp_path):
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="spherecv models download ssd-res10"):
        FaceDetector("ssd")
    goal = tmp_path / "models" / "ssd-res10" / model_info("ssd-res10").file("caffemodel").name
    goal.parent.mkdir(parents=True)
    shutil.copy(files[1], goal)
    config = PipelineConfig(detector="ssd")
    detector = config.open_detector()
    assert detector.name == config.detector_name == "ssd"
    expected = FaceDetector("ssd", model=files).detect(photos[0])
    np.testing.assert_array_equal(detector.detect(photos[0])[0].box, expected[0].box)


def test_the_prototxt_in_the_package_is_the_same_net(files):
    from spherecv import caffe
    from spherecv.runtime import Session

    image = np.random.default_rng(3).normal(0, 60, (1, 3, 300, 300)).astype(np.float32)
    theirs, ours = (
        Session(caffe.load(path, files[1]).to_onnx()).run(image)["detection_out"]
        for path in (files[0], models_dir() / "ssd-res10.prototxt")
    )
    np.testing.assert_array_equal(ours, theirs)


def test_what_is_refused(files, mobilefacenet, tmp_path):
    with pytest.raises(InvalidArgumentError, match="preset cannot be set for ssd"):
        FaceDetector("ssd", model=files, preset="fast")
    with pytest.raises(InvalidArgumentError, match="recipe cannot be set for yunet"):
        FaceDetector("yunet", recipe={"size": [300, 300]})
    with pytest.raises(InvalidArgumentError, match=r"model must be \(prototxt, caffemodel\) for ssd"):
        FaceDetector("ssd", model=files[1])
    with pytest.raises(InvalidArgumentError, match=r"thresholds must be a number within 0\.\.1"):
        FaceDetector("ssd", model=files, thresholds=1.5)
    with pytest.raises(InvalidArgumentError, match="one number for ssd"):
        FaceDetector("ssd", model=files, thresholds=(0.5, 0.5, 0.5))
    with pytest.raises(InvalidArgumentError, match="takes images of"):
        FaceDetector("ssd", model=files, recipe={"size": [320, 300]})
    with pytest.raises(InvalidArgumentError, match="three channels, but the recipe says GRAY"):
        FaceDetector("ssd", model=files, recipe={"size": [300, 300], "color": "GRAY"})
    with pytest.raises(ModelFileError, match="no such file"):
        FaceDetector("ssd", model=(files[0], tmp_path / "nothing.caffemodel"))
    with pytest.raises(ModelFileError, match="is no SSD net"):
        FaceDetector("ssd", model=mobilefacenet)
