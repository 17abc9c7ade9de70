from __future__ import annotations

import numpy as np
import onnx

from spherecv.caffe.onnx_graph import OnnxGraph


def _graph(graph: OnnxGraph, outputs: dict[str, list[int]]) -> onnx.GraphProto:
    model = onnx.load_from_string(graph.serialize("g", {"x": [2], "unused": [2]}, outputs, "1"))
    onnx.checker.check_model(model, full_check=True)
    return model.graph


def test_what_no_output_needs_is_left_out():
    graph = OnnxGraph()
    graph.begin("layer")
    kept = graph.node("Add", ["x", graph.constant(np.ones(2, np.float32), "one")])
    graph.node("Mul", ["x", graph.constant(np.ones(2, np.float32), "two")])
    graph.name_output(kept, "y")
    written = _graph(graph, {"y": [2]})
    assert [node.op_type for node in written.node] == ["Add"]
    assert [value.name for value in written.input] == ["x"]
    assert [tensor.name for tensor in written.initializer] == ["layer/one"]


def test_a_value_of_two_names_is_computed_once():
    graph = OnnxGraph()
    graph.begin("layer")
    value = graph.node("Relu", ["x"])
    graph.name_output(value, "y")
    graph.name_output(value, "z")
    written = _graph(graph, {"y": [2], "z": [2]})
    assert [(node.op_type, list(node.input), list(node.output)) for node in written.node] == [
        ("Relu", ["x"], ["y"]),
        ("Identity", ["y"], ["z"]),
    ]


def test_names_are_never_given_twice():
    graph = OnnxGraph()
    graph.reserve(["a/Relu", "x", "y"])
    graph.begin("a")
    value = "x"
    for _ in range(3):
        value = graph.node("Relu", [value])
    graph.name_output(value, "y")
    names = [name for node in _graph(graph, {"y": [2]}).node for name in node.output]
    assert names == ["a/Relu_2", "a/Relu_3", "y"]


def test_constants_keep_type_and_order():
    graph = OnnxGraph()
    graph.begin("l")
    columns = np.arange(6, dtype=np.float32).reshape(2, 3).T
    name = graph.reshape(graph.constant(columns, "c"), [2, 3])
    graph.name_output(graph.node("MatMul", ["x", name]), "y")
    written = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in _graph(graph, {"y": [3]}).initializer}
    np.testing.assert_array_equal(written["l/c"], columns)
    assert written["l/shape"].tolist() == [2, 3]
    assert written["l/shape"].dtype == np.int64
