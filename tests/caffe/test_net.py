from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from spherecv.caffe import load, read_caffemodel, read_prototxt
from spherecv.caffe.architectures import sphereface_training
from spherecv.caffe.text import render
from spherecv.errors import InvalidArgumentError, ModelFileError, PrototxtError


def test_a_released_model(data_dir):
    folder = data_dir / "mtcnn-caffe"
    net = load(folder / "det3.prototxt", folder / "det3.caffemodel")
    assert net.name == "ONet"
    assert net.inputs == {"data": (1, 3, 48, 48)}
    assert net.outputs == ("conv6-2", "conv6-3", "prob1")
    assert str(net.layers[0]) == "layer 'conv1' (Convolution, line 8)"
    assert [blob.shape for blob in net.layers[0].blobs] == [(32, 3, 3, 3), (32,)]
    assert net.layers[0].blobs[0].dtype == np.float32


def test_saving_loses_nothing(data_dir, tmp_path):
    source = data_dir / "mtcnn-caffe"
    net = load(source / "det2.prototxt", source / "det2.caffemodel")
    net.save(tmp_path / "a.prototxt", tmp_path / "a.caffemodel")
    assert read_prototxt(tmp_path / "a.prototxt") == read_prototxt(source / "det2.prototxt")
    assert (tmp_path / "a.caffemodel").read_bytes() == (source / "det2.caffemodel").read_bytes()
    assert load(tmp_path / "a.prototxt", tmp_path / "a.caffemodel").to_onnx() == net.to_onnx()


def test_a_training_net_is_deployed_without_data_and_loss(seeded_weights, run_onnxruntime, numbers):
    text = render(sphereface_training(4)).encode()
    with pytest.raises(PrototxtError, match=r"input 'data' of layer 'data' \(ImageData, line 2\) has no shape"):
        load(text)
    bare = load(text, input_shapes={"data": (1, 3, 112, 96)})
    assert bare.outputs == ("fc5",)
    assert [layer.type for layer in bare.layers][-1] == "InnerProduct"
    net = load(text, seeded_weights(bare).SerializeToString(), input_shapes={"data": (1, 3, 112, 96)})
    assert run_onnxruntime(net.to_onnx(), {"data": numbers((2, 3, 112, 96))})["fc5"].shape == (2, 512)
    assert [layer.type for layer in net.definition.layer][-1] == "SoftmaxWithLoss"  # still there, for the trainer


def test_the_official_training_prototxts(data_dir):
    for depth in ("", "_64"):
        text = data_dir / "sphereface-prototxt" / f"sphereface{depth}_model.prototxt"
        deploy = load(data_dir / "sphereface-prototxt" / f"sphereface{depth}_deploy.prototxt")
        training = load(text, input_shapes={"data": (1, 3, 112, 96)})
        assert training.outputs == deploy.outputs == ("fc5",)
        assert [str(a.param) for a in training.layers] == [str(b.param) for b in deploy.layers]


def test_a_net_without_weights_can_be_looked_at_only(tmp_path):
    net = load(b'input: "x" input_dim: [1, 1, 8, 8] layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" '
               b"inner_product_param { num_output: 2 } }")  # fmt: skip
    assert "f" in str(net.summary())
    with pytest.raises(InvalidArgumentError, match=r"layer 'f' .* has no weights to convert"):
        net.to_onnx()
    with pytest.raises(InvalidArgumentError, match="no weights to save"):
        net.save(tmp_path / "a", tmp_path / "b")
    assert not list(tmp_path.iterdir())
    net.save(tmp_path / "a")
    assert load(tmp_path / "a").inputs == net.inputs


def test_outputs_that_are_not_there(data_dir):
    folder = data_dir / "mtcnn-caffe"
    net = load(folder / "det1.prototxt", folder / "det1.caffemodel")
    with pytest.raises(InvalidArgumentError, match="no blob 'conv9' to output; it has conv1, pool1"):
        net.to_onnx(outputs=["conv9"])


def test_a_silenced_blob_is_no_output():
    text = """input: "x" input_shape { dim: 1 dim: 4 }
    layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" }
    layer { name: "hush" type: "Silence" bottom: "b" }"""
    assert load(text.encode()).outputs == ("a",)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text('input: "x" input_shape { dim: 1 }\nlayer { name: "a" type: "ReLU" bottom: "y" top: "a" }')
    with pytest.raises(ModelFileError, match=r"net\.prototxt: layer 'a' \(ReLU, line 2\)"):
        load(path)
    path.write_text('input: "x" input_shape { dim: 1 }\nlayer { nam: "a" }')
    with pytest.raises(PrototxtError, match=r"net\.prototxt:2:9: "):
        load(path)


def test_the_package_imports_nothing_until_it_is_used():
    code = "import spherecv.caffe, sys; assert not {'onnx', 'google.protobuf', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_are_whole_in_the_net_and_in_its_message(mobilefacenet):
    net = load(*mobilefacenet)
    stored = {layer.name: layer for layer in read_caffemodel(mobilefacenet[1]).layer}
    for layer in net.layers:
        for ours, theirs in zip(layer.blobs, stored[layer.name].blobs, strict=True):
            np.testing.assert_array_equal(ours.ravel(), np.array(theirs.data, np.float32))
