"""FaceClassifier: probabilities against arithmetic done here, crops, several outputs, and what is refused."""

from __future__ import annotations

import json
import pickle

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from spherecv import Face, FaceAligner, FaceClassifier, FaceDetector, caffe
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.cli.app import app
from spherecv.errors import BackendError, ImageError, InvalidArgumentError, ModelFileError, SphereCVError

pytestmark = pytest.mark.runtime

SIDE = 8
HEAD = f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {SIDE} dim: {SIDE} }}\n'
SEX = 'layer {{ name: "sex" type: "InnerProduct" bottom: "data" top: "sex" inner_product_param {{ num_output: {} }} }}'
MOOD = 'layer { name: "mood" type: "InnerProduct" bottom: "data" top: "mood" inner_product_param { num_output: 3 } }\n'
PROB = 'layer { name: "prob" type: "Softmax" bottom: "sex" top: "prob" }\n'
SIGMOID = 'layer { name: "mask" type: "Sigmoid" bottom: "sex" top: "mask" }\n'


def weights(seed: int, count: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((count, 3 * SIDE * SIDE)) / 2000).astype(np.float32)


def saved(folder, *layers, counts=(2, 3)):
    net = NetParameter()
    for seed, (name, count) in enumerate(zip(("sex", "mood"), counts, strict=True)):
        blobs = net.layer.add(name=name, type="InnerProduct").blobs
        blobs.extend(caffe.write_blob(blob) for blob in (weights(seed, count), np.zeros(count, np.float32)))
    (folder / "net.prototxt").write_text(HEAD + "".join(layers))
    (folder / "net.caffemodel").write_bytes(net.SerializeToString())
    return folder / "net.prototxt", folder / "net.caffemodel"


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)


FACE = Face((30, 20, 70, 80), landmarks=[[40, 40], [60, 40], [50, 55], [42, 68], [58, 68]])


def softmax(logits):
    powers = np.exp(np.float64(logits))
    return powers / powers.sum()


def expected(crop, seed=0, count=2, mean=0.0, scale=1.0):
    planes = (crop.transpose(2, 0, 1).astype(np.float64) - np.reshape(mean, (-1, 1, 1))) * scale
    return weights(seed, count).astype(np.float64) @ planes.reshape(-1)


def test_a_net_with_its_own_softmax(tmp_path, image):
    classifier = FaceClassifier.from_caffe(*saved(tmp_path, SEX.format(2), PROB), labels=["male", "female"])
    (answer,) = classifier.classify(image, [FACE])
    crop = cv2.resize(image[20:80, 30:70], (SIDE, SIDE))
    np.testing.assert_allclose(list(answer.probabilities.values()), softmax(expected(crop)), atol=1e-5)
    assert list(answer.probabilities) == ["male", "female"]
    assert answer.softmax == ()
    assert json.loads(json.dumps(answer.to_dict()))["heads"] == {"prob": answer.probabilities}
    assert repr(classifier) == "FaceClassifier(net.caffemodel; prob: 2 labels; crop box, margin 0)"


def test_a_softmax_that_the_net_lacks_is_added_and_stated(tmp_path, image):
    recipe = {"size": [SIDE, SIDE], "mean": [104, 117, 123], "scale": 2.0}
    files = saved(tmp_path, SEX.format(2))
    classifier = FaceClassifier.from_caffe(*files, labels=("a", "b"), recipe=recipe, margin=0.25)
    (answer,) = classifier.classify(image, [FACE])
    crop = cv2.resize(image[5:95, 20:80], (SIDE, SIDE))
    numbers = softmax(expected(crop, mean=[104, 117, 123], scale=2.0))
    np.testing.assert_allclose(list(answer.probabilities.values()), numbers, atol=1e-5)
    assert answer.softmax == ("sex",)


