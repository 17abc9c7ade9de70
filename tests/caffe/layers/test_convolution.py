"""Convolution and Deconvolution against loops over every place of the kernel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.caffe import load
from spherecv.errors import UnsupportedLayerError

SEEDS = st.integers(0, 1000)
many = settings(max_examples=150, deadline=None, derandomize=True)
few = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def windows(draw, smallest=1):
    """kernel, stride, pad, dilation: each a pair."""
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    return pair(1, 4), pair(smallest, 3), pair(0, 2), pair(1, 2)


@st.composite
def convolutions(draw):
    kernel, stride, pad, dilation = draw(windows())
    group = draw(st.sampled_from([1, 2, 3]))
    sizes = [
        d * (k - 1) + 1 - 2 * p + draw(st.integers(0, 6)) for k, p, d in zip(kernel, pad, dilation, strict=True)
    ]
    return {
        "window": (kernel, stride, pad, dilation),
        "group": group,
        "inputs": group * draw(st.integers(1, 2)),
        "outputs": group * draw(st.integers(1, 2)),
        "sizes": [max(1, size) for size in sizes],
        "bias": draw(st.booleans()),
        "seed": draw(SEEDS),
    }


def _settings(case):
    kernel, stride, pad, dilation = case["window"]
    return (
        f"convolution_param {{ num_output: {case['outputs']} group: {case['group']} "
        f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]} "
        f"pad_h: {pad[0]} pad_w: {pad[1]} dilation: {dilation[0]} dilation: {dilation[1]} "
        f"bias_term: {str(case['bias']).lower()} }}"
    )


def _convolve(x, weight, bias, case):
    kernel, stride, pad, dilation = case["window"]
    group = case["group"]
    padded = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    out = [
        (padded.shape[2 + a] - (dilation[a] * (kernel[a] - 1) + 1)) // stride[a] + 1 for a in range(2)
    ]
    y = np.zeros((len(x), len(weight), *out))
    per_in, per_out = x.shape[1] // group, len(weight) // group
    for o, i, ky, kx in product(range(len(weight)), range(per_in), range(kernel[0]), range(kernel[1])):
        channel = o // per_out * per_in + i
        rows = slice(ky * dilation[0], ky * dilation[0] + (out[0] - 1) * stride[0] + 1, stride[0])
        columns = slice(kx * dilation[1], kx * dilation[1] + (out[1] - 1) * stride[1] + 1, stride[1])
        y[:, o] += weight[o, i, ky, kx] * padded[:, channel, rows, columns]
    return y + bias.reshape(1, -1, 1, 1)


def _deconvolve(x, weight, bias, case):
    kernel, stride, pad, dilation = case["window"]
    group = case["group"]
    full = [stride[a] * (x.shape[2 + a] - 1) + dilation[a] * (kernel[a] - 1) + 1 for a in range(2)]
    per_in, per_out = x.shape[1] // group, weight.shape[1]
    y = np.zeros((len(x), per_out * group, *full))
    for i, o, ky, kx in product(range(x.shape[1]), range(per_out), range(kernel[0]), range(kernel[1])):
        channel = i // per_in * per_out + o
        rows = slice(ky * dilation[0], ky * dilation[0] + (x.shape[2] - 1) * stride[0] + 1, stride[0])
        columns = slice(kx * dilation[1], kx * dilation[1] + (x.shape[3] - 1) * stride[1] + 1, stride[1])
        y[:, channel, rows, columns] += weight[i, o, ky, kx] * x[:, i]
    y = y[:, :, pad[0] : full[0] - pad[0], pad[1] : full[1] - pad[1]]
    return y + bias.reshape(1, -1, 1, 1)


def _check_convolution(case, check_layer, draw_array, *, transposed=False, **options):
    x = draw_array(case["seed"], (2, case["inputs"], *case["sizes"]))
    first, second = (case["inputs"], case["outputs"]) if transposed else (case["outputs"], case["inputs"])
    weight = draw_array(case["seed"] + 1, (first, second // case["group"], *case["window"][0]))
    blobs = [weight, draw_array(case["seed"] + 2, (case["outputs"],))][: 1 + case["bias"]]
    compute = _deconvolve if transposed else _convolve

    def oracle(x, weight, bias=np.zeros(case["outputs"])):  # noqa: B008
        return compute(x, weight, bias, case)

    kind = "Deconvolution" if transposed else "Convolution"
    check_layer(kind, _settings(case), [x], oracle, blobs=blobs, batches=(1, 3), **options)


@many
@given(case=convolutions())
def test_convolution(case, check_layer, draw_array):
    _check_convolution(case, check_layer, draw_array)


@pytest.mark.runtime
@few
@given(case=convolutions())
def test_convolution_in_opencv(case, check_layer, draw_array):
    _check_convolution(case, check_layer, draw_array, opencv=True)


def _fits(case):
    """A transposed convolution whose padding leaves something."""
    kernel, stride, pad, dilation = case["window"]
    return all(
        stride[a] * (case["sizes"][a] - 1) + dilation[a] * (kernel[a] - 1) + 1 - 2 * pad[a] >= 1 for a in range(2)
    )


@many
@given(case=convolutions().filter(_fits))
def test_deconvolution(case, check_layer, draw_array):
    _check_convolution(case, check_layer, draw_array, transposed=True)


@pytest.mark.runtime
@few
@given(case=convolutions().filter(_fits))
def test_deconvolution_in_opencv(case, check_layer, draw_array):
    # OpenCV 4.14's own Caffe importer ignores the dilation of a Deconvolution; Caffe does not.
    _check_convolution(case, check_layer, draw_array, transposed=True, opencv=True)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("kernel_size: 3", ((3, 3), (1, 1), (0, 0), (1, 1))),
        ("kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 pad: 1 pad: 0", ((3, 2), (2, 1), (1, 0), (1, 1))),
        ("kernel_size: 2 pad_h: 1 dilation: 2", ((2, 2), (1, 1), (1, 0), (2, 2))),
        ("kernel_h: 1 kernel_w: 3 stride: 2", ((1, 3), (2, 2), (0, 0), (1, 1))),
    ],
)
def test_every_way_to_state_a_window(text, window, check_layer, draw_array):
    # OpenCV 4.14's own Caffe importer ignores a pad_h without a pad_w; Caffe does not.
    case = {"window": window, "group": 1}
    x, weight, bias = draw_array(1, (2, 2, 9, 8)), draw_array(2, (3, 2, *window[0])), draw_array(3, (3,))
    oracle = lambda x, w, b: _convolve(x, w, b, case)  # noqa: E731
    check_layer("Convolution", f"convolution_param {{ num_output: 3 {text} }}", [x], oracle, blobs=[weight, bias])


@pytest.mark.runtime
@pytest.mark.parametrize("pad", [(1, 1), (0, 2), (3, 0)])
@pytest.mark.parametrize(("kernel", "stride"), [((1, 1), (1, 1)), ((1, 1), (2, 2)), ((1, 2), (1, 1)), ((2, 3), (2, 2))])
@pytest.mark.parametrize("transposed", [False, True])
def test_padding_larger_than_the_kernel(kernel, stride, pad, transposed, check_layer, draw_array):
    # OpenCV 5.0 computes garbage for a 1x1 Conv with padding, and 4.14 corrupts its heap for such a ConvTranspose.
    case = {"window": (kernel, stride, pad, (1, 1)), "group": 1, "inputs": 2, "outputs": 3, "sizes": (9, 8)}
    case |= {"bias": True, "seed": 5}
    _check_convolution(case, check_layer, draw_array, transposed=transposed, opencv=True)


@pytest.mark.runtime
@pytest.mark.parametrize("pad", [(0, 1), (1, 1), (2, 2)])
def test_depthwise_with_holes(pad, check_layer, draw_array):
    # OpenCV 4.14 reads beyond the image here, in its Caffe importer too, but for a padding of 2.
    case = {"window": ((3, 3), (1, 1), pad, (2, 2)), "group": 4, "inputs": 4, "outputs": 4, "sizes": (11, 11)}
    case |= {"bias": False, "seed": 5}
    _check_convolution(case, check_layer, draw_array, opencv=True)


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("Convolution", "convolution_param { num_output: 2 }", "kernel_size is missing"),
        ("Convolution", "convolution_param { kernel_size: 3 }", "num_output"),
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 stride: 0 }", "at least 1"),
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 kernel_h: 3 }", "not both"),
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 group: 3 }", "group 3 does not divide"),
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 pad: 1 pad: 1 pad: 1 }", "3 times"),
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 9 }", "too small"),
        ("Convolution", "convolution_param { num_output: 4000000000 kernel_size: 3 }", "more than a blob can hold"),
        ("Deconvolution", "convolution_param { num_output: 2 kernel_size: 1 pad: 3 }", "too small"),
    ],
)
def test_mistakes_name_layer_and_line(kind, text, complaint, one_layer, check_mistake):
    check_mistake(one_layer(kind, text), kind, 3, complaint)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 axis: 2 }"),
    ],
)
def test_what_is_not_supported_says_so(kind, text, one_layer):
    with pytest.raises(UnsupportedLayerError, match="layer 'it'"):
        load(one_layer(kind, text).encode())


def test_a_dilation_that_would_fill_the_memory(convert, one_layer):
    text = one_layer("Deconvolution", "convolution_param { num_output: 2 kernel_size: 2 dilation: 4000 }")
    with pytest.raises(UnsupportedLayerError, match="kernel too large"):
        convert(text)
