"""A-Softmax: psi, lambda, and the released gradient against a transcription of the released formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend import Backend
from spherecv.train.losses.angular import LambdaSchedule, MarginProduct, check_labels, normalise_rows, psi
from spherecv.train.net import Net


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_psi_is_the_papers(m: int) -> None:
    theta = np.linspace(0.001, math.pi - 0.001, 997)
    k = np.floor(theta * m / math.pi)
    value, slope = psi(np, np.cos(theta), m)
    np.testing.assert_allclose(value, (-1) ** k * np.cos(m * theta) - 2 * k, atol=1e-9)
    assert (np.diff(value) < 0).all()
    step = 1e-6
    high, low = (psi(np, np.cos(theta) + s, m)[0] for s in (step, -step))
    inner = np.abs(theta * m / math.pi - np.round(theta * m / math.pi)) > 1e-3
    np.testing.assert_allclose(slope[inner], ((high - low) / (2 * step))[inner], rtol=1e-5, atol=1e-5)


def _sign(value: float) -> float:
    return float(value > 0) - float(value < 0)


def _released(x: np.ndarray, w: np.ndarray, labels: list[int], dtop: np.ndarray, m: int, lam: float) -> tuple:
    """Logits, dx and dw, number by number, as the released layer computes them."""
    count, classes = dtop.shape
    top, dx, dw = np.zeros((count, classes)), np.zeros_like(x), np.zeros_like(w)
    for i in range(count):
        norm = math.sqrt(sum(v * v for v in x[i]))
        for j in range(classes):
            dot = float(np.dot(x[i], w[j]))
            top[i, j] = dot
            dw[j] += dtop[i, j] * x[i]
            if j != labels[i] or m == 1:
                dx[i] += dtop[i, j] * w[j]
                continue
            c = dot / norm
            s0 = _sign(c)
            if m == 2:
                value = 2 * s0 * c**2 - 1
                coeff_w = 4 * s0 * c
                coeff_x = -1 / norm * (2 * s0 * c**2 + 1)
            elif m == 3:
                s1 = _sign(abs(c) - 0.5)
                s2 = s0 * (1 + s1) - 2
                value = s1 * (4 * c**3 - 3 * c) + s2
                coeff_w = s1 * (12 * c**2 - 3)
                coeff_x = -1 / norm * (s1 * 8 * c**3 - s2)
            else:
                s3 = s0 * _sign(2 * c**2 - 1)
                s4 = 2 * s0 + s3 - 3
                value = s3 * (8 * c**4 - 8 * c**2 + 1) + s4
                coeff_w = s3 * (32 * c**3 - 16 * c)
                coeff_x = -1 / norm * (s3 * (24 * c**4 - 8 * c**2 - 1) - s4)
            top[i, j] = (lam * dot + norm * value) / (1 + lam)
            length = math.sqrt(coeff_w**2 + coeff_x**2)
            margin = coeff_w / length * w[j] + coeff_x / length * x[i]
            dx[i] += dtop[i, j] * (lam / (1 + lam) * w[j] + 1 / (1 + lam) * margin)
    return top, dx, dw


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("lam", [0.0, 5.0, 900.0])
def test_released_gradient(double: Backend, m: int, lam: float) -> None:
    rng = np.random.default_rng(m)
    x, w = rng.normal(size=(64, 3)) * 3, rng.normal(size=(7, 3))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    labels, dtop = rng.integers(0, 7, 64), rng.normal(size=(64, 7))
    product = MarginProduct(double, m)
    top = product.forward(x, w, labels, lam)
    dx, dw = product.backward(dtop)
    expected = _released(x, w, labels.tolist(), dtop, m, lam)
    for found, wanted in zip((top, dx, dw), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("gradient", ["released", "exact"])
def test_no_feature_no_gradient(double: Backend, m: int, gradient: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4))
    x[1] = 0
    product = MarginProduct(double, m, gradient=gradient)  # type: ignore[arg-type]
    top = product.forward(x, normalise_rows(double, rng.normal(size=(5, 4))), np.array([0, 1, 2]), 5.0)
    dx, dw = product.backward(rng.normal(size=(3, 5)))
    assert np.isfinite(top).all()
    assert np.isfinite(dw).all()
    assert (dx[1] == 0).all()
    assert (dx[0] != 0).all()


def test_rows_get_unit_length_and_a_row_of_zeros_stays(double: Backend, single: Backend) -> None:
    for backend, dtype in ((double, np.float64), (single, np.float32)):
        rows = np.array([[3, 4], [0, 0], [0, -2]], dtype)
        found = backend.numpy(normalise_rows(backend, backend.asarray(rows)))
        np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)
        assert found.dtype == dtype


def test_lambda_counts_before_it_is_used() -> None:
    schedule = LambdaSchedule(1000, 0.12, 1, 5)
    assert schedule(1) == pytest.approx(1000 / 1.12)
    assert schedule(100_000) == 5


LAYER = b"""layer { name: "fc6" type: "MarginInnerProduct" bottom: "data" bottom: "label" top: "fc6" top: "lambda"
  margin_inner_product_param { num_output: 4 type: QUADRUPLE weight_filler { type: "gaussian" std: 3 }
    base: 1000 gamma: 0.12 power: 1 lambda_min: 5 iteration: 7 } }"""


def test_layer_counts_and_normalises_in_place(double: Backend) -> None:
    net = Net.from_prototxt(LAYER, double, shapes={"data": (2, 3), "label": (2,)})
    start = np.array(net.params[0].data)
    inputs = {"data": np.ones((2, 3)), "label": np.array([1, 3])}
    assert float(net.forward(inputs).blobs["lambda"]) == pytest.approx(1000 / (1 + 0.12 * 8))
    assert float(net.forward(inputs).blobs["lambda"]) == pytest.approx(1000 / (1 + 0.12 * 9))
    expected = start / np.linalg.norm(start, axis=1, keepdims=True)
    np.testing.assert_allclose(net.params[0].data, expected)
    net.train(False)
    net.forward(inputs)
    assert net.state()["fc6"] == {"t": 9}


@pytest.mark.parametrize("label", [-1, 4])
def test_label_out_of_range(double: Backend, label: int) -> None:
    net = Net.from_prototxt(LAYER, double, shapes={"data": (2, 3), "label": (2,)})
    with pytest.raises(InvalidArgumentError, match=rf"label {label} is out of range.*0\.\.3"):
        net.forward({"data": np.ones((2, 3)), "label": np.array([1, label])})
    check_labels(np.array([0, 3]), 4, "here")


@pytest.mark.parametrize("settings", [{"margin": 5}, {"margin": 0}, {"gradient": "wrong"}])
def test_wrong_settings(double: Backend, settings: dict) -> None:
    with pytest.raises(InvalidArgumentError):
        MarginProduct(double, **settings)
