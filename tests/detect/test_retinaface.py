"""The real package retina-face, on a stand-in for its network: same inputs and outputs, with known faces planted."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest

from spherecv import FaceDetector
from spherecv.cli.samples import sample_portrait
from spherecv.detect import retinaface
from spherecv.detect.base import Detections
from spherecv.detect.turns import with_turns
from spherecv.errors import DeviceError, DownloadError, InvalidArgumentError, ModelFileError

SIDE = 1024
STRIDES = (32, 16, 8)
# First anchor of each stride: side, and the middle of the anchor of the first cell.
ANCHORS = {32: (512, 7.5), 16: (128, 7.5), 8: (32, 7.5)}
FACES = {
    32: ((300.0, 200.0, 700.0, 720.0), [(400, 350), (600, 360), (505, 470), (420, 590), (580, 600)], 0.99),
    16: ((800.0, 100.0, 920.0, 260.0), [(830, 150), (890, 152), (861, 190), (835, 220), (885, 222)], 0.95),
}


def build_network(path):
    """An ONNX file with the nine outputs of `retinaface.onnx`.

    The score of the face of stride 16 is multiplied by the mean of the first channel / 255, which is red where the
    package feeds RGB.
    """
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, initializers, outputs = [], [], []

    def constant(name, array):
        initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    constant("first", np.array([0], np.int64))
    nodes += [
        helper.make_node("Gather", ["data", "first"], ["channel"], axis=3),
        helper.make_node("ReduceMean", ["channel"], ["mean"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", constant("full", np.float32(255))], ["red"]),
    ]
    for stride in STRIDES:
        cells = SIDE // stride
        scores = np.zeros((1, cells, cells, 4), np.float32)
        boxes, landmarks = np.zeros((1, cells, cells, 8), np.float32), np.zeros((1, cells, cells, 20), np.float32)
        if stride in FACES:
            (x1, y1, x2, y2), points, score = FACES[stride]
            anchor, middle = ANCHORS[stride]
            column, row = round((x1 + x2) / 2 / stride), round((y1 + y2) / 2 / stride)
            centre = np.array((column * stride + middle, row * stride + middle))
            scores[0, row, column, 2] = score
            wide, high = x2 - x1 + 1, y2 - y1 + 1
            boxes[0, row, column, :4] = (
                *((np.array(((x1 + x2) / 2, (y1 + y2) / 2)) - centre) / anchor),
                np.log(wide / anchor),
                np.log(high / anchor),
            )
            landmarks[0, row, column, :10] = ((np.array(points) - centre) / anchor).ravel()
        for kind, array in (("cls_prob", scores), ("bbox_pred", boxes), ("landmark_pred", landmarks)):
            name = f"{kind}_stride{stride}"
            value = constant(f"planted_{name}", array)
            if kind == "cls_prob" and stride == 16:
                nodes.append(helper.make_node("Mul", [value, "red"], [name]))
            else:
                nodes.append(helper.make_node("Identity", [value], [name]))
            outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
    data = helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["n", "h", "w", 3])
    graph = helper.make_graph(nodes, "stand-in", [data], outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where the package looks for its weights."""
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def network(home):
    path = home / ".deepface" / "weights" / "retinaface.onnx"
    path.parent.mkdir(parents=True)
    build_network(path)
    return path


@pytest.fixture(autouse=True)
def one_look(monkeypatch):
    """The stand-in finds its faces whatever the image shows: in turned ones, too."""
    monkeypatch.setattr(retinaface, "with_turns", lambda _rule, _look, _images, answers: answers)


def picture(side=SIDE, *, red=255):
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 2] = red
    return image


def test_planted_faces_come_out_where_they_were_planted(network):
    faces = FaceDetector("retinaface").detect(picture())
    assert [face.score for face in faces] == pytest.approx([0.99, 0.95], abs=0.005)
    for face, (box, points, _) in zip(faces, FACES.values(), strict=True):
        # The package includes the last pixel in a box, and a Face does not.
        np.testing.assert_allclose(face.box, np.array(box) + (0, 0, 1, 1), atol=1)
        np.testing.assert_allclose(face.landmarks, points, atol=0.01)
        assert face.quality is not None


def test_landmarks_begin_with_the_left_eye_of_the_image(network):
    left, right, nose, mouth_left, mouth_right = FaceDetector("retinaface").detect(picture())[0].landmarks
    assert left[0] < nose[0] < right[0]
    assert mouth_left[0] < mouth_right[0]
    assert left[1] < nose[1] < mouth_left[1]


