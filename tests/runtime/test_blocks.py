"""Weights in blocks, resolved: against ONNX's own reference evaluation, on every backend."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from spherecv.errors import ModelFileError
from spherecv.runtime import Session
from spherecv.runtime.blocks import resolve_blocks


def _model(*, block: int = 4, axis: int = 1, zero_point: bool = True, constant: bool = True) -> onnx.ModelProto:
    """A convolution whose weight (5, 3, 3, 3) is kept as (5, 27) in blocks, and an inner product's kept as it is."""
    rng = np.random.default_rng(8)
    weight = rng.integers(-128, 128, (5, 27)).astype(np.int8)
    blocks = (5, -(-27 // block)) if axis == 1 else (-(-5 // block), 27)
    scale = rng.uniform(0.01, 0.1, blocks).astype(np.float32)
    zeros = rng.integers(-20, 20, blocks).astype(np.int8)
    tensors = [
        *([numpy_helper.from_array(weight, "w_int")] if constant else []),
        numpy_helper.from_array(scale, "w_scale"),
        numpy_helper.from_array(zeros, "w_zero"),
        numpy_helper.from_array(np.array([5, 3, 3, 3]), "shape"),
    ]
    names = ["w_int", "w_scale", *(["w_zero"] if zero_point else [])]
    nodes = [
        helper.make_node("DequantizeLinear", names, ["w_flat"], axis=axis, block_size=block),
        helper.make_node("Reshape", ["w_flat", "shape"], ["w"]),
        helper.make_node("Conv", ["data", "w"], ["out"]),
    ]
    ports = [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 8, 8])]
    if not constant:
        ports.append(helper.make_tensor_value_info("w_int", TensorProto.INT8, [5, 27]))
    answer = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 5, 6, 6])
    graph = helper.make_graph(nodes, "blocks", ports, [answer], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("backend", ["opencv", "onnxruntime", "openvino"])
def test_a_session_computes_what_the_blocks_mean(backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    model = _model(block=9)
    data = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"data": data})
    found = Session(model.SerializeToString(), backend=backend).run(data)["out"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("block", "axis"), [(9, 1), (3, -1), (27, 1), (5, 0), (1, 0)])
@pytest.mark.parametrize("zero_point", [True, False])
def test_every_axis_and_size_of_block(block: int, axis: int, zero_point: bool) -> None:
    model = _model(block=block, axis=axis % 2, zero_point=zero_point)
    model.graph.node[0].attribute[0].i = axis
    data = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(_model(block=block, axis=axis % 2, zero_point=zero_point)).run(
        None, {"data": data}
    )
    plain = onnx.load_from_string(resolve_blocks(model.SerializeToString(), "the model"))
    onnx.checker.check_model(plain)
    assert [node.op_type for node in plain.graph.node] == ["Conv"]
    (found,) = ReferenceEvaluator(plain).run(None, {"data": data})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_inputs_that_stood_for_the_weights_go() -> None:
    model = _model(block=9)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [5, 3, 3, 3]))
    assert list(Session(model.SerializeToString()).inputs) == ["data"]


def test_blocks_that_cannot_be_resolved_are_refused() -> None:
    with pytest.raises(ModelFileError, match="blocks of 'w_int', which is no constant"):
        resolve_blocks(_model(constant=False).SerializeToString(), "the model")
    wrong = _model(block=9)
    wrong.graph.node[0].attribute[1].i = 7
    with pytest.raises(ModelFileError, match=r"scales of shape \(5, 3\) do not fit blocks of 7 along axis 1"):
        resolve_blocks(wrong.SerializeToString(), "the model")
    with pytest.raises(ModelFileError, match="is not a whole ONNX model"):
        resolve_blocks(b"\xff\xff", "the model")
