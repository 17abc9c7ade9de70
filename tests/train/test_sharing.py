"""Shared weights, propagate_down and loss_weight: the net's rules, as BVLC Caffe 9b891540 has them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.errors import InvalidArgumentError, PrototxtError, UnsupportedLayerError
from spherecv.train.backend import Backend
from spherecv.train.net import Net
from spherecv.train.weights import load_weights, to_caffemodel

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 2 dim: 2 } } } '


def _two(first: str, second: str) -> bytes:
    layers = "".join(
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}" param {{ {param} }} '
        'inner_product_param { num_output: 2 bias_term: false weight_filler { type: "xavier" } } } '
        for name, param in (("a", first), ("b", second))
    )
    return (INPUT + layers).encode()


def test_a_multiplier_that_one_states_counts_for_both(double: Backend) -> None:
    net = Net.from_prototxt(_two('name: "w"', 'name: "w" lr_mult: 0.5 decay_mult: 0'), double)
    assert [(param.name, param.lr_mult, param.decay_mult) for param in net.params] == [("a/0", 0.5, 0.0)]


def test_multipliers_that_differ_are_refused(double: Backend) -> None:
    with pytest.raises(PrototxtError, match=r"lr_mult 0\.5, but 1 was stated"):
        Net.from_prototxt(_two('name: "w" lr_mult: 1', 'name: "w" lr_mult: 0.5'), double)


def test_the_last_layer_of_the_file_wins(double: Backend) -> None:
    net = Net.from_prototxt(_two('name: "w"', 'name: "w"'), double)
    for names in (("a", "b"), ("b", "a")):
        model = NetParameter()
        for value, name in enumerate(names):
            blob = model.layer.add(name=name, type="InnerProduct").blobs.add()
            blob.shape.dim.extend([2, 12])
            blob.data.extend([float(value)] * 24)
        load_weights(net, model)
        np.testing.assert_array_equal(net.params[0].data, np.ones((2, 12)))
    assert [len(layer.blobs) for layer in to_caffemodel(net).layer] == [1, 1]


# A 1x1 convolution and an inner product keep the same numbers in other orders, and here in other shapes.
PERMISSIVE = (
    INPUT
    + """
layer { name: "c" type: "Convolution" bottom: "data" top: "c" param { name: "w" }
  convolution_param { num_output: 4 kernel_size: 1 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pool: AVE global_pooling: true } }
layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" param { name: "w" share_mode: PERMISSIVE }
  inner_product_param { num_output: 4 bias_term: false } }
