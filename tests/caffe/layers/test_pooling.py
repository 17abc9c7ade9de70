"""Pooling against loops over every window, as Caffe's own loops go."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.caffe import load
from spherecv.caffe.shapes import infer
from spherecv.errors import UnsupportedLayerError

SEEDS = st.integers(0, 1000)
many = settings(max_examples=150, deadline=None, derandomize=True)
few = settings(max_examples=80, deadline=None, derandomize=True)


@st.composite
def poolings(draw):
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    pad = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    sizes = (draw(st.integers(1, 11)), draw(st.integers(1, 11)))
    return {"kernel": kernel, "stride": stride, "pad": pad, "sizes": sizes, "seed": draw(SEEDS)}


def _pool(x, case, method, floor=False):
    """Caffe's PoolingLayer, window by window (pooling_layer.cpp)."""
    kernel, stride, pad, sizes = case["kernel"], case["stride"], case["pad"], x.shape[2:]
    rounded = math.floor if floor else math.ceil
    out = [rounded((sizes[a] + 2 * pad[a] - kernel[a]) / stride[a]) + 1 for a in range(2)]
    if any(pad):
        out = [n - 1 if (n - 1) * stride[a] >= sizes[a] + pad[a] else n for a, n in enumerate(out)]
    y = np.empty((*x.shape[:2], *out))
    for i, j in product(*map(range, out)):
        start = [i * stride[0] - pad[0], j * stride[1] - pad[1]]
        end = [min(start[a] + kernel[a], sizes[a] + pad[a]) for a in range(2)]
        area = (end[0] - start[0]) * (end[1] - start[1])
        start, end = [max(s, 0) for s in start], [min(e, n) for e, n in zip(end, sizes, strict=True)]
        part = x[:, :, start[0] : end[0], start[1] : end[1]]
        y[:, :, i, j] = part.max((2, 3)) if method == "MAX" else part.sum((2, 3)) / area
    return y


def _defined(case):
    """Whether every window touches the image, and there is one."""
    for kernel, stride, pad, size in zip(case["kernel"], case["stride"], case["pad"], case["sizes"], strict=True):
        count = math.ceil((size + 2 * pad - kernel) / stride) + 1
        if any(case["pad"]) and (count - 1) * stride >= size + pad:
            count -= 1
        if count < 1 or (count - 1) * stride - pad >= size:
            return False
    return True


def _pooling(case, method):
    (kh, kw), (sh, sw), (ph, pw) = case["kernel"], case["stride"], case["pad"]
    return (
        f"pooling_param {{ pool: {method} kernel_h: {kh} kernel_w: {kw} "
        f"stride_h: {sh} stride_w: {sw} pad_h: {ph} pad_w: {pw} }}"
    )


@many
@given(case=poolings().filter(_defined), method=st.sampled_from(["MAX", "AVE"]))
def test_pooling(case, method, check_layer, draw_array):
    x = draw_array(case["seed"], (2, 3, *case["sizes"]))
    check_layer("Pooling", _pooling(case, method), [x], lambda x: _pool(x, case, method), batches=(1, 3))


@pytest.mark.runtime
@few
@given(case=poolings().filter(_defined), method=st.sampled_from(["MAX", "AVE"]))
def test_pooling_in_opencv(case, method, check_layer, draw_array):
    x = draw_array(case["seed"], (2, 3, *case["sizes"]))
    check_layer("Pooling", _pooling(case, method), [x], lambda x: _pool(x, case, method), batches=(1, 3), opencv=True)


@pytest.mark.runtime
@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)])
def test_pooling_rounds_up_at_every_size_of_one_model(
    method, kernel, stride, pad, convert, run_onnxruntime, run_opencv, draw_array, deviation
):
    text = (
        'input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 12 } '
        'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" '
        f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} }} }}"
    )
    _, model = convert(text, {})
    case = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "pad": (pad,) * 2}
    feeds = [{"data": draw_array(n, (1 + n % 2, 3, 7 + n, 16 - n))} for n in range(8)]
    expected = [_pool(feed["data"].astype(np.float64), case, method) for feed in feeds]
    results = [("onnxruntime", [run_onnxruntime(model, feed) for feed in feeds]), *run_opencv(model, feeds, ["pool"])]
    for runtime, outputs in results:
        for output, wanted in zip(outputs, expected, strict=True):
            assert deviation(output["pool"], wanted) < 1e-5, runtime


