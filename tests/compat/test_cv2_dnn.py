"""readNetFromCaffe as typical scripts use it, against OpenCV 4's own importer where that is there, and arithmetic."""

from __future__ import annotations

import os
import time

import cv2
import numpy as np
import pytest

from spherecv import caffe
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.compat import cv2_dnn
from spherecv.compat.cv2_dnn import CaffeNet, readNetFromCaffe
from spherecv.errors import DeviceError, InvalidArgumentError, ModelFileError, PrototxtError
from spherecv.runtime import Session

pytestmark = pytest.mark.runtime

IN_OPENCV = getattr(cv2.dnn, "readNetFromCaffe", None)
"""The oracle: OpenCV 4's own."""

BODY = """
input: "data" input_shape { dim: 1 dim: 3 dim: 16 dim: 12 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
"""
DENSE = """
layer { name: "age" type: "InnerProduct" bottom: "pool1" top: "age" inner_product_param { num_output: 5 } }
layer { name: "age_prob" type: "Softmax" bottom: "age" top: "age_prob" }
"""
GENDER = """
layer { name: "fc" type: "InnerProduct" bottom: "pool1" top: "gender_fc" inner_product_param { num_output: 2 } }
layer { name: "gender" type: "Softmax" bottom: "gender_fc" top: "gender_prob" }
"""
MAPS = """
layer { name: "stage1" type: "Convolution" bottom: "pool1" top: "stage1"
  convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "stage2" type: "Convolution" bottom: "pool1" top: "stage2"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "concat" type: "Concat" bottom: "stage1" bottom: "stage2" top: "concat" }
"""
NORMED = """
input: "data" input_shape { dim: 1 dim: 3 dim: 16 dim: 12 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
"""
SIZES = {
    "conv1": [(4, 3, 3, 3), (4,)],
    "age": [(5, 140), (5,)],
    "fc": [(2, 140), (2,)],
    "stage1": [(3, 4, 1, 1), (3,)],
    "stage2": [(2, 4, 1, 1), (2,)],
    "bn1": [(4,), (4,), (1,)],
    "scale1": [(4,), (4,)],
}


def weights(prototxt: str) -> bytes:
    net, random = NetParameter(), np.random.default_rng(7)
    for name, shapes in SIZES.items():
        if f'name: "{name}"' in prototxt:
            arrays = [np.abs(random.standard_normal(shape)).astype(np.float32) / 2 for shape in shapes]
            if name != "bn1":
                arrays[0] -= 0.4
            net.layer.add(name=name).blobs.extend(caffe.write_blob(array) for array in arrays)
    return net.SerializeToString()


@pytest.fixture
def blob():
    return np.random.default_rng(1).standard_normal((1, 3, 16, 12)).astype(np.float32)


@pytest.fixture
def files(data_dir):
    folder = data_dir / "ssd-res10-caffe"
    return str(folder / "deploy.prototxt"), str(folder / "res10_300x300_ssd_iter_140000.caffemodel")


def both(prototxt):
    """Our net, and OpenCV 4's own where that is there."""
    content = weights(prototxt)
    nets = [readNetFromCaffe(prototxt.encode(), content)]
    if IN_OPENCV is not None:
        nets.append(IN_OPENCV(np.frombuffer(prototxt.encode(), np.uint8), np.frombuffer(content, np.uint8)))
    return nets


def session_of(prototxt, outputs=None):
    """Every blob by the converter and a Session: the oracle on OpenCV 5."""
    return Session(caffe.load(prototxt.encode(), weights(prototxt), outputs=outputs).to_onnx())


def column(numbers):
    return np.reshape(numbers, (1, -1, 1, 1))


