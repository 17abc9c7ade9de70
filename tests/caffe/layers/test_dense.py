"""InnerProduct against a matrix product."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.caffe import load
from spherecv.errors import PrototxtError


@st.composite
def products(draw):
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    return {
        "shape": shape,
        "axis": draw(st.integers(1, len(shape) - 1)) - draw(st.sampled_from([0, len(shape)])),
        "outputs": draw(st.integers(1, 4)),
        "bias": draw(st.booleans()),
        "transpose": draw(st.booleans()),
        "seed": draw(st.integers(0, 1000)),
    }


def _check(case, check_layer, draw_array, **options):
    shape, outputs, seed = case["shape"], case["outputs"], case["seed"]
    axis = case["axis"] % len(shape)
    length = math.prod(shape[axis:])
    weight = draw_array(seed + 1, (length, outputs) if case["transpose"] else (outputs, length))
    blobs = [weight, draw_array(seed + 2, (outputs,))][: 1 + case["bias"]]

    def oracle(x, weight, bias=0.0):
        matrix = weight if case["transpose"] else weight.T
        return x.reshape(*x.shape[:axis], length) @ matrix + bias

    text = (
        f"inner_product_param {{ num_output: {outputs} axis: {case['axis']} "
        f"bias_term: {str(case['bias']).lower()} transpose: {str(case['transpose']).lower()} }}"
    )
    check_layer("InnerProduct", text, [draw_array(seed, shape)], oracle, blobs=blobs, batches=(1, 3), **options)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=products())
def test_inner_product(case, check_layer, draw_array):
    _check(case, check_layer, draw_array)


@pytest.mark.runtime
@settings(max_examples=20, deadline=None, derandomize=True)
@given(case=products())
def test_inner_product_in_opencv(case, check_layer, draw_array):
    # OpenCV 4.14's own Caffe importer ignores `transpose`; Caffe does not.
    _check(case, check_layer, draw_array, opencv=True)


def test_axis_zero_takes_the_whole_batch_as_one_vector(check_layer, draw_array):
    weight = draw_array(1, (3, 8))
    oracle = lambda x, w: w @ x.reshape(-1)  # noqa: E731
    text = "inner_product_param { num_output: 3 axis: 0 bias_term: false }"
    check_layer("InnerProduct", text, [draw_array(2, (2, 4))], oracle, blobs=[weight])


def test_after_global_pooling_the_size_stays_open(convert, run_onnxruntime, draw_array):
    text = (
        'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }'
        'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pool: AVE global_pooling: true } }'
        'layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 2 } }'
    )
    net, model = convert(text)
    x = draw_array(1, (3, 3, 11, 5))
    weight, bias = net.layers[1].blobs
    np.testing.assert_allclose(run_onnxruntime(model, {"data": x})["f"], x.mean((2, 3)) @ weight.T + bias, rtol=1e-4)


def test_needs_num_output():
    text = b'input: "x" input_shape { dim: 5 dim: 2 } layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" }'
    with pytest.raises(PrototxtError, match="num_output must be at least 1"):
        load(text)