"""
)


def test_shapes_may_differ_where_it_is_permitted(double: Backend) -> None:
    net = Net.from_prototxt(PERMISSIVE.encode(), double)
    x = np.random.default_rng(0).normal(size=(2, 2, 2, 3))
    y = net.forward({"data": x}).blobs
    weight = net.params[0].to_caffe(double)
    assert weight.shape == (4, 3, 1, 1)
    np.testing.assert_allclose(y["f"], x.mean(axis=(1, 2)) @ weight.reshape(4, 3).T, rtol=1e-12)
    net.backward({"c": np.ones((2, 2, 2, 4)), "f": np.ones((2, 4))})
    expected = np.tile(x.sum(axis=(0, 1, 2)) + x.mean(axis=(1, 2)).sum(axis=0), (4, 1))
    np.testing.assert_allclose(net.params[0].order.to_caffe(net.params[0].grad).reshape(4, 3), expected, rtol=1e-12)
    shared = net.layer("f").params[0]
    np.testing.assert_allclose(shared.grad, expected, rtol=1e-12)
    shared.data = shared.data + 1
    np.testing.assert_allclose(net.params[0].to_caffe(double), weight + 1)


def test_shapes_may_not_differ_where_it_is_not(double: Backend) -> None:
    with pytest.raises(PrototxtError, match="shares 'w'"):
        Net.from_prototxt(PERMISSIVE.replace("share_mode: PERMISSIVE", "").encode(), double)


def _chain(extra: str, head: str = "") -> bytes:
    layers = 'layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param { num_output: 2 } } '
    layers += f'layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" {extra} inner_product_param {{ '
    layers += 'num_output: 3 weight_filler { type: "constant" value: 0.5 } } } '
    return (head + INPUT + layers).encode()


@pytest.mark.parametrize(
    ("extra", "head", "learns"),
    [
        ("", "", True),
        ("propagate_down: true", "", True),
        ("propagate_down: false", "", False),
        ("propagate_down: false", "force_backward: true ", True),
    ],
)
def test_propagate_down(double: Backend, extra: str, head: str, learns: bool) -> None:
    net = Net.from_prototxt(_chain(extra, head), double)
    net.forward({"data": np.ones((2, 2, 2, 3))})
    inputs = net.backward({"b": np.ones((2, 3))})
    assert (net.layer("a").params[0].grad is not None) == learns
    assert net.layer("b").params[0].grad is not None
    assert set(inputs) == ({"data"} if head else set())


def test_propagate_down_for_each_bottom(double: Backend) -> None:
    with pytest.raises(PrototxtError, match="propagate_down is given 2 times for 1 bottoms"):
        Net.from_prototxt(_chain("propagate_down: true propagate_down: false"), double)


@pytest.mark.parametrize(
    ("extra", "taken"),
    [
        ("", False),
        ("propagate_down: true propagate_down: false", True),
        ("propagate_down: false propagate_down: true", False),
    ],
)
def test_labels_have_no_gradient(double: Backend, extra: str, taken: bool) -> None:
    """Real Caffe stops in the first backward pass where labels depend on what is learnt, or are said to want one."""
    text = _chain("").decode() + 'layer { name: "e" type: "SigmoidCrossEntropyLoss" bottom: "b" bottom: "b" top: "e" '
    if taken:
        Net.from_prototxt(f"{text}{extra} }}".encode(), double)
    else:
        with pytest.raises(PrototxtError, match="passes no gradient to 'b'"):
            Net.from_prototxt(f"{text}{extra} }}".encode(), double)


def test_any_layer_may_be_a_loss(double: Backend) -> None:
    text = INPUT + 'layer { name: "p" type: "Power" bottom: "data" top: "p" power_param { power: 2 } loss_weight: 0.5 }'
    net = Net.from_prototxt(text.encode(), double)
    net.differentiate_inputs()
    x = np.random.default_rng(0).normal(size=(2, 2, 2, 3))
    assert net.forward({"data": x}).loss == pytest.approx(0.5 * (x**2).sum())
    np.testing.assert_allclose(net.backward()["data"], x)


def test_a_loss_may_have_no_top(double: Backend) -> None:
    """As in the nets of 2014: it counts, and is no output."""
    text = INPUT + 'layer { name: "e" type: "EuclideanLoss" bottom: "data" bottom: "data" propagate_down: true '
    text += "propagate_down: false loss_weight: 3 } "
    net = Net.from_prototxt(text.encode(), double)
    net.differentiate_inputs()
    found = net.forward({"data": np.ones((2, 2, 2, 3))})
    assert (found.loss, found.blobs) == (0.0, {})
    text = 'layer { name: "p" type: "Power" bottom: "data" top: "p" power_param { shift: 1 } } '
    text = (INPUT + text).replace("dim: 2 dim: 3 dim: 2", "dim: 2 dim: 1 dim: 1").replace("dim: 2 }", "dim: 3 }")
    text += 'layer { name: "e" type: "EuclideanLoss" bottom: "data" bottom: "p" }'
    net = Net.from_prototxt(text.encode(), double)
    assert net.forward({"data": np.zeros((2, 1, 3, 1))}).loss == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("layer", "slope"),
    [
        ('type: "Clip" clip_param { min: -1 max: 1 }', lambda x: np.ones_like(x)),
        ('type: "ReLU" relu_param { negative_slope: -0.5 }', lambda x: np.where(x == 0, -0.5, 1.0)),
        ('type: "Power" power_param { power: 2 }', lambda x: 2 * x**2),
        ('type: "Swish"', lambda x: 1 / (1 + np.exp(-x)) * (1 + x / (1 + np.exp(x)))),
        ('type: "PReLU"', lambda x: np.where(x > 0, 1.0, 0.25)),
    ],
)
def test_gradients_in_place_see_what_caffes_see(double: Backend, layer: str, slope: Callable) -> None:
    """Where the bottom is overwritten, its gradient is computed with the top in its place, as in Caffe's code."""
    net = Net.from_prototxt((INPUT + f'layer {{ name: "it" bottom: "data" top: "data" {layer} }}').encode(), double)
    net.differentiate_inputs()
    x = np.random.default_rng(0).normal(scale=2, size=(2, 2, 2, 3))
    net.forward({"data": x})
    np.testing.assert_allclose(net.backward({"data": np.ones_like(x)})["data"], slope(x), rtol=1e-9)