def same(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_age_script(blob):
    ours, *opencv = both(BODY + DENSE)
    assert type(ours) is cv2.dnn.Net
    ours.setInput(blob)
    ages = ours.forward()
    same(ages, session_of(BODY + DENSE).run(blob)["age_prob"])
    assert ours.getUnconnectedOutLayersNames() == ("age_prob",)
    for net in opencv:
        net.setInput(blob)
        same(ages, net.forward())
        for name in ("conv1", "relu1", "pool1", "age", "age_prob"):
            same(ours.forward(name), net.forward(name))


def test_names_of_layers_on_both_majors(blob):
    (net, *_) = both(BODY + DENSE)
    net.setInput(blob)
    for name, outputs in (("relu1", ["conv1"]), ("pool1", ["pool1"]), ("age", ["age"])):
        same(net.forward(name), session_of(BODY + DENSE, outputs).run(blob)[outputs[0]])
    assert (net.forward("conv1") < 0).any()  # what the layer gives, before ReLU
    assert not (net.forward("relu1") < 0).any()


@pytest.mark.parametrize("every_blob", [False, True])
def test_embedding_script(mobilefacenet, every_blob):
    crops = np.random.default_rng(2).integers(0, 256, (3, 112, 112, 3), np.uint8)
    inputs = cv2.dnn.blobFromImages(list(crops), 1 / 128, (112, 112), (127.5, 127.5, 127.5), swapRB=True)
    prototxt, caffemodel = map(str, mobilefacenet)
    net = readNetFromCaffe(prototxt, caffemodel, every_blob=every_blob)
    assert isinstance(net, CaffeNet) == every_blob
    net.setInput(inputs)
    found = net.forward()
    expected = Session(caffe.onnx_of(prototxt, caffemodel)).run(inputs)
    same(found, next(iter(expected.values())))
    same(net.forward("fc1_scale"), found)
    assert net.getUnconnectedOutLayersNames() == ("fc1_scale",)
    if IN_OPENCV is not None:
        own = IN_OPENCV(prototxt, caffemodel)
        own.setInput(inputs)
        same(found, own.forward())
        if every_blob:
            assert net.getLayerNames() == own.getLayerNames()
            assert net.getUnconnectedOutLayersNames() == own.getUnconnectedOutLayersNames()


def test_heat_maps_at_any_size():
    ours, *opencv = both(BODY + MAPS)
    random = np.random.default_rng(3)
    for shape in ((1, 3, 16, 12), (1, 3, 40, 56), (2, 3, 31, 29), (1, 3, 16, 12)):
        inputs = random.standard_normal(shape).astype(np.float32)
        ours.setInput(inputs)
        maps = ours.forward()
        assert maps.shape[:2] == (shape[0], 5)
        same(maps, session_of(BODY + MAPS).run(inputs)["concat"])
        for net in opencv:
            net.setInput(inputs)
            same(maps, net.forward())


def test_several_outputs(blob):
    ours, *opencv = both(BODY + DENSE + GENDER)
    assert isinstance(ours, CaffeNet)
    ours.setInput(blob)
    names = ours.getUnconnectedOutLayersNames()
    assert names == ("age_prob", "gender")
    answers = ours.forward(names)
    assert isinstance(answers, tuple)
    by_name = session_of(BODY + DENSE + GENDER).run(blob)
    same(answers[0], by_name["age_prob"])
    same(answers[1], by_name["gender_prob"])
    same(ours.forward(), answers[1])
    same(ours.forward("gender_prob"), answers[1])
    same(ours.forward([], "gender"), answers[1])
    assert len(ours.forward(outBlobNames=["conv1", "age_prob", "gender_fc", "data"])) == 4
    same(ours.forward("data"), blob)
    same(ours.forwardAndRetrieve(["gender"])[0][0], answers[1])
    for net in opencv:
        net.setInput(blob)
        assert names == net.getUnconnectedOutLayersNames()
        assert ours.getLayerNames() == net.getLayerNames()
        np.testing.assert_array_equal(ours.getUnconnectedOutLayers(), net.getUnconnectedOutLayers())
        assert [ours.getLayerId(name) for name in names] == [net.getLayerId(name) for name in names]
        for one, other in zip(answers, net.forward(names), strict=True):
            same(one, other)
        same(ours.forward(), net.forward())
        for name in ours.getLayerNames():
            same(ours.forward(name), net.forward(name))
        for one, other in zip(ours.forward(["pool1", "conv1"]), net.forward(["pool1", "conv1"]), strict=True):
            same(one, other)


def test_batch_norm_is_folded_and_every_blob_has_its_value(blob):
    ours, *opencv = both(NORMED)
    loaded = NetParameter.FromString(weights(NORMED))
    ours.setInput(blob)
    whole = readNetFromCaffe(NORMED.encode(), weights(NORMED), every_blob=True)
    whole.setInput(blob)
    same(ours.forward(), whole.forward())
    same(ours.forward("relu1"), whole.forward("relu1"))
    assert whole.getLayerNames() == ("conv1", "bn1", "scale1", "relu1")
    stored = {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in loaded.layer}
    mean, variance, factor = stored["bn1"]
    scale, shift = stored["scale1"]
    normed = (whole.forward("conv1") - column(mean / factor)) / np.sqrt(column(variance / factor) + 1e-5)
    same(whole.forward("bn1"), normed)
    same(whole.forward("scale1"), normed * column(scale) + column(shift))
    for net in opencv:  # whose answers of layers in between are those of other layers here
        net.setInput(blob)
        same(ours.forward(), net.forward())
    for name in ("conv1", "bn1"):
        with pytest.raises(cv2.error, match=name):  # never the value of another layer
            ours.forward(name)


def detections(net, image):
    net.setInput(cv2.dnn.blobFromImage(cv2.resize(image, (300, 300)), 1.0, (300, 300), (104.0, 177.0, 123.0)))
    return net.forward()


def test_face_detection_script(files, data_dir):
    net = readNetFromCaffe(*files)
    assert repr(net) == (
        "<Caffe net deploy.prototxt: 112 layers -> detection_out; DetectionOutput in NumPy after cv2.dnn.Net>"
    )
    own = None if IN_OPENCV is None else IN_OPENCV(*files)
    for name in ("img1.jpg", "couple.jpg", "selfie-many-people.jpg"):
        image = cv2.imread(str(data_dir / "deepface-pairs" / name))
        found = detections(net, image)
        assert found.shape[:2] == (1, 1)
        assert found.shape[3] == 7
        faces = [row for row in found[0, 0] if row[2] > 0.5]
        assert faces
        if own is not None:
            expected = detections(own, image)
            count = found.shape[2]  # OpenCV fills up with zeros
            np.testing.assert_allclose(found[0, 0], expected[0, 0, :count], atol=1e-5)
            assert not expected[0, 0, count:].any()
    assert net.getPerfProfile()[0] > 0


def test_an_ssd_net_at_another_size_and_in_batches(files, data_dir):
    net = readNetFromCaffe(*files)
    image = cv2.imread(str(data_dir / "deepface-pairs" / "couple.jpg"))
    inputs = cv2.dnn.blobFromImage(image, 1.0, (400, 200), (104.0, 177.0, 123.0))
    net.setInput(inputs)
    found = net.forward()
    if IN_OPENCV is not None:
        own = IN_OPENCV(*files)
        own.setInput(inputs)
        expected = own.forward()[0, 0, : found.shape[2]]
        np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)
    assert (found[0, 0, :, 2] > 0.5).sum() >= 1
    net.setInput(cv2.dnn.blobFromImages([image, image], 1.0, (300, 300), (104.0, 177.0, 123.0)))
    rows = net.forward()[0, 0]
    np.testing.assert_array_equal(rows[rows[:, 0] == 0][:, 1:], rows[rows[:, 0] == 1][:, 1:])