def test_small_images_are_enlarged_and_coordinates_are_not(network):
    half = FaceDetector("retinaface").detect(picture(SIDE // 2))[0]
    box, points, _ = FACES[32]
    np.testing.assert_allclose(half.box, np.array(box) / 2 + (0, 0, 1, 1), atol=1)
    np.testing.assert_allclose(half.landmarks, np.array(points) / 2, atol=0.01)


def test_the_network_sees_red_first_and_the_threshold_counts(network):
    assert len(FaceDetector("retinaface").detect(picture(red=200))) == 1
    assert len(FaceDetector("retinaface", thresholds=0.7).detect(picture(red=200))) == 2


def test_a_file_of_ones_own(tmp_path, home):
    path = tmp_path / "mine.onnx"
    build_network(path)
    detector = FaceDetector("retinaface", model=path, thresholds=0.5, threads=1)
    assert detector.name == "retinaface thresholds=0.5"
    assert len(detector.detect(picture())) == 2


def test_no_weights_and_no_network_allowed(home, monkeypatch):
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    with pytest.raises(DownloadError) as raised:
        FaceDetector("retinaface")
    message = str(raised.value)
    assert str(home / ".deepface" / "weights" / "retinaface.onnx") in message
    assert "SPHERECV_OFFLINE" in message
    assert "https://" in message
    assert "\n" not in message
    assert not list(home.rglob("*.onnx"))


def test_no_weights_and_no_network_there(home, monkeypatch, capsys):
    import requests

    def unreachable(*args, **kwargs):
        raise requests.ConnectionError("no route\nto host")

    monkeypatch.delenv("SPHERECV_OFFLINE")
    monkeypatch.setattr(requests, "head", unreachable)
    with pytest.raises(DownloadError, match=r"could not be downloaded .* put the file there by hand") as raised:
        FaceDetector("retinaface")
    assert "\n" not in str(raised.value)
    assert "no route to host" in str(raised.value)
    assert capsys.readouterr() == ("", "")


def test_of_an_unknown_host_the_systems_words_are_told(home, monkeypatch):
    import socket

    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.delenv("SPHERECV_OFFLINE")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # below requests and urllib3, which wrap it
    with pytest.raises(DownloadError, match=r"could not be downloaded \(Name or service not known\): put") as raised:
        FaceDetector("retinaface")
    assert "HTTPSConnection" not in str(raised.value)


def test_the_package_downloads_to_where_it_looks(home, monkeypatch):
    import gdown
    import requests

    def download(url, output, quiet):
        build_network(output)

    monkeypatch.delenv("SPHERECV_OFFLINE")
    monkeypatch.setattr(requests, "head", lambda *args, **kwargs: type("Response", (), {"status_code": 200}))
    monkeypatch.setattr(gdown, "download", download)
    assert len(FaceDetector("retinaface").detect(picture())) == 2


def test_files_that_are_no_network(home, network):
    network.write_bytes(b"<html>Not found</html>")
    with pytest.raises(ModelFileError, match=r"retinaface\.onnx is not RetinaFace, or is damaged, delete it"):
        FaceDetector("retinaface")
    with pytest.raises(ModelFileError, match="no such file"):
        FaceDetector("retinaface", model=home / "nothing.onnx")


def test_what_does_not_apply_is_refused(network):
    with pytest.raises(InvalidArgumentError, match="factor cannot be set for retinaface"):
        FaceDetector("retinaface", factor=0.7)
    with pytest.raises(InvalidArgumentError, match="ONNX Runtime only, not on 'opencv'"):
        FaceDetector("retinaface", backend="opencv")
    with pytest.raises(InvalidArgumentError, match=r"thresholds must be a number within 0\.\.1, but got 2"):
        FaceDetector("retinaface", thresholds=2)
    with pytest.raises(InvalidArgumentError, match="thresholds must be one number"):
        FaceDetector("retinaface", thresholds=(0.6, 0.7, 0.9))


def test_cuda_that_is_not_there_is_an_error(network):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(DeviceError, match="cuda"):
        FaceDetector("retinaface", device="cuda")
    assert len(FaceDetector("retinaface", device="auto").detect(picture())) == 2


def test_the_environment_is_left_as_it_was(network):
    FaceDetector("retinaface")
    assert "DEEPFACE_BACKEND_ENGINE" not in os.environ


@pytest.mark.parametrize("seen_lying", [True, False])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_face_that_lies_is_found_upright(network, monkeypatch, turn, seen_lying):
    """A stand-in that knows the face of a portrait, takes a lying one for upright or misses it; MTCNN's nets judge."""
    portrait = np.ascontiguousarray(sample_portrait("eileen-collins"))
    height, width = portrait.shape[:2]
    face = max(FaceDetector("mtcnn").detect(portrait), key=lambda face: face.width)
    box, landmarks = np.float32([face.box]), np.asarray(face.landmarks, np.float32)[None]
    looks = []

    def find(_self, image):
        looks.append(image)
        if np.array_equal(image, portrait):
            return Detections(box, np.float32([0.999]), landmarks)
        if not seen_lying:
            return Detections(box[:0], np.empty(0, np.float32), landmarks[:0])
        quarters = next(k for k in (1, 2, 3) if np.array_equal(image, np.rot90(portrait, k)))
        there = turned(box.reshape(2, 2), quarters)
        return Detections(np.float32([[*there.min(axis=0), *there.max(axis=0)]]), np.float32([0.995]), landmarks)

    def turned(points, quarters):
        """Points of the portrait in `rot90(portrait, quarters)`."""
        x, y = points.T
        return np.stack([(x, y), (y, width - x), (width - x, height - y), (height - y, x)][quarters], axis=1)

    monkeypatch.setattr(retinaface, "with_turns", with_turns)
    monkeypatch.setattr(retinaface.RetinaFace, "_find", find)
    (found,) = FaceDetector("retinaface").detect(np.ascontiguousarray(np.rot90(portrait, turn)))
    corners = turned(box.reshape(2, 2), turn)
    np.testing.assert_allclose(found.box, [*corners.min(axis=0), *corners.max(axis=0)], atol=1.1)
    np.testing.assert_allclose(found.landmarks, turned(landmarks[0], turn), atol=1.1)
    assert found.score == pytest.approx(0.999)
    assert len(looks) == 1 or turn
