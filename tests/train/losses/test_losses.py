"""Losses on embeddings against central differences, and against what they are defined as."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend import Backend
from spherecv.train.losses import (
    ArcFace,
    ASoftmax,
    CentreLoss,
    CosFace,
    EmbeddingRegression,
    LambdaSchedule,
    Loss,
    SoftmaxLoss,
    SphereFace2,
    SphereFacePlus,
    SphereFaceR,
    TripletLoss,
    WeightedSum,
)
from spherecv.train.losses.triplet import mine

LABELS = np.array([0, 0, 1, 1, 2, 4, 4, 4])
FIXED = LambdaSchedule(2.0, 0.0, 1.0, 0.0)
MAKERS: dict[str, Callable[[], Loss]] = {
    "softmax": lambda: SoftmaxLoss(5),
    "softmax without bias": lambda: SoftmaxLoss(5, bias=False),
    "m1": lambda: ASoftmax(5, margin=1, gradient="exact", schedule=FIXED),
    "m2": lambda: ASoftmax(5, margin=2, gradient="exact", schedule=FIXED),
    "m3": lambda: ASoftmax(5, margin=3, gradient="exact", schedule=FIXED),
    "m4": lambda: ASoftmax(5, margin=4, gradient="exact", schedule=FIXED),
    "plus": lambda: SphereFacePlus(5, gradient="exact", schedule=FIXED, energy_weight=0.7),
    **{
        f"r {version} {feature}": lambda version=version, feature=feature: SphereFaceR(
            5, version=version, feature=feature, margin=1.4, scale=3, softness=0.3, gradient="exact"
        )
        for version in ("v1", "v2")
        for feature in ("hard", "soft", "none")
    },
    "sphereface2": lambda: SphereFace2(5, scale=4, weight=2),
    "cosface": lambda: CosFace(5, scale=8),
    "arcface": lambda: ArcFace(5, scale=8),
    "centre": lambda: CentreLoss(5, scale=3),
    "triplet": lambda: TripletLoss(0.5),
    "sum": lambda: WeightedSum([(1.0, ASoftmax(5, gradient="exact", schedule=FIXED)), (0.3, CentreLoss(5))]),
    "regression": lambda: EmbeddingRegression(6),
    "regression to another width": lambda: EmbeddingRegression(9),
}


def _numbers(function: Callable[[], float], array: np.ndarray) -> np.ndarray:
    found = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        before, step = array[place], 1e-6
        array[place] = before + step
        high = function()
        array[place] = before - step
        found[place] = (high - function()) / (2 * step)
        array[place] = before
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_gradients(double: Backend, name: str) -> None:
    rng = np.random.default_rng(5)
    loss = MAKERS[name]()
    loss.build(double, 6, rng)
    x = rng.normal(size=(8, 6))
    target = LABELS if loss.labels else rng.normal(size=(8, 9 if "another" in name else 6))
    loss.forward(x, target)
    dx = loss.backward(0.5)
    np.testing.assert_allclose(dx, 0.5 * _numbers(lambda: loss.forward(x, target).value, x), atol=2e-7)
    for param in loss.params:
        data, grad = np.array(param.data), param.grad

        def at(param: object = param, data: np.ndarray = data) -> float:
            param.data = data.copy()  # type: ignore[attr-defined]
            return loss.forward(x, target).value

        np.testing.assert_allclose(grad, 0.5 * _numbers(at, data), atol=2e-7, err_msg=param.name)


def test_values_by_hand(double: Backend) -> None:
    loss = EmbeddingRegression(2)
    loss.build(double, 2, np.random.default_rng(0))
    value = loss.forward(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, -3.0]]))
    assert value.value == pytest.approx(1.0)
    assert value.parts["cosine"] == pytest.approx(0.0)
    arc = ArcFace(2, scale=1.0, margin=0.5)
    arc.build(double, 2, np.random.default_rng(0))
    arc.weight.data = np.eye(2)
    angle = 0.7
    logits = math.cos(angle + 0.5), math.sin(angle)
    expected = -math.log(math.exp(logits[0]) / (math.exp(logits[0]) + math.exp(logits[1])))
    x = np.array([[math.cos(angle), math.sin(angle)]]) * 4
    assert arc.forward(x, np.array([0])).value == pytest.approx(expected)
    energy = SphereFacePlus(2, energy_weight=1.0, schedule=FIXED)
    energy.build(double, 2, np.random.default_rng(0))
    energy.weight.data = np.eye(2)
    assert energy.forward(x, np.array([0])).parts["energy"] == pytest.approx(0.5)


@pytest.mark.parametrize("name", MAKERS)
def test_zero_embedding_stays_finite(double: Backend, name: str) -> None:
    rng = np.random.default_rng(1)
    loss = MAKERS[name]()
    loss.build(double, 6, rng)
    x = rng.normal(size=(8, 6))
    x[2] = 0
    target = LABELS if loss.labels else rng.normal(size=(8, 9 if "another" in name else 6))
    assert math.isfinite(loss.forward(x, target).value)
    assert np.isfinite(loss.backward()).all()


def test_semi_hard_negatives() -> None:
    """Of the negatives farther than the positive the nearest; where there is none, the farthest of all."""
    places = np.array([0.0, 2.0, 1.0, 3.0, 9.0])
    distance = np.abs(places[:, None] - places[None, :])
    anchors, positives, negatives = mine(distance, np.array([0, 0, 1, 1, 2]))
    chosen = {(a, p): n for a, p, n in zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True)}
    assert chosen == {(0, 1): 3, (1, 0): 4, (2, 3): 4, (3, 2): 0}


def test_a_batch_without_pairs_has_no_triplets(double: Backend) -> None:
    loss = TripletLoss()
    loss.build(double, 3, np.random.default_rng(0))
    x = np.random.default_rng(0).normal(size=(3, 3))
    assert loss.forward(x, np.array([0, 1, 2])).value == 0
    assert (loss.backward() == 0).all()
    assert loss.forward(x, np.array([1, 1, 1])).value == 0


@pytest.mark.parametrize("make", [lambda: CosFace(5, scale=0), lambda: ArcFace(5, margin=4), lambda: TripletLoss(0)])
def test_wrong_settings(make: Callable) -> None:
    with pytest.raises(InvalidArgumentError):
        make()


@pytest.mark.parametrize("name", ["softmax", "m4", "cosface", "centre"])
def test_labels_out_of_range(double: Backend, name: str) -> None:
    loss = MAKERS[name]()
    loss.build(double, 6, np.random.default_rng(0))
    with pytest.raises(InvalidArgumentError, match="label 5 is out of range"):
        loss.forward(np.ones((1, 6)), np.array([5]))
