"""BatchNorm, Scale, Bias, Softmax, Normalize and LRN against their formulas, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.caffe import load
from spherecv.errors import UnsupportedLayerError
from spherecv.runtime import Session

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
FLAT_TOO = st.one_of(SHAPES, st.tuples(st.integers(1, 3), st.integers(1, 5)))
SEEDS = st.integers(0, 1000)
bounded = settings(max_examples=40, deadline=None, derandomize=True)
few = settings(max_examples=12, deadline=None, derandomize=True)


def _per_channel(values, x):
    return values.reshape(-1, *(1,) * (x.ndim - 2))


def _batch_norm(eps):
    def oracle(x, mean, variance, factor):
        share = 0.0 if factor[0] == 0 else 1 / factor[0]
        mean, variance = _per_channel(mean * share, x), _per_channel(variance * share, x)
        return (x - mean) / np.sqrt(variance + eps)

    return oracle


@pytest.mark.runtime
@few
@given(shape=FLAT_TOO, seed=SEEDS, factor=st.sampled_from([1.0, 0.5, 999.98, 0.0]), fold=st.booleans())
def test_batch_norm_divides_by_its_scale_factor(shape, seed, factor, fold, check_layer, draw_array):
    channels = shape[1:2]
    blobs = [draw_array(seed, channels), np.abs(draw_array(seed + 1, channels)) + 0.5, np.array([factor])]
    eps = np.float32(1e-3) if factor else np.float32(0.5)
    text = f"batch_norm_param {{ eps: {eps!s} }}"
    x = draw_array(seed + 2, shape)
    check_layer(
        "BatchNorm", text, [x], _batch_norm(float(eps)), blobs=blobs, opencv=True, batches=(1, 3), fold=fold
    )


def test_batch_norm_of_the_batch_itself_is_refused():
    text = (
        b'input: "x" input_shape { dim: 5 dim: 2 }\n'
        b'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "bn" batch_norm_param { use_global_stats: false } }'
    )
    with pytest.raises(UnsupportedLayerError, match=r"layer 'bn' \(BatchNorm, line 2\): use_global_stats"):
        load(text)


@st.composite
def scalings(draw):
    shape = draw(SHAPES)
    axis = draw(st.integers(0, 3))
    num_axes = draw(st.integers(-1, 4 - axis))
    covered = () if num_axes == 0 else shape[axis:] if num_axes == -1 else shape[axis : axis + num_axes]
    if covered and axis == 0:  # a learned blob over the batch pins it
        axis, covered, num_axes = 1, shape[1:2], 1
    return {
        "shape": shape,
        "axis": draw(st.sampled_from([axis, axis - 4])),
        "num_axes": num_axes,
        "covered": covered,
        "bias": draw(st.booleans()),
        "two": draw(st.booleans()),
        "seed": draw(SEEDS),
    }


def _spread(values, x, axis):
    return values if values.ndim == 0 else values.reshape(*values.shape, *(1,) * (x.ndim - axis % 4 - values.ndim))


def _check_scaling(case, kind, check_layer, draw_array, **options):
    seed, covered, bias = case["seed"], case["covered"], case["bias"] and kind == "Scale"
    second = [draw_array(seed + 1, covered)]
    x = draw_array(seed, case["shape"])
    addend = [draw_array(seed + 2, covered)] if bias else []

    def oracle(x, factor, addend=np.zeros(())):  # noqa: B008
        factor, addend = _spread(factor, x, case["axis"]), _spread(addend, x, case["axis"])
        return x * factor + addend if kind == "Scale" else x + factor

    word = kind.lower() + "_param"
    text = f"axis: {case['axis']}" + ("" if case["two"] else f" num_axes: {case['num_axes']}")
    text += " bias_term: true" if bias else ""
    bottoms, blobs = ([x, *second], addend) if case["two"] else ([x], second + addend)
    check_layer(kind, f"{word} {{ {text} }}", bottoms, oracle, blobs=blobs, **options)


@bounded
@given(case=scalings(), kind=st.sampled_from(["Scale", "Bias"]))
def test_scale_and_bias(case, kind, check_layer, draw_array):
    _check_scaling(case, kind, check_layer, draw_array)


@pytest.mark.runtime
@few
@given(case=scalings(), kind=st.sampled_from(["Scale", "Bias"]))
def test_scale_and_bias_in_opencv(case, kind, check_layer, draw_array):
    case["two"] = False
    _check_scaling(case, kind, check_layer, draw_array, opencv=True)


@pytest.mark.runtime
def test_scale_by_a_second_bottom_weighs_channels_at_every_size(convert, run_onnxruntime, run_opencv, draw_array):
    text = (
        'input: "x" input_shape { dim: 1 dim: 4 dim: 6 dim: 6 }'
        'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { pool: AVE global_pooling: true } }'
        'layer { name: "f" type: "Flatten" bottom: "p" top: "f" }'
        'layer { name: "s" type: "Scale" bottom: "x" bottom: "f" top: "s" scale_param { axis: 0 } }'
    )
    _, model = convert(text)
    feeds = [{"x": draw_array(n, (n, 4, 4 + n, 9 - n))} for n in (1, 2, 3)]
    results = [("onnxruntime", [run_onnxruntime(model, feed) for feed in feeds]), *run_opencv(model, feeds, ["s"])]
    for runtime, outputs in results:
        for feed, output in zip(feeds, outputs, strict=True):
            x = feed["x"]
            np.testing.assert_allclose(output["s"], x * x.mean((2, 3), keepdims=True), rtol=1e-4, err_msg=runtime)


@pytest.mark.runtime
@few
@given(shape=FLAT_TOO, seed=SEEDS, axis=st.sampled_from([1, -1]))
def test_softmax(shape, seed, axis, check_layer, draw_array):
    def oracle(x):
        powers = np.exp(x - x.max(axis, keepdims=True))
        return powers / powers.sum(axis, keepdims=True)

    x = draw_array(seed, shape) * 5
    check_layer("Softmax", f"softmax_param {{ axis: {axis} }}", [x], oracle, opencv=True, batches=(1, 3))


def _normalize(across, eps):
    def oracle(x, scale):
        axes = tuple(range(1, x.ndim)) if across else (1,)
        norm = np.sqrt((x * x).sum(axes, keepdims=True) + eps)
        return x / norm * _per_channel(scale, x)

    return oracle


@pytest.mark.runtime
@few
@given(shape=SHAPES, seed=SEEDS, across=st.booleans(), shared=st.booleans())
def test_normalize(shape, seed, across, shared, check_layer, draw_array):
    scale = draw_array(seed + 1, () if shared else shape[1:2])
    text = f"across_spatial: {str(across).lower()} channel_shared: {str(shared).lower()} eps: 0.5"
    check_layer(
        "Normalize",
        f"norm_param {{ {text} }}",
        [draw_array(seed, shape)],
        _normalize(across, 0.5),
        blobs=[scale],
        opencv=True,
        batches=(1, 3),
    )


def _lrn_across(size, alpha, beta, k):
    def oracle(x):
        padded = np.pad(x * x, ((0, 0), (size // 2,) * 2, (0, 0), (0, 0)))
        total = sum(padded[:, i : i + x.shape[1]] for i in range(size))
        return x / (k + alpha / size * total) ** beta

    return oracle


def _lrn_within(size, alpha, beta):
    def oracle(x):
        edge = (size // 2,) * 2
        padded = np.pad(x * x, ((0, 0), (0, 0), edge, edge))
        h, w = x.shape[2:]
        total = sum(padded[:, :, i : i + h, j : j + w] for i in range(size) for j in range(size))
        return x * (1 + alpha * total / size**2) ** -beta

    return oracle


@pytest.mark.runtime
@few
@given(shape=SHAPES, seed=SEEDS, size=st.sampled_from([1, 3, 5]), k=st.sampled_from([1, 2.5]), within=st.booleans())
def test_lrn(shape, seed, size, k, within, check_layer, draw_array):
    # OpenCV 4.14's own Caffe importer ignores k; Caffe does so within a channel only.
    region = "WITHIN_CHANNEL" if within else "ACROSS_CHANNELS"
    text = f"lrn_param {{ local_size: {size} alpha: 0.5 beta: 0.75 k: {k} norm_region: {region} }}"
    oracle = _lrn_within(size, 0.5, 0.75) if within else _lrn_across(size, 0.5, 0.75, k)
    check_layer("LRN", text, [draw_array(seed, shape)], oracle, opencv=True, batches=(1, 3))


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("LRN", "lrn_param { local_size: 4 }", "must be odd"),
        ("LRN", "lrn_param { local_size: 2147483647 }", "at most 999"),
        ("Softmax", "softmax_param { axis: 4 }", "axis 4 does not exist in a blob of 4 axes"),
        ("Scale", "scale_param { axis: 2 num_axes: 3 }", "num_axes 3 from axis 2"),
        ("Scale", 'bottom: "y" scale_param { axis: 1 }', "does not match"),
    ],
)
def test_mistakes_name_layer_and_line(kind, text, complaint, check_mistake):
    prototxt = (
        'input: "x" input: "y" input_shape { dim: 1 dim: 4 dim: 6 dim: 6 } input_shape { dim: 3 }\n'
        f'layer {{ name: "it" type: "{kind}" bottom: "x" top: "it" {text} }}'
    )
    check_mistake(prototxt, kind, 2, complaint)


def test_softmax_over_the_batch_fixes_its_size(convert):
    """A Session may run a large batch in parts, which would be wrong here."""
    text = 'input: "x" input_shape { dim: 3 dim: 4 } layer { name: "s" type: "Softmax" bottom: "x" top: "s" '
    assert Session(convert(text + "softmax_param { axis: 0 } }")[1]).inputs == {"x": (3, 4)}
    assert Session(convert(text + "softmax_param { axis: 1 } }")[1]).inputs == {"x": (None, 4)}
