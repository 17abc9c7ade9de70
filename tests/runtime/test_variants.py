"""Forms of a model for one runtime compute what the model computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from spherecv.runtime.normalise import normalise
from spherecv.runtime.variants import without_prelu

pytestmark = pytest.mark.runtime
RANDOM = np.random.default_rng(3)


def model(nodes: list, outputs: tuple[str, ...] = ("y",), **weights: np.ndarray) -> bytes:
    kinds = {name: array.dtype if array.dtype.kind in "iu" else np.float32 for name, array in weights.items()}
    tensors = [numpy_helper.from_array(np.asarray(array, kinds[name]), name) for name, array in weights.items()]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])]
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
    made = helper.make_model(
        helper.make_graph(nodes, "g", given, gives, tensors), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def answers(blob: bytes, x: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"]).run(None, {"x": x})


def operators(blob: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(blob).graph.node]


def assert_same(blob: bytes, x: np.ndarray) -> list[str]:
    """The operators of the other form, which is a valid model and gives the same numbers."""
    other = without_prelu(blob)
    onnx.checker.check_model(onnx.load_from_string(other))
    for got, wanted in zip(answers(other, x), answers(blob, x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    return operators(other)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def first_stage(slope: np.ndarray, *, groups: int = 1, **pool: list[int]) -> tuple[list, dict[str, np.ndarray]]:
    """Convolution, PRelu and pooling, as MTCNN's nets begin, and the layer after them."""
    channels = len(slope)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], group=groups),
        helper.make_node("PRelu", ["c", "s"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], **pool),
        helper.make_node("Conv", ["p", "v"], ["y"]),
    ]
    weights = {"w": normal(channels, 3 // groups, 3, 3), "b": normal(channels), "v": normal(4, channels, 1, 1)}
    return nodes, weights | {"s": np.reshape(slope, (-1, 1, 1))}


@given(
    st.lists(st.sampled_from([-1.3, -1.0, -0.4, -0.0, 0.0, 0.25, 1.0, 1.3]), min_size=1, max_size=18),
    st.integers(2, 3), st.integers(1, 3), st.integers(0, 1), st.integers(7, 12), st.integers(7, 12),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_largest_of_what_is_rectified(slopes, kernel, stride, pad, height, width) -> None:
    """Slopes of both signs and beyond 1; windows that overlap, leave gaps, and are cut off at the edge."""
    pool = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [0, 0, pad, pad]}
    nodes, weights = first_stage(np.array(slopes), **pool)
    there = assert_same(model(nodes, **weights), normal(2, 3, height, width))
    assert there.index("MaxPool") == 1  # before what rectifies
    assert "PRelu" not in there


@pytest.mark.parametrize("reader", ["graph", "node"])
def test_what_others_read_too_stays_before_the_pooling(reader: str) -> None:
    nodes, weights = first_stage(np.array([-0.5, 0.5, 2.0]), kernel_shape=[2, 2])
    outputs = ("y", "r") if reader == "graph" else ("y", "z")
    if reader == "node":
        nodes.append(helper.make_node("Neg", ["c"], ["z"]))
    there = assert_same(model(nodes, outputs, **weights), normal(1, 3, 9, 8))
    assert there.index("MaxPool") > there.index("Relu")


def test_a_grouped_convolution_keeps_its_channels() -> None:
    nodes, weights = first_stage(np.array([-0.5, 0.5, 2.0]), groups=3, kernel_shape=[2, 2])
    there = assert_same(model(nodes, **weights), normal(1, 3, 9, 8))
    assert there.index("MaxPool") > there.index("Relu")


@pytest.mark.parametrize(("channels", "axis", "groups", "kind"), [
    (2, 1, 1, "Sigmoid"), (2, 3, 1, "Softmax"), (3, 1, 1, "Softmax"), (2, 1, 2, "Softmax"),
])  # fmt: skip
def test_softmax_of_two_channels_is_a_sigmoid(channels: int, axis: int, groups: int, kind: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "v", "u"], ["b"], group=groups),
        helper.make_node("Softmax", ["b"], ["y"], axis=axis),
    ]
    weights = {"w": normal(4, 3, 3, 3), "v": normal(channels, 4 // groups, 1, 1), "u": normal(channels)}
    assert kind in assert_same(model(nodes, **weights), normal(2, 3, 6, 7))


def test_weights_that_are_all_but_nothing_become_nothing() -> None:
    """They are a hundred times as slow as others, and change no answer."""
    weights = {"w": normal(8, 3, 3, 3), "b": normal(8), "s": np.full((8, 1, 1), 0.25)}
    weights["w"][2:5] *= np.float32(1e-38)
    weights["b"][2:5] = 1e-41
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("PRelu", ["c", "s"], ["y"])]
    plain = model(nodes, **weights)
    assert "PRelu" not in assert_same(plain, normal(2, 3, 6, 7))
    for form in (without_prelu(plain), normalise(plain, "a model")):
        held = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(form).graph.initializer}
        for name in ("w", "b"):
            assert (held[name][2:5] == 0).all()
            np.testing.assert_array_equal(held[name][[0, 1, 5, 6, 7]], np.float32(weights[name])[[0, 1, 5, 6, 7]])


