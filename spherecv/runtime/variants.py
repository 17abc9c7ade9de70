"""Forms of a model that one runtime computes faster, and the others do not."""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTISED_KEY = "spherecv.int8"
"""Key of the metadata that tells how a model was quantised, in JSON: `calibration` as the caller described it, and
`ranges`, the least and largest value of every tensor that was quantised."""

_INTEGER = ("Conv", "Gemm", "MatMul", "DequantizeLinear")


def chained(model: bytes) -> bytes:
    """Take the quantisers out of a model that stand between a product and what OpenVINO computes in its last step.

    ONNX Runtime wants the output of a convolution quantised, or it computes the convolution in float32. OpenVINO wants
    to see convolution, PReLU and sum as one step that ends in the next one's quantiser, and is 2 to 6 times as fast
    then. What is left out only rounded.

    Parameters
    ----------
    model : bytes
        What `spherecv.runtime.quantise.quantise` returned.
    """
    import onnx

    net = onnx.load_from_string(model)
    graph = net.graph
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    source = {}
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if maker is not None and maker.op_type == "QuantizeLinear" and maker.input[0] not in constants:
            source[node.output[0]] = maker.input[0]
    for node in graph.node:
        if node.op_type not in _INTEGER:
            for place, name in enumerate(node.input):
                node.input[place] = source.get(name, name)
    _drop_unread(graph)
    return bytes(net.SerializeToString())


def without_prelu(model: bytes) -> bytes:
    """Write PRelu as slope x + (1 - slope) Relu(x), of which ONNX Runtime computes each part several times faster.

    Half of the time of a MobileFaceNet is its PRelu, which works number by number on one thread. Slopes that are no
    constants stay.
    """
    import onnx
    from onnx import helper, numpy_helper

    net = onnx.load_from_string(model)
    graph = net.graph
    slopes = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    nodes = []
    for node in graph.node:
        if node.op_type != "PRelu" or node.input[1] not in slopes:
            nodes.append(node)
            continue
        given, name = node.input[0], node.output[0]
        slope = numpy_helper.to_array(slopes[node.input[1]])
        for part, values in (("slope", slope), ("rest", np.float32(1) - slope)):
            graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), f"{name}/{part}"))
        nodes += [
            helper.make_node("Relu", [given], [f"{name}/above"]),
            helper.make_node("Mul", [f"{name}/above", f"{name}/rest"], [f"{name}/more"]),
            helper.make_node("Mul", [given, f"{name}/slope"], [f"{name}/sloped"]),
            helper.make_node("Add", [f"{name}/sloped", f"{name}/more"], [name]),
        ]
    _put(graph, nodes)
    return bytes(net.SerializeToString())


def _drop_unread(graph: Any) -> None:
    """Remove nodes that nothing reads any more."""
    ends = {port.name for port in graph.output}
    while True:
        read = ends | {name for node in graph.node for name in node.input}
        kept = [node for node in graph.node if any(name in read for name in node.output)]
        if len(kept) == len(graph.node):
            return
        _put(graph, kept)


def _put(graph: Any, nodes: list[Any]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    graph.ClearField("node")
    graph.node.extend(copies)
