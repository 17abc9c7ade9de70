"""SphereFace-R and SphereFace2 against their formulas, number by number in float64, and PyTorch's own derivative."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend import Backend
from spherecv.train.losses import SphereFace2, SphereFaceR

LABELS = np.array([0, 3, 1, 1, 2, 4])


def _made(loss, double: Backend, *, spread: float = 1.0):
    rng = np.random.default_rng(11)
    loss.build(double, 3, rng)
    loss.weight.data = rng.normal(size=(5, 3))
    return rng.normal(size=(6, 3)) * spread


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    return math.acos(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("feature", ["hard", "soft", "none"])
@pytest.mark.parametrize("margin", [1.0, 1.4, 3.0])
def test_r_is_the_papers(double: Backend, version: str, feature: str, margin: float) -> None:
    loss = SphereFaceR(5, version=version, feature=feature, margin=margin, scale=4.0, softness=0.2)  # type: ignore[arg-type]
    x = _made(loss, double, spread=3.0)
    total, clamped = 0.0, 0
    for row, label in zip(x, LABELS, strict=True):
        length = math.sqrt(float(row @ row))
        reach = 4.0 if feature == "hard" else length
        angles = [_angle(row, other) for other in loss.weight.data]
        clamped += margin * angles[label] > math.pi
        scores = [
            reach
            * math.cos(
                min(margin * angle, math.pi)
                if j == label and version == "v1"
                else angle / margin
                if j != label and version == "v2"
                else angle
            )
            for j, angle in enumerate(angles)
        ]
        total += math.log(sum(math.exp(score - scores[label]) for score in scores))
        total += 0.2 * (length - 4.0) ** 2 if feature == "soft" else 0.0
    assert loss.forward(x, LABELS).value == pytest.approx(total / 6, rel=1e-10)
    assert clamped or margin < 3, "some angle must lie beyond pi / m"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_detached_gradient_is_that_of_the_cosine_with_a_constant_added(double: Backend, version: str) -> None:
    torch = pytest.importorskip("torch")
    loss = SphereFaceR(5, version=version, margin=1.5, scale=4.0, feature="soft", softness=0.2)  # type: ignore[arg-type]
    x = _made(loss, double)
    loss.forward(x, LABELS)
    dx = loss.backward()
    features = torch.tensor(x, requires_grad=True)
    weight = torch.tensor(np.array(loss.weight.data), requires_grad=True)
    length = features.norm(dim=1, keepdim=True)
    cosine = (features / length) @ (weight / weight.norm(dim=1, keepdim=True)).T
    own = torch.nn.functional.one_hot(torch.tensor(LABELS), 5).bool()
    angle = torch.acos(cosine.detach())
    changed = torch.cos((1.5 * angle).clamp(max=math.pi)) if version == "v1" else torch.cos(angle / 1.5)
    added = torch.where(own if version == "v1" else ~own, changed - cosine.detach(), torch.zeros_like(changed))
    value = torch.nn.functional.cross_entropy(length * (cosine + added), torch.tensor(LABELS))
    (value + 0.2 * ((length - 4.0) ** 2).mean()).backward()
    np.testing.assert_allclose(dx, features.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(loss.weight.grad, weight.grad.numpy(), atol=1e-12)


def test_sphereface2_is_the_papers(double: Backend) -> None:
    loss = SphereFace2(5, balance=0.6, scale=5.0, margin=0.3, sharpness=2.5, weight=7.0)
    x = _made(loss, double)
    loss.bias.data = np.array([0.4])
    total = 0.0
    for row, label in zip(x, LABELS, strict=True):
        for j, other in enumerate(loss.weight.data):
            stretched = 2 * ((math.cos(_angle(row, other)) + 1) / 2) ** 2.5 - 1
            if j == label:
                total += 0.6 / 5.0 * math.log(1 + math.exp(-5.0 * (stretched - 0.3) - 0.4))
            else:
                total += 0.4 / 5.0 * math.log(1 + math.exp(5.0 * (stretched + 0.3) + 0.4))
    assert loss.forward(x, LABELS).value == pytest.approx(7.0 * total / 6, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 5, 10_000])
def test_the_bias_starts_where_label_and_others_pull_equally(double: Backend, classes: int) -> None:
    loss = SphereFace2(classes)
    loss.build(double, 3, np.random.default_rng(0))
    flat, bias = 2 * 0.5**3 - 1, float(loss.bias.data[0])
    own, other = 40 * (flat - 0.4) + bias, 40 * (flat + 0.4) + bias
    pull = 0.7 / (1 + math.exp(own))
    assert 0.3 * (classes - 1) / (1 + math.exp(-other)) == pytest.approx(pull, rel=1e-9)


@pytest.mark.parametrize("loss", [SphereFaceR(5), SphereFaceR(5, version="v2", feature="none"), SphereFace2(5)])
def test_far_out_features_give_numbers(double: Backend, loss) -> None:
    x = _made(loss, double, spread=1e4)
    x[0] = loss.weight.data[0] * 7  # an angle of 0
    x[1] = 0.0
    assert math.isfinite(loss.forward(x, LABELS).value)
    assert np.isfinite(loss.backward()).all()
    assert all(np.isfinite(param.grad).all() for param in loss.params)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SphereFaceR(5, version="v3"), "version must be one of v1, v2, but got 'v3'"),  # type: ignore[arg-type]
        (lambda: SphereFaceR(5, margin=0.5), "margin must be at least 1"),
        (lambda: SphereFace2(5, balance=1.0), "balance must be between 0 and 1"),
    ],
)
def test_wrong_settings(make, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        make()