@pytest.mark.parametrize("kind", ["AbsVal", "Flatten", "Reshape"])
def test_what_does_not_work_in_place(double: Backend, kind: str) -> None:
    with pytest.raises(PrototxtError, match="in place"):
        Net.from_prototxt(
            (INPUT + f'layer {{ name: "it" bottom: "data" top: "data" type: "{kind}" }}').encode(), double
        )


def test_weights_in_the_definition(double: Backend) -> None:
    blob = "blobs { shape { dim: 2 dim: 12 } " + " ".join(f"data: {n}" for n in range(24)) + " }"
    ip = 'layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param { num_output: 2 %s } %s }'
    net = Net.from_prototxt((INPUT + ip % ("bias_term: false", blob)).encode(), double)
    np.testing.assert_array_equal(net.params[0].to_caffe(double).ravel(), np.arange(24))
    with pytest.raises(PrototxtError, match="holds 1 blobs, but needs 2"):
        Net.from_prototxt((INPUT + ip % ("", blob)).encode(), double)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ('type: "ReLU" loss_weight: 1 loss_weight: 2', PrototxtError, "2 loss_weight for 1 tops"),
        ('type: "ReLU" param { lr_mult: 1 }', PrototxtError, "1 param blocks for 0 blobs"),
        ('type: "BatchNorm" param { lr_mult: 1 }', PrototxtError, "cannot be learnt"),
        ('type: "BatchNorm" batch_norm_param { scale_bias: true }', UnsupportedLayerError, "scale_bias is a fork's"),
        (
            'type: "InnerProduct" inner_product_param { normalize: true }',
            UnsupportedLayerError,
            "normalize is a fork's",
        ),
        ('type: "Softmax" softmax_param { axis: 4 }', PrototxtError, "axis 4 is not one of the 4 axes"),
        ('type: "Concat" concat_param { axis: 1 concat_dim: 1 }', PrototxtError, "keep one"),
        ('type: "Pooling" pooling_param { global_pooling: true kernel_size: 2 }', PrototxtError, "keep one"),
        ('type: "InnerProduct" inner_product_param { num_output: 2000000000 }', PrototxtError, "more than Caffe's"),
    ],
)
def test_what_caffe_refuses(double: Backend, layer: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Net.from_prototxt((INPUT + f'layer {{ name: "it" bottom: "data" top: "it" {layer} }}').encode(), double)


def test_a_layer_without_a_gradient_under_a_loss(double: Backend) -> None:
    layer = 'layer { name: "t" type: "Threshold" bottom: "data" top: "t" loss_weight: 1 }'
    net = Net.from_prototxt((INPUT + layer).encode(), double)
    net.differentiate_inputs()
    net.forward({"data": np.ones((2, 2, 2, 3))})
    with pytest.raises(UnsupportedLayerError, match="has no gradient"):
        net.backward()


def test_senseless_input(double: Backend) -> None:
    with pytest.raises(InvalidArgumentError, match="sizes from 1"):
        Net.from_prototxt(INPUT.replace("dim: 3", "dim: 0").encode(), double)
