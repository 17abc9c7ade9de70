"""Foreign models mean what ONNX Runtime reads in them, in every backend, and their weights are numbers."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from spherecv.errors import BackendError, ModelFileError
from spherecv.runtime import Session
from spherecv.runtime import normalise as module
from spherecv.runtime.normalise import normalise, normalised
from spherecv.runtime.variants import without_prelu

pytestmark = pytest.mark.runtime
BACKENDS = [name for name in ("opencv", "onnxruntime", "openvino") if name != "openvino" or find_spec("openvino")]
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "normalised"


def model(nodes, shape, weights=(), *, opset: int = 13, ir: int = 8, listed: bool = False) -> bytes:
    """A model from `x` to `y`; `listed` weights are among the inputs."""
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if listed:
        inputs += [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in tensors]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    return onnx.shape_inference.infer_shapes(made).SerializeToString()


def expected(blob: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def operators(blob: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(blob).graph.node]


def weights(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def one(kind: str, *inputs: str, **settings) -> list:
    return [helper.make_node(kind, ["x", *inputs], ["y"], **settings)]


PADS = ("SAME_UPPER", "SAME_LOWER", "VALID")
CASES = {
    **{f"{kind} {axes}-D {pad} of {size}": (one(kind, kernel_shape=[3] * axes, strides=[2] * axes, auto_pad=pad),
                                            [1, 2, *[size] * axes], (), 13)
       for kind in ("MaxPool", "AveragePool", "LpPool") for axes in (1, 2, 3) for pad in PADS for size in (6, 7)},
    **{f"Conv {axes}-D {pad} of {size}": (one("Conv", "w", strides=[2] * axes, auto_pad=pad),
                                          [1, 2, *[size] * axes], [("w", weights(3, 2, *[3] * axes))], 13)
       for axes in (1, 2, 3) for pad in PADS for size in (6, 7)},
    "Conv dilated": (one("Conv", "w", dilations=[2, 2], auto_pad="VALID"), [1, 2, 7, 7],
                     [("w", weights(3, 2, 2, 2))], 13),
    **{f"ConvTranspose {pad} {kernel}/{step}": (one("ConvTranspose", "w", strides=[step] * 2, auto_pad=pad),
                                                [1, 2, 5, 5], [("w", weights(2, 3, kernel, kernel))], 13)
       for pad in PADS for kernel, step in ((3, 2), (4, 2), (2, 1), (3, 3))},
    "ConvTranspose 1-D": (one("ConvTranspose", "w", strides=[2], auto_pad="SAME_LOWER"), [1, 2, 5],
                          [("w", weights(2, 3, 3))], 13),
    "MaxPool dilated": (one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), [1, 2, 7, 7], (), 13),
    "MaxPool dilated SAME": (one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2], auto_pad="SAME_UPPER"),
                             [1, 2, 7, 7], (), 13),
    "AveragePool counts": (one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER",
                               count_include_pad=1), [1, 2, 6, 6], (), 13),
    "GlobalLpPool": (one("GlobalLpPool", p=2), [1, 2, 6, 6], (), 13),
    **{f"{kind} axis {axis} opset {opset} of {len(shape)}": (one(kind, axis=axis), shape, (), opset)
       for kind in ("Softmax", "LogSoftmax", "Hardmax") for opset in (11, 13)
       for axis, shape in ((1, [1, 2, 5, 5]), (2, [1, 2, 5, 5]), (-1, [1, 2, 5, 5]), (0, [2, 3]), (1, [2, 3]),
                           (1, [1, 4, 1, 1]), (1, [2, 3, 4]))},
    **{f"PRelu {list(slope)} of {len(shape)}": (one("PRelu", "w"), shape, [("w", weights(*slope))], 13)
       for slope, shape in (((4,), [1, 4, 4, 4]), ((5,), [1, 4, 3, 5]), ((1,), [1, 4, 4, 4]), ((4, 1, 1), [1, 4, 4, 4]),
                            ((4, 5), [1, 3, 4, 5]), ((1, 4, 1, 1), [1, 4, 4, 4]), ((4,), [1, 4]), ((3,), [2, 3, 3]))},
    "PRelu scalar": (one("PRelu", "w"), [1, 4, 4, 4], [("w", np.float32(0.25))], 13),
    "Tanh": (one("Tanh"), [1, 2, 4, 4], (), 13),
    "Tanh of opset 9": (one("Tanh"), [1, 2, 4, 4], (), 9),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_meaning_stays_and_every_backend_has_it_or_refuses(case: str) -> None:
    nodes, shape, tensors, opset = CASES[case]
    blob = model(nodes, shape, tensors, opset=opset, ir=8 if opset > 11 else 6)
    x = RANDOM.standard_normal(shape).astype(np.float32)
    if case.startswith("Tanh"):
        x *= 60
    wanted = expected(blob, x)
    np.testing.assert_allclose(expected(normalise(blob, "it"), x), wanted, rtol=1e-5, atol=1e-6)
    for backend in BACKENDS:
        try:
            got = Session(blob, backend=backend).run(x)["y"]
        except BackendError:
            if backend == "onnxruntime":
                raise
            continue
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4, err_msg=backend)


def test_padding_is_written_out() -> None:
    nodes = one("Conv", "w", strides=[2, 2], auto_pad="SAME_UPPER")
    plain = normalise(model(nodes, [1, 2, 6, 6], [("w", weights(3, 2, 3, 3))]), "it")
    (node,) = onnx.load_from_string(plain).graph.node
    assert {one.name: list(one.ints) for one in node.attribute if one.name != "strides"} == {"pads": [0, 0, 1, 1]}


def test_an_open_size_leaves_padding_as_it_is() -> None:
    nodes = one("Conv", "w", strides=[2, 2], auto_pad="SAME_UPPER")
    blob = model(nodes, [1, 2, "h", 6], [("w", weights(3, 2, 3, 3))])
    assert b"auto_pad" in normalise(blob, "it")


def _norm(name: str, given: str, gives: str, channels: int) -> tuple:
    node = helper.make_node("BatchNormalization", [given, *(f"{name}{i}" for i in range(4))], [gives])
    values = [weights(channels), weights(channels), weights(channels), RANDOM.uniform(0.5, 2, channels).astype("f4")]
    return node, [(f"{name}{i}", part) for i, part in enumerate(values)]


def _embedder(*, bias: bool, transposed: int) -> bytes:
    """Convolution, norm, slope, norm, dropout, flatten, product, norm: what MobileFaceNets end in."""
    first, a = _norm("a", "c", "n", 4)
    second, b = _norm("b", "r", "m", 4)
    third, c = _norm("c", "g", "y", 5)
    dense = weights(5, 64) if transposed else weights(64, 5)
    nodes = [
        helper.make_node("Conv", ["x", "w", *(["k"] if bias else [])], ["c"]), first,
        helper.make_node("PRelu", ["n", "s"], ["r"]), second, helper.make_node("Dropout", ["m"], ["d"]),
        helper.make_node("Flatten", ["d"], ["f"]), helper.make_node("Gemm", ["f", "v", "u"], ["g"], transB=transposed),
        third,
    ]  # fmt: skip
    held = [("w", weights(4, 3, 3, 3)), ("k", weights(4)), ("s", weights(4, 1, 1)), ("v", dense), ("u", weights(5))]
    return model(nodes, ["n", 3, 6, 6], [*(held if bias else [held[0], *held[2:]]), *a, *b, *c], opset=11, ir=6,
                 listed=True)  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
def test_norms_are_folded_exactly(bias: bool, transposed: int) -> None:
    blob = _embedder(bias=bias, transposed=transposed)
    plain = normalise(blob, "it")
    assert operators(plain) == ["Conv", "PRelu", "Dropout", "Flatten", "Gemm"]
    assert len(onnx.load_from_string(plain).graph.input) == 1
    onnx.checker.check_model(onnx.load_from_string(plain))
    x = weights(3, 3, 6, 6)
    wanted = expected(blob, x)
    scale = np.abs(wanted).max()
    assert np.abs(expected(plain, x) - wanted).max() < 1e-5 * scale
    assert np.abs(expected(without_prelu(plain), x) - wanted).max() < 1e-5 * scale
    assert "PRelu" not in operators(without_prelu(plain))
    for backend in BACKENDS:
        assert np.abs(Session(blob, backend=backend).run(x)["y"] - wanted).max() < 1e-4 * scale


def test_a_norm_that_others_read_past_is_not_folded() -> None:
    norm, held = _norm("a", "c", "n", 4)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm, helper.make_node("Add", ["c", "n"], ["y"])]
    blob = model(nodes, [1, 3, 6, 6], [("w", weights(4, 3, 3, 3)), *held])
    x = weights(1, 3, 6, 6)
    assert operators(normalise(blob, "it")) == ["Conv", "BatchNormalization", "Add"]
    np.testing.assert_allclose(expected(normalise(blob, "it"), x), expected(blob, x), rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["w", "k", "a0", "a1", "a2", "a3", "s", "v", "u"])
def test_weights_that_are_no_numbers_are_an_error(which: str, value: float) -> None:
    net = onnx.load_from_string(_embedder(bias=True, transposed=1))
    for tensor in net.graph.initializer:
        if tensor.name == which:
            values = numpy_helper.to_array(tensor).copy()
            values.flat[-1] = value
            tensor.CopyFrom(numpy_helper.from_array(values, which))
    for backend in BACKENDS:
        with pytest.raises(ModelFileError, match=f"weights '{which}' that are NaN or infinite"):
            Session(net.SerializeToString(), backend=backend)


@pytest.mark.parametrize("kind", ["value", "value_float", "value_floats"])
def test_a_constant_that_is_no_number_is_an_error(kind: str) -> None:
    array = numpy_helper.from_array(np.array([1, np.nan], np.float32))
    given = {"value": array, "value_float": float("nan"), "value_floats": [1.0, float("nan")]}[kind]
    nodes = [helper.make_node("Constant", [], ["k"], **{kind: given}), helper.make_node("Add", ["x", "k"], ["y"])]
    with pytest.raises(ModelFileError, match="weights 'k' that are NaN"):
        Session(model(nodes, [3, 2]))


def test_an_infinite_bound_is_none() -> None:
    nodes = one("Clip", "low", "high")
    blob = model(nodes, [2, 3], [("low", np.float32(0)), ("high", np.float32(np.inf))])
    x = weights(2, 3)
    np.testing.assert_array_equal(Session(blob, backend="onnxruntime").run(x)["y"], np.maximum(x, 0))


def test_what_was_normalised_is_kept_and_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = _embedder(bias=True, transposed=1)
    asked = []
    real = module.normalise
    monkeypatch.setattr(module, "normalise", lambda *given: asked.append(1) or real(*given))
    first, digest = normalised(blob, "it")
    assert (normalised(blob, "it"), len(asked)) == ((first, digest), 1)
    (entry,) = cache.iterdir()
    data = bytearray(entry.read_bytes())
    data[-1] ^= 1
    entry.write_bytes(bytes(data))
    assert (normalised(blob, "it"), len(asked)) == ((first, digest), 2)
    monkeypatch.setattr(module, "_MOST_ENTRIES", 1)
    normalised(model(one("Relu"), [1, 2]), "it")
    assert len(list(cache.iterdir())) == 1


def test_a_graph_within_the_graph_is_left_alone() -> None:
    empty = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["t"])], "b", [], [empty])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    blob = model(nodes, [1, 2], [("c", np.bool_(True))])
    assert normalise(blob, "it") == blob


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_sizes_that_are_rounded_up_mean_one_thing(kind: str, backend: str) -> None:
    """Windows that reach beyond the padding count nothing there; none starts beyond the image."""
    random = np.random.default_rng(0)
    for kernel, stride, pads, side, counted in product(
        (2, 3), (2, 3), ([0] * 4, [1] * 4, [0, 0, 1, 1], [1, 0, 0, 1]), (5, 6, 7), (0, 1)
    ):
        settings = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "ceil_mode": 1}
        settings |= {"count_include_pad": counted} if kind == "AveragePool" else {}
        x = (random.standard_normal((1, 2, side, side + 1)) + 3).astype(np.float32)
        blob = model(one(kind, **settings), [1, 2, side, side + 1])
        wanted = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        got = Session(blob, backend=backend).run(x)["y"]
        np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=str(settings))


@pytest.mark.parametrize("backend", BACKENDS)
def test_softplus_of_large_numbers(backend: str) -> None:
    x = np.linspace(-200, 200, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    got = Session(model(one("Softplus"), [1, 2, 4, 4]), backend=backend).run(x)["y"]
    np.testing.assert_allclose(got, np.logaddexp(x.astype(np.float64), 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_elu_between_a_division_and_a_product(backend: str) -> None:
    """OpenCV 5.0 takes the three for a Celu and ends the process."""
    nodes = [
        helper.make_node("Div", ["x", "two"], ["d"]),
        helper.make_node("Elu", ["d"], ["e"], alpha=0.5),
        helper.make_node("Mul", ["e", "two"], ["y"]),
    ]
    x = weights(1, 2, 4, 4)
    blob = model(nodes, [1, 2, 4, 4], [("two", np.float32(2))])
    half = x / 2
    wanted = 2 * np.where(half > 0, half, 0.5 * np.expm1(half))
    np.testing.assert_allclose(Session(blob, backend=backend).run(x)["y"], wanted, atol=1e-6)


@pytest.mark.parametrize("kinds", [("Max", "Log"), ("Add", "Reciprocal")])
def test_a_tiny_number_that_keeps_a_net_from_infinity_stays(kinds: tuple[str, str]) -> None:
    nodes = [helper.make_node(kinds[0], ["x", "least"], ["a"]), helper.make_node(kinds[1], ["a"], ["y"])]
    blob, x = model(nodes, [1, 2], [("least", np.float32([1e-37]))]), np.float32([[0, 3]])
    wanted = expected(blob, x)
    assert np.isfinite(wanted).all()
    np.testing.assert_array_equal(Session(blob, backend="onnxruntime").run(x)["y"], wanted)
    np.testing.assert_array_equal(expected(without_prelu(blob), x), wanted)