def test_crops(tmp_path, image):
    files = saved(tmp_path, SEX.format(2), PROB)
    near_the_edge = Face((-10, 60, 20, 100), landmarks=FACE.landmarks)

    def found(crop, face, **more):
        classifier = FaceClassifier.from_caffe(*files, labels=["a", "b"], crop=crop, **more)
        return list(classifier.classify(image, [face])[0].probabilities.values())

    square = np.zeros((40, 40, 3), np.uint8)
    square[:30, 15:] = image[60:90, 0:25]
    np.testing.assert_allclose(
        found("square", near_the_edge), softmax(expected(cv2.resize(square, (SIDE, SIDE)))), atol=1e-5
    )
    cut = cv2.resize(image[60:90, 0:20], (SIDE, SIDE))
    np.testing.assert_allclose(found("box", near_the_edge), softmax(expected(cut)), atol=1e-5)
    points = [[2.5, 3.5], [5.5, 3.5], [4, 5], [3, 6.5], [5, 6.5]]
    recipe = {"size": [SIDE, SIDE], "template": points, "alignment": "umeyama"}
    aligned = FaceAligner(points, size=(SIDE, SIDE), alignment="umeyama").align(image, [FACE])[0]
    np.testing.assert_allclose(found("aligned", FACE, recipe=recipe), softmax(expected(aligned)), atol=1e-5)
    whole = FaceClassifier.from_caffe(*files, labels=["a", "b"], crop="whole")
    (answer,) = whole.classify(image)
    assert answer.face.box.tolist() == [0, 0, 120, 90]
    numbers = softmax(expected(cv2.resize(image, (SIDE, SIDE))))
    np.testing.assert_allclose(list(answer.probabilities.values()), numbers, atol=1e-5)


def test_several_outputs(tmp_path, image):
    files = saved(tmp_path, SEX.format(2), MOOD, PROB)
    labels = {"prob": ["male", "female"], "mood": ["sad", "calm", "glad"]}
    (answer,) = FaceClassifier.from_caffe(*files, labels=labels, crop="whole").classify(image)
    crop = cv2.resize(image, (SIDE, SIDE))
    np.testing.assert_allclose(list(answer.heads["prob"].values()), softmax(expected(crop)), atol=1e-5)
    np.testing.assert_allclose(list(answer.heads["mood"].values()), softmax(expected(crop, 1, 3)), atol=1e-5)
    assert answer.softmax == ("mood",)
    with pytest.raises(InvalidArgumentError, match="several outputs"):
        answer.probabilities  # noqa: B018
    with pytest.raises(ModelFileError, match=r"outputs prob, mood|outputs mood, prob"):
        FaceClassifier.from_caffe(*files, labels=["a", "b"])
    recipe = {"size": [SIDE, SIDE], "output": "sex"}
    one = FaceClassifier.from_caffe(*files, labels=["a", "b"], recipe=recipe, crop="whole").classify(image)[0]
    assert one.softmax == ("sex",)
    np.testing.assert_allclose(list(one.probabilities.values()), list(answer.heads["prob"].values()), atol=1e-5)


def test_a_sigmoid_and_a_mirror(tmp_path, image):
    files = saved(tmp_path, SEX.format(1), SIGMOID, counts=(1, 3))
    recipe = {"size": [SIDE, SIDE], "mirror": True}
    (answer,) = FaceClassifier.from_caffe(*files, labels=["mask"], recipe=recipe, crop="whole").classify(image)
    crop = cv2.resize(image, (SIDE, SIDE))
    both = [1 / (1 + np.exp(-expected(look, count=1)[0])) for look in (crop, crop[:, ::-1])]
    assert answer.probabilities["mask"] == pytest.approx(np.mean(both), abs=1e-5)
    bare = saved(tmp_path, SEX.format(1), counts=(1, 3))
    with pytest.raises(InvalidArgumentError, match="one number, and not a probability"):
        FaceClassifier.from_caffe(*bare, labels=["mask"])


def test_faces_are_found_and_errors_keep_their_place(tmp_path, data_dir):
    files = saved(tmp_path, SEX.format(2), PROB)
    photo = data_dir / "deepface-pairs" / "couple.jpg"
    detector = FaceDetector()
    classifier = FaceClassifier.from_caffe(*files, labels=["a", "b"], detector=detector)
    answers = classifier.classify_batch([photo, b"nothing", np.zeros((60, 60, 3), np.uint8), photo], errors="return")
    faces = detector.detect(photo)
    assert [face.face.box.tolist() for face in answers[0]] == [face.box.tolist() for face in faces]
    assert isinstance(answers[1], ImageError)
    assert answers[2] == []
    assert [face.probabilities for face in answers[3]] == [face.probabilities for face in answers[0]]
    assert [face.probabilities for face in classifier.classify(photo, faces)] == [
        pytest.approx(face.probabilities) for face in answers[0]
    ]
    with pytest.raises(ImageError):
        classifier.classify_batch([photo, b"nothing"])
    copied = pickle.loads(pickle.dumps(classifier))
    assert copied.classify(photo)[0].probabilities == pytest.approx(answers[0][0].probabilities)


