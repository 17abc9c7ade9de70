"""Lanes that carry their images through whole runs of layers give what one lane gives."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend.numpy_backend import NumpyBackend
from spherecv.train.net import TEST, Net
from spherecv.train.stages import LaneStage

NET = b"""
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { name: "stem" } param { lr_mult: 2 }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "PReLU" bottom: "conv1" top: "conv1" }
layer { name: "again" type: "Convolution" bottom: "conv1" top: "again" param { name: "stem" } param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "again" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "conv2" type: "Convolution" bottom: "scale" top: "conv2"
  convolution_param { num_output: 40 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "msra" } } }
layer { name: "conv3" type: "Convolution" bottom: "conv2" top: "conv3" param { lr_mult: 0 }
  convolution_param { num_output: 40 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "relu3" type: "PReLU" bottom: "conv3" top: "conv3" prelu_param { channel_shared: true } }
layer { name: "res" type: "Eltwise" bottom: "conv2" bottom: "conv3" top: "res" }
layer { name: "pool" type: "Pooling" bottom: "res" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "late" type: "Convolution" bottom: "again" top: "late"
  convolution_param { num_output: 4 kernel_size: 3 stride: 4 weight_filler { type: "xavier" } } }
layer { name: "both" type: "Concat" bottom: "pool" bottom: "late" top: "both" }
layer { name: "drop" type: "Dropout" bottom: "both" top: "both" dropout_param { dropout_ratio: 0.2 } }
layer { name: "fc5" type: "InnerProduct" bottom: "both" top: "fc5"
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6"
  margin_inner_product_param { num_output: 5 type: QUADRUPLE weight_filler { type: "xavier" } base: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""
IMAGES = np.random.default_rng(0).normal(size=(7, 12, 11, 3))
LABELS = np.array([0, 4, 2, 1, 3, 3, 0])


def _net(lanes: int, dtype: str = "float64", phase: int = 0) -> Net:
    net = Net.from_prototxt(
        NET, NumpyBackend(lanes, dtype), shapes={"data": (7, 3, 12, 11), "label": (7,)}, seed=1, phase=phase
    )
    net.differentiate_inputs()
    return net


def _pass(net: Net, count: int = 7, *, passes: int = 1) -> list[np.ndarray]:
    """Everything that forward and backward give, after some passes whose gradients add up."""
    data = {"data": net.backend.asarray(IMAGES[:count]), "label": LABELS[:count]}
    for _ in range(passes):
        outputs = net.forward(data, keep=["again", "conv2", "res", "fc5"])
        inputs = net.backward({"res": np.ones_like(outputs.blobs["res"])})
    kept = [outputs.blobs[name] for name in ("again", "conv2", "res", "fc5")]
    return [np.array(outputs.loss), *kept, inputs["data"], *(p.grad for p in net.params if p.grad is not None)]


def _twin(net: Net) -> Net:
    """A net with one lane, which goes on from the same values as another."""
    twin = _net(1)
    for mine, other in zip(twin.params, net.params, strict=True):
        mine.data = other.data.copy()
    twin.context.rng.bit_generator.state = net.context.rng.bit_generator.state
    twin.restore(net.state())
    return twin


@pytest.mark.parametrize("lanes", [2, 3, 7])
@pytest.mark.parametrize("passes", [1, 2])
def test_lanes_equal_one(lanes: int, passes: int) -> None:
    net = _net(lanes)
    several, one = _pass(net, passes=passes), _pass(_net(1), passes=passes)
    assert sum(isinstance(stage, LaneStage) for stage in net._stages) == 2  # the batch's statistics are in between
    assert len(several) == len(one) > 12
    for mine, expected in zip(several, one, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)


def test_statistics_of_the_batch_are_what_lanes_meet_for() -> None:
    net = _net(2, phase=TEST)  # with stored statistics nothing is left to meet for before dropout
    blobs = net.forward({"data": IMAGES, "label": LABELS}, learn=False, keep=["fc5"]).blobs
    expected = _net(1, phase=TEST).forward({"data": IMAGES, "label": LABELS}, learn=False, keep=["fc5"]).blobs
    assert sum(isinstance(stage, LaneStage) for stage in net._stages) == 1
    np.testing.assert_allclose(blobs["fc5"], expected["fc5"], rtol=1e-10)
    net.train()
    net.forward({"data": IMAGES, "label": LABELS}, learn=False)
    assert sum(isinstance(stage, LaneStage) for stage in net._stages) == 2


@pytest.mark.parametrize("lanes", [2, 3])
def test_the_same_lanes_give_the_same_bits(lanes: int) -> None:
    found = {b"".join(array.tobytes() for array in _pass(_net(lanes, "float32"))) for _ in range(6)}
    assert len(found) == 1


def test_fewer_images_than_lanes() -> None:
    net = _net(3)
    net.forward({"data": IMAGES, "label": LABELS})
    net.forget()
    assert all(param.grad is None for param in net.params)
    other = _twin(net)
    several, one = _pass(net, 2), _pass(other, 2)
    assert not any(isinstance(stage, LaneStage) for stage in net._stages)
    for mine, expected in zip(several, one, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)


def test_another_number_of_images_frees_what_the_last_pass_kept() -> None:
    net = _net(3)
    net.forward({"data": IMAGES, "label": LABELS})
    kept = weakref.ref(next(s for s in net._stages if isinstance(s, LaneStage))._lanes[0].layers[0]._kept[0][0])
    assert kept() is not None
    net.forward({"data": IMAGES[:2], "label": LABELS[:2]})
    gc.collect()
    assert kept() is None


def test_a_lane_that_fails_does_not_spoil_the_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    net = _net(2)
    _pass(net)
    first = next(stage for stage in net._stages if isinstance(stage, LaneStage))._lanes[1].layers[0]
    monkeypatch.setattr(first, "backward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _pass(net)
    monkeypatch.undo()
    net.forget()
    other = _twin(net)
    for mine, expected in zip(_pass(net), _pass(other), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'data' must have shape \(images, 12, 11, 3\), but"):
        _net(2).forward({"data": IMAGES.transpose(0, 2, 1, 3), "label": LABELS})
