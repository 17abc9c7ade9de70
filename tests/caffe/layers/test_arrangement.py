"""Eltwise, Concat, Slice, Split, Crop, Flatten, Reshape and Permute against NumPy's own."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple)
IMAGES = st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5), st.integers(2, 5))
SEEDS = st.integers(0, 1000)
bounded = settings(max_examples=40, deadline=None, derandomize=True)
few = settings(max_examples=12, deadline=None, derandomize=True)
COEFFICIENTS = st.lists(st.sampled_from([1, -1, 0.5, 2]), min_size=3, max_size=3)


@pytest.mark.runtime
@few
@given(shape=SHAPES, seed=SEEDS, count=st.integers(2, 3), coeff=st.none() | COEFFICIENTS)
def test_eltwise_sum(shape, seed, count, coeff, check_layer, draw_array):
    factors = (coeff or [1] * count)[:count]
    text = " ".join(f"coeff: {factor}" for factor in factors) if coeff else ""
    bottoms = [draw_array(seed + index, shape) for index in range(count)]

    def oracle(*terms):
        return sum(factor * term for factor, term in zip(factors, terms, strict=True))

    check_layer("Eltwise", f"eltwise_param {{ {text} }}", bottoms, oracle, opencv=True, batches=(1, 3))


@pytest.mark.runtime
@few
@given(shape=SHAPES, seed=SEEDS, count=st.integers(2, 3), operation=st.sampled_from(["PROD", "MAX"]))
def test_eltwise_product_and_maximum(shape, seed, count, operation, check_layer, draw_array):
    combine = np.multiply if operation == "PROD" else np.maximum
    check_layer(
        "Eltwise",
        f"eltwise_param {{ operation: {operation} }}",
        [draw_array(seed + index, shape) for index in range(count)],
        lambda *terms: functools.reduce(combine, terms),
        opencv=True,
        batches=(1, 3),
    )


@pytest.mark.runtime
@few
@given(shape=IMAGES, seed=SEEDS, sizes=st.lists(st.integers(1, 3), min_size=2, max_size=3), axis=st.integers(1, 3))
def test_concat(shape, seed, sizes, axis, check_layer, draw_array):
    bottoms = [draw_array(seed + n, (*shape[:axis], n, *shape[axis + 1 :])) for n in sizes]
    oracle = lambda *parts: np.concatenate(parts, axis)  # noqa: E731
    check_layer("Concat", f"concat_param {{ axis: {axis} }}", bottoms, oracle, opencv=True, batches=(1, 3))


def test_concat_by_its_legacy_name(check_layer, draw_array):
    bottoms = [draw_array(0, (2, 3, 4, 5)), draw_array(1, (2, 3, 1, 5))]
    check_layer("Concat", "concat_param { concat_dim: 2 }", bottoms, lambda *parts: np.concatenate(parts, 2))


@pytest.mark.runtime
@few
@given(shape=IMAGES, seed=SEEDS, axis=st.integers(1, 3), data=st.data())
def test_slice(shape, seed, axis, data, check_layer, draw_array):
    points = sorted(data.draw(st.sets(st.integers(1, shape[axis] - 1), min_size=1, max_size=3)))
    text = " ".join(f"slice_point: {point}" for point in points)
    check_layer(
        "Slice",
        f"slice_param {{ axis: {axis} {text} }}",
        [draw_array(seed, shape)],
        lambda x: np.split(x, points, axis),
        tops=len(points) + 1,
        opencv=True,
        batches=(1, 3),
    )


@pytest.mark.runtime
@pytest.mark.parametrize("word", ["axis", "slice_dim"])
def test_slice_into_equal_parts(word, check_layer, draw_array):
    x = draw_array(0, (2, 6, 3, 3))
    text = f"slice_param {{ {word}: 1 }}"
    check_layer("Slice", text, [x], lambda x: np.split(x, 3, 1), tops=3, opencv=True, batches=(1,))


@pytest.mark.runtime
def test_split_gives_one_blob_several_names(check_layer, draw_array):
    x = draw_array(0, (2, 3, 4, 4))
    check_layer("Split", "", [x], lambda x: [x, x, x], tops=3, opencv=True, batches=(1, 3))


@bounded
@given(shape=IMAGES, extra=st.tuples(*[st.integers(0, 3)] * 3), axis=st.integers(1, 3), seed=SEEDS, data=st.data())
def test_crop(shape, extra, axis, seed, data, check_layer, draw_array):
    larger = (*shape[:axis], *(size + more for size, more in zip(shape[axis:], extra, strict=False)))
    offsets = [data.draw(st.integers(0, big - small)) for big, small in zip(larger, shape, strict=True)][axis:]
    if len(set(offsets)) == 1 and data.draw(st.booleans()):
        text = f"offset: {offsets[0]}"
    else:
        text = " ".join(f"offset: {offset}" for offset in offsets)

    def oracle(x, like):
        cuts = [slice(o, o + n) for o, n in zip(offsets, like.shape[axis:], strict=True)]
        return x[(slice(None),) * axis + tuple(cuts)]

    bottoms = [draw_array(seed, larger), draw_array(seed + 1, shape)]
    check_layer("Crop", f"crop_param {{ axis: {axis} {text} }}", bottoms, oracle, batches=(1, 3))


@pytest.mark.runtime
def test_crop_in_opencv(check_layer, draw_array):
    bottoms = [draw_array(0, (2, 3, 9, 8)), draw_array(1, (2, 3, 5, 6))]
    text = "crop_param { axis: 2 offset: 3 offset: 1 }"
    check_layer("Crop", text, bottoms, lambda x, _: x[:, :, 3:8, 1:7], opencv=True, batches=(1, 3))


@bounded
@given(shape=SHAPES, seed=SEEDS, first=st.integers(0, 3), last=st.integers(0, 3), negative=st.booleans())
def test_flatten(shape, seed, first, last, negative, check_layer, draw_array):
    assume(first <= last < len(shape))
    shift = len(shape) if negative else 0
    text = f"flatten_param {{ axis: {first - shift} end_axis: {last - shift} }}"

    def oracle(x):
        return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])

    check_layer("Flatten", text, [draw_array(seed, shape)], oracle)


@pytest.mark.runtime
@pytest.mark.parametrize(("text", "shape"), [("", (-1, 60)), ("axis: 2", (-1, 3, 20)), ("end_axis: 2", (-1, 12, 5))])
def test_flatten_in_opencv(text, shape, check_layer, draw_array):
    x = draw_array(0, (2, 3, 4, 5))
    oracle = lambda x: x.reshape(shape)  # noqa: E731
    check_layer("Flatten", f"flatten_param {{ {text} }}", [x], oracle, opencv=True, batches=(1, 3))


RESHAPES = [
    ("shape { dim: 0 dim: -1 }", (2, 60)),
    ("shape { dim: 0 dim: 0 dim: -1 }", (2, 3, 20)),
    ("shape { dim: 0 dim: 5 dim: 4 dim: 3 }", (2, 5, 4, 3)),
    ("axis: 1 shape { dim: 6 dim: -1 }", (2, 6, 10)),
    ("axis: 1 num_axes: 1 shape { dim: 1 dim: 3 }", (2, 1, 3, 4, 5)),
    ("axis: -4 num_axes: 2 shape { dim: -1 }", (2, 12, 5)),  # -1 is the place after the last axis,
    ("axis: -1 shape { dim: 1 }", (2, 3, 4, 5, 1)),
]


@pytest.mark.runtime
@pytest.mark.parametrize(("text", "shape"), RESHAPES)
def test_reshape(text, shape, check_layer, draw_array):
    x = draw_array(0, (2, 3, 4, 5))
    oracle = lambda x: x.reshape(len(x), *shape[1:])  # noqa: E731
    check_layer("Reshape", f"reshape_param {{ {text} }}", [x], oracle, opencv=True, batches=(1, 3))


def test_a_reshape_that_takes_the_batch_in_fixes_it(check_layer, draw_array):
    text = "reshape_param { shape { dim: 1 dim: -1 } }"
    check_layer("Reshape", text, [draw_array(0, (2, 3, 4, 5))], lambda x: x.reshape(1, -1))


@pytest.mark.runtime
@few
@given(shape=IMAGES, seed=SEEDS, order=st.permutations([1, 2, 3]), cut=st.integers(1, 4))
def test_permute(shape, seed, order, cut, check_layer, draw_array):
    full = [0, *order]
    given_part = full[:cut]
    rest = [axis for axis in range(4) if axis not in given_part]
    text = " ".join(f"order: {axis}" for axis in given_part)
    oracle = lambda x: x.transpose(given_part + rest)  # noqa: E731
    check_layer("Permute", f"permute_param {{ {text} }}", [draw_array(seed, shape)], oracle, opencv=True, batches=(1,))


def test_permuting_nothing_is_nothing(check_layer, draw_array):
    check_layer("Permute", "", [draw_array(0, ())], lambda x: x)
    check_layer("Permute", "permute_param { order: 0 order: 1 }", [draw_array(0, (2, 3))], lambda x: x)


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("Eltwise", 'bottom: "y"', "different shapes"),
        ("Eltwise", 'bottom: "x" eltwise_param { coeff: 1 }', "one coeff per bottom"),
        ("Eltwise", "", "has 1 bottoms, but needs at least 2"),
        ("Concat", 'bottom: "y" concat_param { axis: 2 }', "equal shapes but for axis 2"),
        ("Slice", 'top: "b" slice_param { slice_point: 9 }', "must increase and lie inside"),
        ("Slice", 'top: "b" slice_param { slice_point: 1 slice_point: 2 }', "needs 1 slice points"),
        ("Slice", 'top: "b" top: "c"', "cannot be cut into 3 equal parts"),
        ("Crop", 'bottom: "y" crop_param { axis: 2 offset: 5 }', "cannot crop 4 from 6 at offset 5"),
        ("Crop", 'bottom: "y" crop_param { axis: 1 offset: 1 offset: 1 }', "takes no offset, one, or 3"),
        ("Flatten", "flatten_param { axis: 3 end_axis: 1 }", "comes before"),
        ("Reshape", "reshape_param { shape { dim: 7 } }", "number of elements differs"),
        ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", "-1 once"),
        ("Reshape", "reshape_param { axis: 3 shape { dim: 6 dim: 0 } }", "does not have"),
        ("Permute", "permute_param { order: 0 order: 0 }", "each once"),
        ("Permute", "permute_param { order: 9 }", "each once"),
        ("Split", 'bottom: "y"', "has 2 bottoms, but needs 1"),
    ],
)
def test_mistakes_name_layer_and_line(kind, text, complaint, check_mistake):
    prototxt = (
        'input: "x" input: "y" '
        "input_shape { dim: 1 dim: 4 dim: 6 dim: 6 } input_shape { dim: 1 dim: 4 dim: 4 dim: 4 }\n"
        f'layer {{ name: "it" type: "{kind}" bottom: "x" top: "it" {text} }}'
    )
    check_mistake(prototxt, kind, 2, complaint)
