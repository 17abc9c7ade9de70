"""Rescaling: other lengths, the same directions bit for bit, and layers that are left as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe.builder import NetBuilder, constant, xavier
from spherecv.train.backend import open_backend
from spherecv.train.net import Net
from spherecv.train.recipes import deployed, freeze
from spherecv.train.rescale import balance_rates, rescale
from spherecv.train.weights import load_weights
from spherecv.zoo import models_dir


def _net(factors: dict[str, float]) -> Net:
    """A residual net whose layers' weights are some factors too large, with biases that matter."""
    made = NetBuilder("drifted").input("data", (1, 3, 12, 10))
    made.conv("conv1", 8, 3, stride=2, pad=1, weight_filler=xavier(), bias_filler=constant(0.1)).prelu("relu1")
    made.conv("conv2", 8, 3, pad=1, weight_filler=xavier(), bias_filler=constant(-0.2)).prelu("relu2")
    made.eltwise_sum("sum", "conv1", "conv2")
    definition = made.inner_product("fc5", 16, weight_filler=xavier(), bias_filler=constant(0.3)).build()
    net = Net(definition, {"data": (4, 3, 12, 10)}, open_backend("cpu", threads=1), seed=3)
    for name, factor in factors.items():
        for param in net.layer(name).params:
            param.data = param.data * np.float32(factor)
    return net


def _features(net: Net, images: np.ndarray) -> np.ndarray:
    net.train(False)
    return np.array(net.forward({"data": images}, learn=False).blobs["fc5"])


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 12, 10, 3)).astype(np.float32)


@pytest.mark.parametrize("factor", [3e-4, 700.0, 1e6])
def test_lengths_change_and_directions_do_not(images: np.ndarray, factor: float) -> None:
    net = _net({"conv1": factor, "fc5": 37.0})
    before = _features(net, images)
    done = rescale(net, "fc5", {"data": images})
    after = _features(net, images)
    assert done.layers
    assert done.before == pytest.approx(np.linalg.norm(before, axis=1).mean(), rel=1e-5)
    assert 20 / 1.5 < np.linalg.norm(after, axis=1).mean() < 20 * 1.5
    power = np.log2(np.abs(before).max() / np.abs(after).max())
    assert power == round(power)
    assert np.array_equal(np.ldexp(after, round(power)), before)
    sizes = [np.linalg.norm(net.layer(name).params[0].data) for name in ("conv1", "conv2", "fc5")]
    assert max(sizes) / min(sizes) < 16, "the layers' weights come near each other"
    assert not rescale(net, "fc5", {"data": images}).layers, "what is right stays"


def test_frozen_layers_stay(images: np.ndarray) -> None:
    net = _net({"conv1": 700.0})
    freeze(net, ["conv1", "conv2"])
    held = [np.array(param.data) for name in ("conv1", "conv2") for param in net.layer(name).params]
    before = _features(net, images)
    assert set(rescale(net, "fc5", {"data": images}).layers) == {"fc5"}
    now = [param.data for name in ("conv1", "conv2") for param in net.layer(name).params]
    assert all(np.array_equal(a, b) for a, b in zip(held, now, strict=True))
    after = _features(net, images)
    assert np.array_equal(np.ldexp(after, round(np.log2(before[0, 0] / after[0, 0]))), before)


def test_features_behind_batch_norm_are_left(images: np.ndarray) -> None:
    text = b"""layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 12 dim: 10 } } }
    layer { name: "fc5" type: "InnerProduct" bottom: "data" top: "fc5"
      inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 90 } } }
    layer { name: "out" type: "BatchNorm" bottom: "fc5" top: "out" }"""
    net = Net.from_prototxt(text, open_backend("cpu", threads=1))
    held = np.array(net.layer("fc5").params[0].data)
    assert not rescale(net, "out", {"data": images}).layers
    assert np.array_equal(net.layer("fc5").params[0].data, held)


def test_rates_follow_the_square_of_the_lengths(images: np.ndarray) -> None:
    net = _net({"conv2": 10.0})
    freeze(net, ["relu1"])
    balance_rates(net)
    weights = {name: net.layer(name).params[0] for name in ("conv1", "conv2", "fc5")}
    ratios = {
        name: param.lr_mult / float(np.sum(param.data.astype(np.float64) ** 2)) for name, param in weights.items()
    }
    assert max(ratios.values()) == pytest.approx(min(ratios.values()), rel=1e-5)
    assert sorted(param.lr_mult for param in weights.values())[1] == pytest.approx(1.0)
    assert net.layer("relu1").params[0].lr_mult == 0


def test_the_shipped_net_has_the_lengths_of_sphereface() -> None:
    """Fine-tuning it needs no rescaling: features of noise apart, its faces' are near 20."""
    definition, shape, embedding = deployed(models_dir() / "sphereface-mini.prototxt")
    net = Net(definition, {"data": shape}, open_backend("cpu", threads=1))
    load_weights(net, Path(models_dir()) / "sphereface-mini.caffemodel")
    face = np.zeros((1, 112, 96, 3), np.float32)
    net.train(False)
    length = np.linalg.norm(net.forward({"data": face}, learn=False).blobs[embedding])
    assert 2 < length < 60
