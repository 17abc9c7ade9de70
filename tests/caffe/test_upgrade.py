from __future__ import annotations

import numpy as np
import pytest

from spherecv import protobuf as wire
from spherecv.caffe import load, read_prototxt
from spherecv.caffe.spherecv_caffe_pb2 import (
    BlobProto,
    LayerParameter,
    NetParameter,
    ParamSpec,
    V0LayerParameter,
    V1LayerParameter,
)
from spherecv.caffe.upgrade import type_name, upgrade
from spherecv.errors import ModelFileError, PrototxtError

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
    dense.blobs.add(num=1, channels=1, height=1, width=3, data=[0, 0, 0])
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


def test_names_of_any_encoding_become_text():
    gbk, latin = "卷积".encode("gbk"), b"\xff\xfe"
    for name, word in ((gbk, "卷积"), (latin, "\xff\xfe")):
        layer = wire.encode_bytes(4, name) + wire.encode_bytes(2, name) + wire.encode_bytes(1001, name)
        modern = upgrade(NetParameter.FromString(wire.encode_bytes(2, layer)))
        assert (modern.layer[0].name, modern.layer[0].bottom[0], modern.layer[0].param[0].name) == (word, word, word)


V0 = b"""
input: "data" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers {
  layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 stride: 2 group: 2 biasterm: false blobs_lr: 1 }
  bottom: "padded" top: "conv"
}
layers { layer { name: "pool" type: "pool" pool: AVE kernelsize: 3 stride: 1 } bottom: "conv" top: "pool" }
layers { layer { name: "norm" type: "lrn" local_size: 3 alpha: 0.1 beta: 0.5 stride: 9 } bottom: "pool" top: "norm" }
layers { layer { name: "fc" type: "innerproduct" num_output: 3 } bottom: "norm" top: "fc" }
"""


def test_v0_is_upgraded_as_caffe_does_it():
    modern = upgrade(read_prototxt(V0))
    conv, pool, norm, dense = modern.layer
    assert [layer.type for layer in modern.layer] == ["Convolution", "Pooling", "LRN", "InnerProduct"]
    assert list(conv.bottom) == ["data"]
    convolution = conv.convolution_param
    assert (convolution.num_output, convolution.group, convolution.bias_term) == (4, 2, False)
    assert (list(convolution.pad), list(convolution.kernel_size), list(convolution.stride)) == ([1], [3], [2])
    assert conv.param[0].lr_mult == 1
    assert (pool.pooling_param.pool, pool.pooling_param.kernel_size) == (1, 3)
    assert norm.lrn_param.local_size == 3  # stride means nothing to it, and Caffe goes on
    assert dense.inner_product_param.num_output == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b'layers { layer { name: "x" type: "fancy" } }', "layer 'x': .*no layer type 'fancy'"),
        (b'layers { layer { name: "p" type: "padding" } top: "y" }', "one bottom and one top"),
        (
            b"""layers { layer { name: "p" type: "padding" } bottom: "x" top: "y" }
            layers { layer { name: "r" type: "relu" } bottom: "y" top: "r" }""",
            "layer 'r' reads a padding layer",
        ),
    ],
)
def test_v0_that_caffe_refuses(text, complaint):
    with pytest.raises(PrototxtError, match=complaint):
        upgrade(read_prototxt(text))


def test_v0_weights_lie_in_the_inner_layer():
    weights = NetParameter()
    weights.layers.add().layer.CopyFrom(V0LayerParameter(name="fc", type="innerproduct", blobs=[BlobProto(data=[1])]))
    (layer,) = upgrade(weights).layer
    assert (layer.name, list(layer.blobs[0].data)) == ("fc", [1])