def test_numbers_that_are_no_probabilities(tmp_path, image):
    net = 'layer { name: "sex" type: "InnerProduct" bottom: "data" top: "sex" inner_product_param { num_output: 2 } }'
    files = saved(tmp_path, net)
    bad = NetParameter()
    blob = np.full((2, 3 * SIDE * SIDE), 1e38, np.float32)
    bad.layer.add(name="sex", type="InnerProduct").blobs.extend(
        caffe.write_blob(array) for array in (blob, np.zeros(2, np.float32))
    )
    files[1].write_bytes(bad.SerializeToString())
    classifier = FaceClassifier.from_caffe(*files, labels=["a", "b"], crop="whole")
    with pytest.raises(BackendError, match="not finite"):
        classifier.classify(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["a"]}, "gives 2 numbers, but labels has 1"),
        ({"labels": ["a", "a"]}, "labels must be different words"),
        ({"labels": "ab"}, "labels must be words"),
        ({"labels": []}, "labels must be words"),
        ({"labels": {}}, "labels must not be empty"),
        ({"crop": "round"}, "crop must be one of box, square, aligned, whole"),
        ({"margin": -0.1}, "margin must be a number within"),
        ({"margin": float("nan")}, "margin must be a number within"),
        ({"recipe": {"size": [9, 9]}}, "takes crops of shape"),
        ({"detector": "haar"}, "a detector must be one of"),
        ({"detector": 3}, "detector must be a FaceDetector"),
    ],
)
def test_what_is_refused(tmp_path, options, message):
    files = saved(tmp_path, SEX.format(2), PROB)
    with pytest.raises(InvalidArgumentError, match=message):
        FaceClassifier.from_caffe(*files, **{"labels": ["a", "b"], **options})


def test_files_that_are_missing(tmp_path):
    files = saved(tmp_path, SEX.format(2), PROB)
    with pytest.raises(ModelFileError, match="no such file"):
        FaceClassifier.from_caffe(files[0], tmp_path / "nothing", labels=["a", "b"])
    with pytest.raises(SphereCVError):
        FaceClassifier.from_caffe(files[1], files[1], labels=["a", "b"])


def test_the_command(tmp_path, data_dir):
    prototxt, caffemodel = saved(tmp_path, SEX.format(2), MOOD, PROB)
    photo = str(data_dir / "deepface-pairs" / "couple.jpg")
    (tmp_path / "labels.txt").write_text("male\nfemale\n")
    command = ["classify", photo, "--prototxt", str(prototxt), "--caffemodel", str(caffemodel), "--margin", "0.2"]
    run = CliRunner()
    both = ["--labels", f"prob={tmp_path / 'labels.txt'}", "--labels", "mood=sad,calm,glad"]
    answer = run.invoke(app, [*command, *both, "--json"])
    assert answer.exit_code == 0, answer.output
    faces = json.loads(answer.stdout)["faces"]
    assert faces
    assert {name: list(head) for name, head in faces[0]["heads"].items()} == {
        "prob": ["male", "female"],
        "mood": ["sad", "calm", "glad"],
    }
    text = run.invoke(app, [*command, *both]).stdout
    assert "(softmax added)" in text
    assert "male 0." in text or "male 1." in text
    assert run.invoke(app, [*command, "--labels", "a,b"]).exit_code == 2
    assert run.invoke(app, [*command, "--labels", "a,b", "--labels", "c"]).exit_code == 2
    single = saved(tmp_path, SEX.format(2), PROB)
    words = ["classify", photo, "--prototxt", str(single[0]), "--caffemodel", str(single[1])]
    assert run.invoke(app, [*words, "--labels", str(tmp_path / "labels.txt"), "--crop", "whole"]).exit_code == 0
    assert run.invoke(app, [*words, "--labels", "a,b,c"]).exit_code == 2
