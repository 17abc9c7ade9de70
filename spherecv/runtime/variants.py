"""Forms of a model that one runtime computes faster, and the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

QUANTISED_KEY = "spherecv.int8"
"""Key of the metadata that tells how a model was quantised, in JSON: `calibration` as the caller described it, and
`ranges`, the least and largest value of every tensor that was quantised."""

_BLOCK = 16
"""Channels that ONNX Runtime computes side by side, with AVX-512."""
_FEW_NUMBERS = 32
"""Numbers under a convolution's kernel up to which a channel costs less than a pass over what it gives."""
_TINY = 1e-30
"""A weight below which, times any number that a net holds, nothing is left in a sum of float32."""
_SUMMING = ("Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu")
"""What weights of no size do nothing to. Where a net divides or takes a logarithm, they keep it from infinity."""
_AROUND = ["DequantizeLinear", "QuantizeLinear"]
_PRODUCTS = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul"}
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


def with_float_weights(model: bytes) -> bytes:
    """Write quantised weights as the float32 that they stand for, and products of integers as products of those.

    OpenCV 5.0's new engine computes quantised 1x1 convolutions wrong in the last places of a row, and QLinearConv ends
    the process. Activations are rounded where they were; int8 is no faster there anyway.
    """
    import onnx
    from onnx import helper, numpy_helper

    net = onnx.load_from_string(model)
    graph = net.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def constant(name: str, values: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    nodes = []
    for node in graph.node:
        given, name = list(node.input), node.output[0]
        if node.op_type == "DequantizeLinear" and all(one in constants for one in given):
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            constant(name, _dequantised([constants[one] for one in given], axis))
        elif node.op_type in _PRODUCTS and given[3] in constants and given[4] in constants and given[5] in constants:
            axis = 0 if node.op_type == "QLinearConv" else -1
            weights = _dequantised([constants[one] for one in given[3:6]], axis)
            inputs = [f"{name}/input", constant(f"{name}/weights", weights)]
            if given[8:]:
                inputs.append(constant(f"{name}/bias", constants[given[8]] * constants[given[1]] * constants[given[4]]))
            product = helper.make_node(_PRODUCTS[node.op_type], inputs, [f"{name}/product"])
            product.attribute.extend(node.attribute)
            nodes += [
                helper.make_node("DequantizeLinear", given[:3], inputs[:1]),
                product,
                helper.make_node("QuantizeLinear", [f"{name}/product", *given[6:8]], [name]),
            ]
        else:
            nodes.append(node)
    _put(graph, nodes)
    return bytes(net.SerializeToString())


def _dequantised(parts: Sequence[NDArray[Any]], axis: int) -> NDArray[np.float32]:
    """What integers stand for, by their scale and zero point, one for all or one for each place along an axis."""
    values, scale, *zero = parts
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    shift = zero[0].astype(np.float32).reshape(shape if zero[0].size > 1 else ()) if zero else np.float32(0)
    return (values.astype(np.float32) - shift) * scale.astype(np.float32).reshape(shape)


def without_prelu(model: bytes) -> bytes:
    """Write PRelu as a rectifier and sums, and Softmax of two channels as Sigmoid, as ONNX Runtime computes them fast.

    Half of the time of a MobileFaceNet is its PRelu, and a third of that of MTCNN's first net, which work number by
    number on one thread; a Softmax over the channels of a map goes by way of its transpose. Of quantised nets PRelu is
    computed in integers. Slopes that are no constants stay. Weights that are all but 0 become 0.
    """
    import onnx

    net = onnx.load_from_string(model)
    drop_tiny(net.graph)
    rewriting = _Rewriting(net.graph)
    nodes = [part for node in list(net.graph.node) for part in rewriting.of(node)]
    _put(net.graph, nodes)
    _drop_unread(net.graph)
    read = {name for node in net.graph.node for name in node.input}
    _keep(net.graph, "initializer", [tensor for tensor in net.graph.initializer if tensor.name in read])
    return bytes(net.SerializeToString())


def drop_tiny(graph: Any) -> None:
    """Set weights to 0 that are too small to change a sum, and slow: each product of such a number takes 150 cycles.

    Weight decay leaves them behind where a channel died: 130,000 of MobileFaceNet-Caffe's million weights are below the
    least normal float32. ONNX Runtime computes that net 6 times as fast without them, and gives the same numbers.
    """
    import onnx
    from onnx import numpy_helper

    summed = {name for node in graph.node if node.op_type in _SUMMING for name in node.input}
    summed -= {name for node in graph.node if node.op_type not in _SUMMING for name in node.input}
    for tensor in graph.initializer:
        if tensor.name in summed and tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            tiny = (np.abs(values) < _TINY) & (values != 0)
            if tiny.any():
                tensor.CopyFrom(numpy_helper.from_array(np.where(tiny, np.float32(0), values), tensor.name))


class _Rewriting:
    """Nodes of one graph, each to be replaced by others that compute the same."""

    def __init__(self, graph: Any) -> None:
        import onnx

        self._graph = graph
        self._weights = {item.name: item for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT}
        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8)
        self._steps = {item.name: item for item in graph.initializer if item.data_type in kinds}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[Any]] = {port.name: [port] for port in graph.output}  # nobody's alone
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._done: list[str] = []

    def of(self, node: Any) -> list[Any]:
        """What is computed in place of a node."""
        if node.output[0] in self._done:
            return []
        if node.op_type == "PRelu" and node.input[1] in self._weights:
            slope = self._values(node.input[1])
            return self._in_integers(node, slope) or self._pooled(node, slope) or self._rectified(node, slope)
        if node.op_type == "Softmax":
            return self._sigmoid(node) or [node]
        return [node]

    def _rectified(self, node: Any, slope: FloatArray) -> list[Any]:
        """PRelu(x) = slope x + (1 - slope) Relu(x); up to a slope of 1, the rectifier goes into the product before."""
        given, name = node.input[0], node.output[0]
        if slope.max() <= 1:
            return [
                _node("Mul", [given, self._weight(f"{name}/rest", 1 - slope)], f"{name}/more"),
                _node("Relu", [f"{name}/more"], f"{name}/above"),
                _node("Mul", [given, self._weight(f"{name}/slope", slope)], f"{name}/sloped"),
                _node("Add", [f"{name}/sloped", f"{name}/above"], name),
            ]
        return [
            _node("Relu", [given], f"{name}/above"),
            _node("Mul", [f"{name}/above", self._weight(f"{name}/rest", 1 - slope)], f"{name}/more"),
            _node("Mul", [given, self._weight(f"{name}/slope", slope)], f"{name}/sloped"),
            _node("Add", [f"{name}/sloped", f"{name}/more"], name),
        ]

    def _in_integers(self, node: Any, slope: FloatArray) -> list[Any]:
        """PRelu between a DequantizeLinear and a QuantizeLinear, without leaving the integers.

        Up to a slope of 1, PRelu(x) is the larger of x and slope x. Rounding keeps the order, so the larger of both
        rounded is what would be rounded. Both are convolutions of one weight for each channel: 127, by a scale of
        slope / 127, which stands for the slope as exactly as float32 does.
        """
        before, (after, *others) = self._makers.get(node.input[0]), self._readers[node.output[0]]
        if before is None or others or [before.op_type, getattr(after, "op_type", "")] != _AROUND:
            return []
        steps = [*before.input[1:], *after.input[1:]]
        channels = slope.size
        held = all(self._is_step(name) for name in steps) and len(steps) == 4
        if not held or slope.shape != (channels, 1, 1) or channels == 1 or slope.max() > 1:
            return []
        name, zeros = node.output[0], np.zeros(channels, np.int8)
        self._done.append(after.output[0])
        nodes = []
        for part, gain in (("itself", np.ones(channels, np.float32)), ("sloped", slope.reshape(-1))):
            scale = np.where(gain == 0, 1, np.abs(gain)) / 127
            weights = [
                self._constant(f"{name}/{part}/weights", (127 * np.sign(gain)).astype(np.int8).reshape(-1, 1, 1, 1)),
                self._weight(f"{name}/{part}/scale", scale.astype(np.float32)),
                self._constant(f"{name}/{part}/zero", zeros),
            ]
            node = _node("QLinearConv", [*before.input, *weights, *after.input[1:]], f"{name}/{part}")
            nodes.append(_with(node, group=channels, kernel_shape=[1, 1]))
        return [*nodes, _node("Max", [node.output[0] for node in nodes], after.output[0])]

    def _is_step(self, name: str) -> bool:
        """Whether a name is of a constant scale, or of a constant zero point of unsigned bytes, for a whole tensor."""
        tensor = self._steps.get(name)
        return tensor is not None and int(np.prod(tensor.dims)) == 1

    def _pooled(self, node: Any, slope: FloatArray) -> list[Any]:
        """PRelu after the pooling that follows it, where there is a fraction of the numbers.

        What grows keeps its order: the largest of PRelu(x) is PRelu of the largest x, where the slope is not negative.
        Where it is, PRelu(x) is the larger of x and slope x, and the largest of it the larger of the largest x and the
        largest slope x: so the convolution in front gives slope x as well. It may, if it reads little: of an image.
        """
        name = node.output[0]
        before, (after, *others) = self._cheap(node, slope.size), self._readers[name]
        if before is None or others or getattr(after, "op_type", "") != "MaxPool" or len(after.output) > 1:
            return []
        channels = slope.size
        slope = slope.reshape(-1)
        sunk = np.flatnonzero(slope < 0)
        kernel, bias = (self._values(part) for part in before.input[1:])
        steep = slope[sunk]
        wide = _filled(channels + len(sunk))
        before.input[1] = self._weight(
            f"{name}/kernel", _padded(np.concatenate([kernel, kernel[sunk] * steep[:, None, None, None]]), wide)
        )
        before.input[2] = self._weight(f"{name}/bias", _padded(np.concatenate([bias, bias[sunk] * steep]), wide))
        # Of x and y = slope x after the pooling: y + Relu(x - y), or slope x + (1 - slope) Relu(x).
        linear, inner = np.zeros((2, channels, wide), np.float32)
        outer = np.diag(np.where(slope < 0, 1, 1 - slope))
        linear[range(channels), range(channels)] = np.where(slope < 0, 0, slope)
        inner[range(channels), range(channels)] = 1
        linear[sunk, channels + np.arange(len(sunk))] = 1
        inner[sunk, channels + np.arange(len(sunk))] = -1
        gives = after.output[0]
        after.input[0], after.output[0] = before.output[0], f"{name}/pooled"
        self._done.append(after.output[0])
        return [
            after,
            self._mix(f"{name}/inner", inner, f"{name}/pooled"),
            _node("Relu", [f"{name}/inner"], f"{name}/above"),
            self._mix(f"{name}/linear", linear, f"{name}/pooled"),
            self._mix(f"{name}/outer", outer, f"{name}/above"),
            _node("Add", [f"{name}/outer", f"{name}/linear"], gives),
        ]

    def _cheap(self, node: Any, channels: int) -> Any:
        """The convolution in front of a PRelu of a slope per channel, if it gives to that alone and reads little."""
        before = self._convolution(node)
        if before is None or len(before.input) < 3:
            return None
        kernel = self._weights[before.input[1]]
        per_channel = list(self._weights[node.input[1]].dims) == [channels, 1, 1]
        fits = per_channel and len(kernel.dims) == 4 and kernel.dims[0] == channels
        return before if fits and int(np.prod(kernel.dims[1:])) <= _FEW_NUMBERS else None

    def _convolution(self, node: Any) -> Any:
        """The convolution that a node reads, with constant weights, if nobody else reads that."""
        before = self._makers.get(node.input[0])
        if before is None or before.op_type != "Conv" or self._readers[node.input[0]] != [node]:
            return None
        grouped = any(item.name == "group" and item.i != 1 for item in before.attribute)
        return None if grouped or any(part not in self._weights for part in before.input[1:]) else before

    def _sigmoid(self, node: Any) -> list[Any]:
        """Softmax over two channels of a convolution is Sigmoid of their difference, which the convolution can give."""
        before = self._convolution(node)
        axis = next((item.i for item in node.attribute if item.name == "axis"), -1)
        if axis != 1 or before is None or self._weights[before.input[1]].dims[0] != 2:
            return []
        for place, part in enumerate(before.input[1:], 1):
            values = self._values(part)
            before.input[place] = self._weight(f"{node.output[0]}/difference {place}", values - values[::-1])
        return [_node("Sigmoid", [node.input[0]], node.output[0])]

    def _mix(self, name: str, weights: FloatArray, given: str) -> Any:
        """A linear combination of channels."""
        return _node("Conv", [given, self._weight(f"{name}/weights", weights[:, :, None, None])], name)

    def _values(self, name: str) -> FloatArray:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._weights[name]))

    def _weight(self, name: str, values: FloatArray) -> str:
        return self._constant(name, np.ascontiguousarray(values, np.float32))

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name


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
    _keep(graph, "node", nodes)


def _keep(graph: Any, field: str, entries: list[Any]) -> None:
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
    graph.ClearField(field)
    getattr(graph, field).extend(copies)


def _node(operator: str, given: list[str], gives: str) -> Any:
    from onnx import helper

    return helper.make_node(operator, given, [gives])


def _with(node: Any, **settings: Any) -> Any:
    from onnx import helper

    node.attribute.extend(helper.make_attribute(name, value) for name, value in settings.items())
    return node


def _filled(channels: int) -> int:
    """Channels of which no block of ONNX Runtime's is left half empty, for it computes those in another layout."""
    return -(-channels // _BLOCK) * _BLOCK


def _padded(weights: FloatArray, channels: int) -> FloatArray:
    """Weights with channels that give nothing behind them."""
    return np.concatenate([weights, np.zeros((channels - len(weights), *weights.shape[1:]), np.float32)])
