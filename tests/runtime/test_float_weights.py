"""Quantised nets with weights in float32, as OpenCV gets them, compute what the model says."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from spherecv.errors import BackendError
from spherecv.runtime import Session
from spherecv.runtime.variants import with_float_weights

pytestmark = pytest.mark.runtime
BACKENDS = [name for name in ("opencv", "onnxruntime", "openvino") if name != "openvino" or find_spec("openvino")]
STEP = 24 / 255


def model(nodes, shape, weights) -> bytes:
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights]
    ports = [
        helper.make_tensor_value_info(*port)
        for port in (("x", TensorProto.FLOAT, shape), ("y", TensorProto.FLOAT, None))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made).SerializeToString()


def qdq(channels: int, kernel: int, group: int, per_channel: bool, zero: int, stride: int, shape: list[int]) -> bytes:
    """A convolution in QDQ form."""
    random = np.random.default_rng(kernel + zero)
    values = random.standard_normal((channels, shape[1] // group, kernel, kernel)) / 4
    scale = np.abs(values).reshape(channels, -1).max(1) if per_channel else np.abs(values).max()
    scale = (scale / 127).astype(np.float32)
    whole = np.rint(values / (scale.reshape(-1, 1, 1, 1) if per_channel else scale)).astype(np.int8)
    weights = [("xs", np.float32(6 / 255)), ("xz", np.uint8(zero)), ("ys", np.float32(STEP)), ("yz", np.uint8(128))]
    weights += [("q", whole), ("s", scale), ("z", np.zeros(channels, np.int8) if per_channel else np.int8(0))]
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        make("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        make("DequantizeLinear", ["q", "s", "z"], ["w"], **({"axis": 0} if per_channel else {})),
        make("Conv", ["xd", "w"], ["c"], group=group, pads=[kernel // 2] * 4, strides=[stride] * 2),
        make("QuantizeLinear", ["c", "ys", "yz"], ["yq"]),
        make("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    return model(nodes, shape, weights)


def integers(kind: str) -> tuple[bytes, list[int]]:
    """A product of integers."""
    random = np.random.default_rng(3)
    convolution = kind == "QLinearConv"
    shape = [1, 16, 5, 5] if convolution else [3, 16]
    values = random.integers(-127, 128, (8, 16, 1, 1) if convolution else (16, 8)).astype(np.int8)
    scale = np.linspace(0.005, 0.02, 8, dtype=np.float32)
    weights = [("xs", np.float32(6 / 255)), ("xz", np.uint8(3)), ("ys", np.float32(STEP)), ("yz", np.uint8(128))]
    weights += [("q", values), ("s", scale), ("z", np.zeros(8, np.int8))]
    inputs = ["xq", "xs", "xz", "q", "s", "z", "ys", "yz"]
    if convolution:
        weights.append(("b", random.integers(-4000, 4000, 8).astype(np.int32)))
        inputs.append("b")
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        make(kind, inputs, ["yq"]),
        make("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    return model(nodes, shape, weights), shape


CASES = {
    f"{channels} of {kernel}x{kernel}/{stride} in {group} on {side}": (
        qdq(channels, kernel, group, kernel == 1, zero, stride, [1, 16, side, side]),
        [1, 16, side, side],
    )
    for channels, kernel, group, zero, stride, side in (
        (16, 1, 1, 0, 1, 7), (24, 1, 1, 128, 1, 5), (8, 1, 1, 3, 2, 9), (16, 1, 16, 0, 1, 11), (16, 1, 1, 128, 1, 3),
        (16, 3, 1, 128, 1, 7), (16, 3, 16, 0, 2, 9), (16, 3, 1, 114, 1, 13),
    )
} | {kind: integers(kind) for kind in ("QLinearConv", "QLinearMatMul")}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_quantised_nets_give_onnx_runtimes_numbers(case: str, backend: str) -> None:
    blob, shape = CASES[case]
    x = np.random.default_rng(1).uniform(-1, 6, shape).astype(np.float32)
    wanted = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    try:
        got = Session(blob, backend=backend).run(x)["y"]
    except BackendError:  # OpenVINO reads no QLinear operators with weights by channel
        assert (backend, case[:7]) == ("openvino", "QLinear")
        return
    assert np.abs(got - wanted).max() <= 1.01 * STEP
    assert (np.abs(got - wanted) > STEP / 2).mean() < 0.02


@pytest.mark.parametrize("case", CASES)
def test_float_weights_leave_the_roundings(case: str) -> None:
    blob, shape = CASES[case]
    x = np.random.default_rng(1).uniform(-1, 6, shape).astype(np.float32)
    made = with_float_weights(blob)
    onnx.checker.check_model(made)
    kinds = [node.op_type for node in onnx.load_from_string(made).graph.node]
    assert {"QLinearMatMul": "MatMul"}.get(case, "Conv") in kinds
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 2
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    one, other = (
        onnxruntime.InferenceSession(each, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for each in (blob, made)
    )
    assert (np.abs(one - other) > STEP / 2).mean() < 0.02
