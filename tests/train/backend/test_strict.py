"""The core runs on array-api-strict, which has nothing but the standard: so it is neutral."""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from spherecv.train.backend.base import Backend
from spherecv.train.backend.numpy_backend import NumpyBackend
from spherecv.train.losses import (
    ArcFace,
    ASoftmax,
    CentreLoss,
    CosFace,
    EmbeddingRegression,
    Loss,
    SoftmaxLoss,
    SphereFacePlus,
    TripletLoss,
    WeightedSum,
)
from spherecv.train.net import Net
from spherecv.train.policies import Policy
from spherecv.train.solver import Solver, SolverSettings

NET = b"""
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 bias_term: false
    weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv1" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
layer { name: "relu1" type: "PReLU" bottom: "scale" top: "relu1" }
layer { name: "conv2" type: "Convolution" bottom: "relu1" top: "conv2"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 2 weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" relu_param { negative_slope: 0.1 } }
layer { name: "sum" type: "Eltwise" bottom: "relu1" bottom: "conv2" top: "sum" }
layer { name: "max" type: "Eltwise" bottom: "sum" bottom: "conv2" top: "max" eltwise_param { operation: MAX } }
layer { name: "prod" type: "Eltwise" bottom: "max" bottom: "sum" top: "prod" eltwise_param { operation: PROD } }
layer { name: "pool" type: "Pooling" bottom: "prod" top: "pool"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "ave" type: "Pooling" bottom: "prod" top: "ave"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "cat" type: "Concat" bottom: "pool" bottom: "ave" top: "cat" }
layer { name: "drop" type: "Dropout" bottom: "cat" top: "cat" }
layer { name: "flat" type: "Flatten" bottom: "cat" top: "flat" }
layer { name: "tanh" type: "TanH" bottom: "flat" top: "tanh" }
layer { name: "sig" type: "Sigmoid" bottom: "tanh" top: "sig" }
layer { name: "fc5" type: "InnerProduct" bottom: "sig" top: "fc5"
  inner_product_param { num_output: 8 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "fc6" type: "MarginInnerProduct" bottom: "fc5" bottom: "label" top: "fc6" top: "lambda"
  margin_inner_product_param { num_output: 5 type: TRIPLE weight_filler { type: "xavier" } base: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc6" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc6" bottom: "label" top: "loss" }
"""


def _train(backend: Backend, kind: str) -> tuple[list[float], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    net = Net.from_prototxt(NET, backend, shapes={"data": (4, 3, 9, 8), "label": (4,)}, seed=1)
    settings = SolverSettings(
        kind=kind, policy=Policy("inv", 0.05, gamma=0.1), momentum=0.9, weight_decay=0.01, clip_gradients=5.0
    )
    solver, losses = Solver(net.params, settings, backend), []
    for iteration in range(3):
        data, labels = rng.normal(size=(4, 9, 8, 3)), rng.integers(0, 5, 4)
        outputs = net.forward({"data": backend.asarray(data), "label": backend.asindex(labels)})
        losses.append(outputs.loss)
        net.backward()
        solver.step(iteration)
    return losses, [param.to_caffe(backend) for param in net.params]


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "Adam"])
def test_net_and_solver_equal_numpy(kind: str) -> None:
    neutral, fast = Backend(strict, "float64"), NumpyBackend(2, "float64")
    (losses, params), (expected, others) = _train(neutral, kind), _train(fast, kind)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    for mine, other in zip(params, others, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-10)


LOSSES: list[Any] = [
    lambda: SoftmaxLoss(5),
    lambda: ASoftmax(5, margin=4),
    lambda: SphereFacePlus(5),
    lambda: CosFace(5),
    lambda: ArcFace(5),
    lambda: CentreLoss(5),
    lambda: TripletLoss(),
    lambda: WeightedSum([(1.0, ASoftmax(5)), (0.1, CentreLoss(5))]),
    lambda: EmbeddingRegression(8),
    lambda: EmbeddingRegression(6),
]


@pytest.mark.parametrize("make", LOSSES)
def test_losses_equal_numpy(make: Any) -> None:
    def run(backend: Backend) -> tuple[float, np.ndarray, list[np.ndarray]]:
        rng = np.random.default_rng(0)
        loss: Loss = make()
        loss.build(backend, 8, rng)
        x = backend.asarray(rng.normal(size=(6, 8)))
        width = loss.teacher_width if isinstance(loss, EmbeddingRegression) else 0
        given = rng.normal(size=(6, width)) if width else np.array([0, 0, 1, 1, 2, 4])
        value = loss.forward(x, backend.asarray(given) if width else backend.asindex(given))
        dx = loss.backward(0.5)
        return value.value, backend.numpy(dx), [backend.numpy(p.grad) for p in loss.params]

    mine, other = run(Backend(strict, "float64")), run(NumpyBackend(2, "float64"))
    assert mine[0] == pytest.approx(other[0], rel=1e-10)
    np.testing.assert_allclose(mine[1], other[1], atol=1e-12)
    for a, b in zip(mine[2], other[2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