def test_set_input_scales_and_subtracts():
    net = readNetFromCaffe((BODY + DENSE).encode(), weights(BODY + DENSE), every_blob=True)
    pixels = np.random.default_rng(4).integers(0, 256, (1, 3, 16, 12), np.uint8)
    net.setInput(pixels, scalefactor=0.5, mean=(10, 20, 30))
    wanted = (pixels.astype(np.float32) - np.array([10, 20, 30], np.float32).reshape(1, 3, 1, 1)) * 0.5
    same(net.forward("data"), wanted)
    net.setInput(pixels, "data", 2.0)
    same(net.forward("data"), pixels * np.float32(2))
    given = pixels.astype(np.float32)
    net.setInput(given)
    given[:] = 0  # the net has its own copy
    same(net.forward("data"), pixels.astype(np.float32))
    for bad, more in ((pixels.astype(np.float64), ()), (pixels, ("other",)), (pixels, ("", 1.0, (1, 2)))):
        with pytest.raises(InvalidArgumentError):
            net.setInput(bad, *more)


def test_every_way_to_give_the_files(tmp_path, blob):
    text, content = (BODY + DENSE).encode(), weights(BODY + DENSE)
    prototxt, caffemodel = tmp_path / "a.prototxt", tmp_path / "a.caffemodel"
    prototxt.write_bytes(text)
    caffemodel.write_bytes(content)
    arrays = np.frombuffer(text, np.uint8), np.frombuffer(content, np.uint8)
    nets = [
        readNetFromCaffe(str(prototxt), str(caffemodel)),
        readNetFromCaffe(prototxt, caffemodel),
        readNetFromCaffe(text, content),
        readNetFromCaffe(bytearray(text), bytearray(content)),
        readNetFromCaffe(*arrays),
        readNetFromCaffe(prototxt=str(prototxt), caffeModel=str(caffemodel)),
        readNetFromCaffe(bufferProto=arrays[0], bufferModel=arrays[1]),
    ]
    for net in nets:
        net.setInput(blob)
        np.testing.assert_array_equal(net.forward(), nets[0].forward())


