from __future__ import annotations

import numpy as np
import pytest

from spherecv import protobuf as wire
from spherecv.caffe import load, read_prototxt, write_blob
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter, NetParameter, ParamSpec, V1LayerParameter
from spherecv.caffe.upgrade import type_name, upgrade
from spherecv.errors import ModelFileError

# A LeNet-like net in the legacy form, written after the examples of Caffe's own first releases.
LEGACY = b"""
name: "legacy"
input: "data"
input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8
layers {
  name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  param: "shared_w" param: "shared_b" blob_share_mode: PERMISSIVE
  convolution_param { num_output: 2 kernel_size: 3 }
}
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "fc" type: INNER_PRODUCT bottom: "conv1" top: "fc" inner_product_param { num_output: 3 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" include { phase: TRAIN } loss_weight: 0.5 }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
"""


def test_layers_become_layer_with_all_their_settings():
    message = read_prototxt(LEGACY)
    modern = upgrade(message)
    assert not modern.layers
    assert len(message.layers) == 5  # the message itself is left alone
    types = [layer.type for layer in modern.layer]
    assert types == ["Convolution", "ReLU", "InnerProduct", "SoftmaxWithLoss", "Softmax"]
    conv, loss = modern.layer[0], modern.layer[3]
    assert list(conv.param) == [
        ParamSpec(name="shared_w", share_mode=ParamSpec.PERMISSIVE, lr_mult=1, decay_mult=1),
        ParamSpec(name="shared_b", lr_mult=2, decay_mult=0),
    ]
    assert conv.convolution_param.num_output == 2
    assert (list(loss.loss_weight), loss.include[0].phase) == ([0.5], 0)
    assert modern.input_dim == message.input_dim


def test_a_modern_net_is_returned_as_it_is():
    net = NetParameter(layer=[LayerParameter(name="x")])
    assert upgrade(net) is net


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("CONVOLUTION", "Convolution"),
        ("INNER_PRODUCT", "InnerProduct"),
        ("RELU", "ReLU"),
        ("TANH", "TanH"),
        ("LRN", "LRN"),
        ("SOFTMAX_LOSS", "SoftmaxWithLoss"),
        ("EUCLIDEAN_LOSS", "EuclideanLoss"),
        ("IMAGE_DATA", "ImageData"),
        ("HDF5_DATA", "HDF5Data"),
        ("SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"),
    ],
)
def test_names_of_types(word, name):
    assert type_name(V1LayerParameter.LayerType.Value(word)) == name


def test_a_legacy_net_runs_with_legacy_weights(run_onnxruntime):
    rng = np.random.default_rng(0)
    weight, fc = rng.standard_normal((2, 1, 3, 3)), rng.standard_normal((3, 72))
    weights = NetParameter()
    conv, dense = weights.layers.add(name="conv1"), weights.layers.add(name="fc")
    conv.blobs.add(num=2, channels=1, height=3, width=3, data=weight.ravel())
    conv.blobs.add(num=1, channels=1, height=1, width=2, data=[0.5, -0.5])
    dense.blobs.add(num=1, channels=1, height=3, width=72, double_data=fc.ravel())
    write_blob(np.zeros((1, 1, 1, 3)), dense.blobs.add())
    net = load(LEGACY, weights.SerializeToString())
    assert net.outputs == ("prob",)
    assert "line 5" in str(net.layers[0])

    x = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (3, 3), (1, 2))
    hidden = np.maximum(np.einsum("nhwij,oij->nohw", windows, weight[:, 0]) + [[[0.5]], [[-0.5]]], 0)
    scores = np.exp(hidden.reshape(2, -1) @ fc.T)
    expected = scores / scores.sum(1, keepdims=True)
    np.testing.assert_allclose(run_onnxruntime(net.to_onnx(), {"data": x})["prob"], expected, rtol=1e-4)


def test_both_forms_in_one_file_are_refused():
    net = NetParameter(layer=[LayerParameter()], layers=[V1LayerParameter()])
    with pytest.raises(ModelFileError, match="keep one"):
        upgrade(net)


def test_a_name_that_is_no_text_is_told():
    net = NetParameter.FromString(wire.encode_bytes(2, wire.encode_bytes(4, b"\xff\xfe")))
    with pytest.raises(ModelFileError, match="not UTF-8"):
        upgrade(net)