@pytest.mark.parametrize(("slope", "last"), [((-0.5, 0.25, 1.0), "Relu"), ((-0.5, 0.25, 1.5), "Mul")])
def test_the_rectifier_ends_a_product_where_slopes_allow_it(slope: tuple[float, ...], last: str) -> None:
    nodes = [helper.make_node("PRelu", ["x", "s"], ["y"])]
    blob = model(nodes, s=np.reshape(slope, (-1, 1, 1)))
    assert_same(blob, normal(2, 3, 6, 7))
    other = onnx.load_from_string(without_prelu(blob)).graph.node
    makers = {name: node.op_type for node in other for name in node.output}
    assert makers[other[-1].input[1]] == last


def quantised(slope: np.ndarray, *, kind: type = np.uint8, reader: str | None = None) -> bytes:
    """PRelu between a DequantizeLinear and a QuantizeLinear, in a net of bytes."""
    low = 128 if kind is np.int8 else 0
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s1", "z1"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s1", "z1"], ["d"]),
        helper.make_node("PRelu", ["d", "slope"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s2", "z2"], ["t"]),
        helper.make_node("DequantizeLinear", ["t", "s2", "z2"], ["y"]),
    ]
    outputs = ("y",)
    if reader:
        nodes.append(helper.make_node(reader, ["r"], ["other"]))
        outputs = ("y", "other")
    zeros = {"z1": np.array(117 - low, kind), "z2": np.array(60 - low, kind)}
    return model(nodes, outputs, s1=np.array(0.03), s2=np.array(0.021), slope=slope, **zeros)


@given(st.lists(st.floats(-1.5, 1, width=32), min_size=3, max_size=3), st.integers(1, 4), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_prelu_of_integers_stays_in_integers(slopes, batch, side) -> None:
    blob, x = quantised(np.reshape(np.float32(slopes), (3, 1, 1))), 2 * normal(batch, 3, side, side + 2)
    other = without_prelu(blob)
    onnx.checker.check_model(onnx.load_from_string(other))
    assert operators(other) == ["QuantizeLinear", "QLinearConv", "QLinearConv", "Max", "DequantizeLinear"]
    ((got,), (wanted,)) = answers(other, x), answers(blob, x)
    steps = np.abs(got - wanted) / 0.021
    assert steps.max() < 1.001  # where slope x lies in the middle between two steps, either may be taken
    assert (steps > 0.5).mean() < 0.02


@pytest.mark.parametrize(("slope", "settings"), [
    ((0.25, 0.5, 1.5), {}), ((0.25,), {}), ((0.25, 0.5, 1.0), {"kind": np.int8}),
    ((0.25, 0.5, 1.0), {"reader": "Neg"}),
])  # fmt: skip
def test_other_prelus_between_quantisers_leave_the_integers(slope, settings) -> None:
    blob, x = quantised(np.reshape(np.float32(slope), (-1, 1, 1)), **settings), 2 * normal(2, 3, 6, 7)
    other = without_prelu(blob)
    assert not {"QLinearConv", "PRelu"} & set(operators(other))
    assert np.abs(answers(other, x)[0] - answers(blob, x)[0]).max() < 0.0211