def test_a_net_without_weights():
    text = b'input: "data" input_shape { dim: 1 dim: 2 } layer { name: "s" type: "Sigmoid" bottom: "data" top: "s" }'
    net = readNetFromCaffe(text)
    net.setInput(np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(net.forward(), 0.5)
    with pytest.raises(InvalidArgumentError, match="no weights"):
        readNetFromCaffe(BODY.encode())


def test_files_that_change_are_read_again(tmp_path, blob):
    prototxt, caffemodel = tmp_path / "a.prototxt", tmp_path / "a.caffemodel"
    prototxt.write_text(BODY + DENSE)
    content = weights(BODY + DENSE)
    other = NetParameter.FromString(content)
    for layer in other.layer:
        layer.blobs[0].data[0] += 3
    answers = []
    for stored in (content, other.SerializeToString()):
        caffemodel.write_bytes(stored)
        for path in (prototxt, caffemodel):
            os.utime(path, (time.time() - 100, time.time() - 100))
        net = readNetFromCaffe(str(prototxt), str(caffemodel))
        net.setInput(blob)
        answers.append(net.forward())
    assert not np.allclose(*answers)
    net = readNetFromCaffe(str(prototxt), str(caffemodel), every_blob=True)
    net.setInput(blob)
    caffemodel.write_bytes(content)
    with pytest.raises(ModelFileError, match="changed since the net was read"):
        net.forward("pool1")


def test_a_damaged_cache_and_none_at_all(tmp_path, monkeypatch, files, data_dir):
    image = cv2.imread(str(data_dir / "deepface-pairs" / "img1.jpg"))
    expected = detections(readNetFromCaffe(*files), image)
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    readNetFromCaffe(*files)
    (entry,) = (tmp_path / "cache" / "onnx").iterdir()
    damaged = bytearray(entry.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    entry.write_bytes(damaged)
    np.testing.assert_array_equal(detections(readNetFromCaffe(*files), image), expected)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(detections(readNetFromCaffe(*files), image), expected)
    (net, *_) = both(BODY + DENSE)
    assert type(net) is cv2.dnn.Net


def test_settings(files, data_dir, monkeypatch):
    net = readNetFromCaffe(*files)
    image = cv2.imread(str(data_dir / "deepface-pairs" / "img1.jpg"))
    expected = detections(net, image)
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    net.enableFusion(False)
    net.enableWinograd(False)
    np.testing.assert_allclose(detections(net, image)[0, 0, :5], expected[0, 0, :5], atol=1e-4)
    with pytest.raises(DeviceError, match="not on target"):
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_OPENCL)
    with pytest.raises(DeviceError, match="not on backend"):
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_INFERENCE_ENGINE)
    monkeypatch.setattr("spherecv.runtime.opencv_backend.opencv_cuda_missing", lambda _: "no CUDA here")
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
    with pytest.raises(DeviceError, match="no CUDA here"):
        net.forward()
    assert not net.empty()
    assert net.getLayersCount("ReLU") == sum(name.endswith(("relu", "relu1", "relu2")) for name in net.getLayerNames())
    assert "DetectionOutput" in net.getLayerTypes()


