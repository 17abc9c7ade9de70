"""ReLU, PReLU, Sigmoid, TanH, Power and Dropout against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.caffe import load
from spherecv.errors import PrototxtError

SHAPES = st.one_of(
    st.tuples(*[st.integers(1, 4)] * 2), st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(1, 5)] * 4)
)
SEEDS = st.integers(0, 1000)
SLOPES = st.floats(-2, 2, width=32)
bounded = settings(max_examples=40, deadline=None, derandomize=True)
few = settings(max_examples=12, deadline=None, derandomize=True)


@bounded
@given(shape=SHAPES, seed=SEEDS, slope=SLOPES)
def test_relu(shape, seed, slope, check_layer, draw_array):
    text = f"relu_param {{ negative_slope: {slope!r} }}"
    check_layer("ReLU", text, [draw_array(seed, shape)], lambda x: np.where(x > 0, x, np.float32(slope) * x))


@pytest.mark.runtime
@few
@given(shape=SHAPES, seed=SEEDS, slope=st.sampled_from([0.0, 0.25, -1.5]))
def test_relu_in_opencv(shape, seed, slope, check_layer, draw_array):
    text = f"relu_param {{ negative_slope: {slope} }}"
    x = draw_array(seed, shape)
    check_layer("ReLU", text, [x], lambda x: np.where(x > 0, x, slope * x), opencv=True, batches=(1, 3))


def _prelu(x, slope):
    return np.where(x > 0, x, slope.reshape(-1, *(1,) * (x.ndim - 2)) * x)


@bounded
@given(shape=SHAPES, seed=SEEDS, shared=st.booleans())
def test_prelu(shape, seed, shared, check_layer, draw_array):
    slope = draw_array(seed + 1, () if shared else shape[1:2])
    text = f"prelu_param {{ channel_shared: {str(shared).lower()} }}"
    check_layer("PReLU", text, [draw_array(seed, shape)], _prelu, blobs=[slope])


@pytest.mark.runtime
@few
@given(shape=SHAPES, seed=SEEDS, shared=st.booleans())
def test_prelu_in_opencv(shape, seed, shared, check_layer, draw_array):
    slope = draw_array(seed + 1, () if shared else shape[1:2])
    text = f"prelu_param {{ channel_shared: {str(shared).lower()} }}"
    check_layer("PReLU", text, [draw_array(seed, shape)], _prelu, blobs=[slope], opencv=True, batches=(1, 3))


FORMULAS = {"Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "TanH": np.tanh, "Dropout": lambda x: x}


@pytest.mark.runtime
@pytest.mark.parametrize("kind", FORMULAS)
@few
@given(shape=SHAPES, seed=SEEDS)
def test_sigmoid_tanh_dropout(kind, shape, seed, check_layer, draw_array):
    check_layer(kind, "", [draw_array(seed, shape)], FORMULAS[kind], opencv=True, batches=(1, 3))


@bounded
@given(
    shape=SHAPES,
    seed=SEEDS,
    power=st.sampled_from([1, 2, 3, 0.5, -0.5, -1, 0]),
    scale=st.floats(0.25, 2, width=32),
    shift=st.floats(0, 2, width=32),
)
def test_power(shape, seed, power, scale, shift, check_layer, draw_array):
    x = np.abs(draw_array(seed, shape)) + np.float32(0.2)
    text = f"power_param {{ power: {power} scale: {scale!r} shift: {shift!r} }}"
    check_layer("Power", text, [x], lambda x: (np.float32(shift) + np.float32(scale) * x) ** power)


@pytest.mark.runtime
@few
@given(shape=SHAPES, seed=SEEDS, power=st.sampled_from([1, 2, 0.5, -0.75]), shift=st.sampled_from([0, 0.5]))
def test_power_in_opencv(shape, seed, power, shift, check_layer, draw_array):
    x = np.abs(draw_array(seed, shape)) + np.float32(0.2)
    text = f"power_param {{ power: {power} scale: 1.5 shift: {shift} }}"
    check_layer("Power", text, [x], lambda x: (shift + 1.5 * x) ** power, opencv=True, batches=(1, 3))


@pytest.mark.parametrize("power", [2, 3])
def test_power_of_negative_numbers(power, check_layer, draw_array):
    check_layer("Power", f"power_param {{ power: {power} }}", [draw_array(1, (2, 3, 4, 4))], lambda x: x**power)


def test_prelu_needs_channels():
    text = b'input: "x" input_shape { dim: 5 } layer { name: "p" type: "PReLU" bottom: "x" top: "p" }'
    with pytest.raises(PrototxtError, match=r"layer 'p' \(PReLU, line 1\): needs a blob with a channel axis"):
        load(text)