@pytest.mark.runtime
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_global_pooling(method, check_layer, draw_array):
    reduce = np.max if method == "MAX" else np.mean
    check_layer(
        "Pooling",
        f"pooling_param {{ pool: {method} global_pooling: true }}",
        [draw_array(3, (2, 3, 7, 5))],
        lambda x: reduce(x, (2, 3), keepdims=True),
        batches=(1,),
        opencv=True,
    )


def test_global_pooling_may_state_the_stride_it_has_anyway(check_layer, draw_array):
    for stated in ("", "stride: 1 pad: 0", "stride_h: 1 stride_w: 1"):
        text = f"pooling_param {{ global_pooling: true {stated} }}"
        check_layer("Pooling", text, [draw_array(3, (2, 3, 4, 5))], lambda x: x.max((2, 3), keepdims=True))


def test_shapes_are_known_before_anything_runs(one_layer):
    for text, sizes in (
        ("global_pooling: true", (1, 1)),
        ("kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1", (3, 4)),
        ("kernel_h: 3 kernel_w: 5 stride: 2 pad_h: 1 pad_w: 2", (4, 4)),
    ):
        net = load(one_layer("Pooling", f"pooling_param {{ {text} }}").encode())
        assert infer(net.layers, net.inputs)[-1].tops == ((1, 4, *sizes),)


def test_a_kernel_of_two_sides_alone_and_one_of_one_pixel(check_layer, draw_array):
    x = draw_array(4, (2, 3, 6, 7))
    case = {"kernel": (2, 3), "stride": (1, 1), "pad": (0, 0)}
    text = "pooling_param { kernel_h: 2 kernel_w: 3 }"
    check_layer("Pooling", text, [x], lambda x: _pool(x, case, "MAX"))
    check_layer("Pooling", "pooling_param { kernel_size: 1 }", [x], lambda x: x)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_rounds_down_when_told_to(method, check_layer, draw_array):
    case = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
    text = f"pooling_param {{ pool: {method} kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }}"
    check_layer("Pooling", text, [draw_array(3, (2, 3, 8, 10))], lambda x: _pool(x, case, method, floor=True))


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("Pooling", "", "kernel_size is missing"),
        ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", "smaller than the kernel"),
        ("Pooling", "pooling_param { kernel_h: 2 kernel_w: 3 pad_h: 2 pad_w: 2 }", r"pad \(2, 2\) must be smaller"),
        ("Pooling", "pooling_param { kernel_h: 3 kernel_w: 2 pad_h: 2 pad_w: 2 }", r"pad \(2, 2\) must be smaller"),
        ("Pooling", "pooling_param { kernel_h: 3 kernel_w: 0 }", "at least 1"),
        ("Pooling", "pooling_param { kernel_size: 3 stride: 0 }", "at least 1"),
        ("Pooling", "pooling_param { kernel_h: 2 }", "both kernel_h and kernel_w"),
        ("Pooling", "pooling_param { kernel_size: 2 stride: 2 stride_h: 2 stride_w: 2 }", "not both"),
        ("Pooling", "pooling_param { kernel_w: 2 }", "both kernel_h and kernel_w"),
        ("Pooling", "pooling_param { kernel_size: 2 stride: 2 stride_w: 2 }", "not both"),
        ("Pooling", "pooling_param { stride: 2 }", "kernel_size is missing"),
        *(
            ("Pooling", f"pooling_param {{ global_pooling: true {setting} }}", "neither stride nor pad")
            for setting in ("pad: 1", "pad_h: 1 pad_w: 1", "pad_w: 1", "stride: 2", "stride_h: 2 stride_w: 2")
        ),
        ("Pooling", "pooling_param { global_pooling: true pad: 1 }", "neither stride nor pad"),
        ("Pooling", "pooling_param { global_pooling: true kernel_size: 2 }", "no kernel size"),
        ("Pooling", 'pooling_param { pool: AVE kernel_size: 2 } top: "mask"', "only MAX"),
        ("Pooling", "pooling_param { kernel_size: 2 ceil_mode: true round_mode: FLOOR }", "contradict"),
    ],
)
def test_mistakes_name_layer_and_line(kind, text, complaint, one_layer, check_mistake):
    check_mistake(one_layer(kind, text), kind, 3, complaint)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Pooling", "pooling_param { kernel_size: 2 pool: STOCHASTIC }"),
        ("Pooling", "pooling_param { kernel_size: 1 stride: 4 }"),  # the last window would start outside
    ],
)
def test_what_is_not_supported_says_so(kind, text, one_layer):
    with pytest.raises(UnsupportedLayerError, match="layer 'it'"):
        load(one_layer(kind, text).encode())