def test_what_is_refused(tmp_path, files):
    with pytest.raises(ModelFileError, match="cannot read"):
        readNetFromCaffe(str(tmp_path / "nothing"), files[1])
    with pytest.raises(PrototxtError):
        readNetFromCaffe(b"layer {", b"")
    with pytest.raises(InvalidArgumentError, match="prototxt must be a path"):
        readNetFromCaffe(3)
    with pytest.raises(InvalidArgumentError, match="given twice"):
        readNetFromCaffe(files[0], files[1], bufferProto=b"")
    with pytest.raises(InvalidArgumentError, match="prototxt must be a path"):
        readNetFromCaffe()
    net = readNetFromCaffe(*files)
    with pytest.raises(InvalidArgumentError, match="was not set"):
        net.forward()
    net.setInput(np.zeros((1, 3, 300, 300), np.float32))
    with pytest.raises(InvalidArgumentError, match="no layer or blob 'nothing'"):
        net.forward("nothing")
    with pytest.raises(InvalidArgumentError, match="forward takes names"):
        net.forward([3])


def test_install(monkeypatch):
    monkeypatch.setitem(vars(cv2.dnn), "readNetFromCaffe", IN_OPENCV)
    monkeypatch.setitem(vars(cv2), "dnn_readNetFromCaffe", IN_OPENCV)
    cv2_dnn.install()
    assert cv2.dnn.readNetFromCaffe is IN_OPENCV
    del cv2.dnn.readNetFromCaffe
    cv2_dnn.install()
    assert cv2.dnn.readNetFromCaffe is cv2.dnn_readNetFromCaffe is readNetFromCaffe
    monkeypatch.setitem(vars(cv2.dnn), "readNetFromCaffe", len)
    cv2_dnn.install(replace=True)
    assert cv2.dnn.readNetFromCaffe is readNetFromCaffe


def test_read_net_takes_caffe_files_too_and_others_as_before(monkeypatch, tmp_path, blob):
    for module, name in ((cv2.dnn, "readNetFromCaffe"), (cv2, "dnn_readNetFromCaffe"), (cv2.dnn, "readNet")):
        monkeypatch.setitem(vars(module), name, getattr(module, name, None))
    cv2_dnn.install(replace=True)
    first = cv2.dnn.readNet
    cv2_dnn.install(replace=True)
    assert cv2.dnn.readNet is first
    prototxt, caffemodel = tmp_path / "age.prototxt", tmp_path / "age.caffemodel"
    prototxt.write_text(BODY + DENSE)
    caffemodel.write_bytes(weights(BODY + DENSE))
    text, stored = np.frombuffer(prototxt.read_bytes(), np.uint8), np.frombuffer(caffemodel.read_bytes(), np.uint8)
    wanted = readNetFromCaffe(str(prototxt), str(caffemodel))
    wanted.setInput(blob)
    other_text, other_weights = tmp_path / "age.prototxt.txt", tmp_path / "age.bin"
    other_text.write_bytes(prototxt.read_bytes())
    other_weights.write_bytes(caffemodel.read_bytes())
    for net in (
        cv2.dnn.readNet(str(other_text), str(caffemodel)),
        cv2.dnn.readNet(str(caffemodel), str(other_text)),
        cv2.dnn.readNet(str(other_weights), str(prototxt)),
        cv2.dnn.readNet(str(caffemodel), str(prototxt)),
        cv2.dnn.readNet(str(prototxt), str(caffemodel)),
        cv2.dnn.readNet(model=str(caffemodel), config=str(prototxt), framework="Caffe"),
        cv2.dnn.readNet("caffe", stored, text),
    ):
        net.setInput(blob)
        assert np.array_equal(net.forward(), wanted.forward())
    onnx = tmp_path / "net.onnx"
    onnx.write_bytes(caffe.load(prototxt, caffemodel).to_onnx())
    assert cv2.dnn.readNet(str(onnx)).getUnconnectedOutLayersNames() == ("age_prob",)
    with pytest.raises(cv2.error):
        cv2.dnn.readNet(str(tmp_path / "none.onnx"))


def test_the_environment_is_left_as_it_was(monkeypatch):
    name = "OPENCV_DNN_ONNX_USE_LEGACY_NAMES"
    monkeypatch.delenv(name, raising=False)
    both(BODY + DENSE)
    assert name not in os.environ
    monkeypatch.setenv(name, "0")
    both(BODY + DENSE)
    assert os.environ[name] == "0"
