"""Layers that treat every number by itself: ReLU and its kin, Sigmoid, Exp, Power, Threshold; and Dropout: nothing."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value
from spherecv.caffe.spherecv_caffe_pb2 import TRAIN

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph


_LOWEST, _HIGHEST = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
_SATURATED = 20.0  # beyond it tanh is 1 and softplus is x, in float32
_GOLDEN = "Caffe's answers"
_GOLDEN_FORK = "Caffe's answers (SSD build)"


def clip(graph: OnnxGraph, value: str, low: float, high: float) -> str:
    """Add a Clip."""
    bounds = [graph.constant(np.float32(bound), label) for bound, label in ((low, "low"), (high, "high"))]
    return graph.node("Clip", [value, *bounds])


def scaled(graph: OnnxGraph, value: str, scale: float, shift: float) -> str:
    """Add scale x + shift, without what does nothing."""
    for operator, number, neutral in (("Mul", scale, 1), ("Add", shift, 0)):
        if number != neutral:
            value = graph.node(operator, [value, graph.constant(np.float32(number), operator.lower())])
    return value


class ReLU(LayerKind):
    """max(x, 0), with a slope below zero."""

    checked = f"{_GOLDEN}; OpenCV 4.14"

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        slope = layer.param.relu_param.negative_slope
        if slope:
            return [graph.node("LeakyRelu", [bottoms[0].name], alpha=float(slope))]
        return [graph.node("Relu", [bottoms[0].name])]


class PReLU(LayerKind):
    """max(x, 0) + slope min(x, 0), the slope learned: one per channel or one for all."""

    checked = f"{_GOLDEN}; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise layer.mistake(f"needs a blob with a channel axis, but its bottom has the shape {bottoms[0]}")
        if len(bottoms[0]) > 4:
            raise layer.mistake(f"works on four axes at most, but its bottom has the shape {bottoms[0]}")
        return [bottoms[0]]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return [()] if layer.param.prelu_param.channel_shared else [(bottoms[0][1],)]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        trailing = (1,) * (len(bottoms[0].shape) - 2)
        slope = layer.blobs[0].reshape(-1, *trailing)
        return [graph.node("PRelu", [bottoms[0].name, graph.constant(slope, "slope")])]


class Sigmoid(LayerKind):
    """1 / (1 + exp(-x))."""

    checked = f"{_GOLDEN}; OpenCV 4.14"

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [graph.node("Sigmoid", [bottoms[0].name])]


class TanH(LayerKind):
    """The hyperbolic tangent."""

    checked = f"{_GOLDEN}; OpenCV 4.14"

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        # OpenCV 5.0 makes NaN of numbers from 45 on.
        return [graph.node("Tanh", [clip(graph, bottoms[0].name, -_SATURATED, _SATURATED)])]


class Power(LayerKind):
    """(shift + scale x) ^ power."""

    checked = f"{_GOLDEN}; OpenCV 4.14"

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param = layer.param.power_param
        value = scaled(graph, bottoms[0].name, param.scale, param.shift)
        if param.power != 1:
            value = graph.node("Pow", [value, graph.constant(np.float32(param.power), "pow")])
        return [value]


class AbsVal(LayerKind):
    """|x|."""

    checked = _GOLDEN

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [graph.node("Abs", [bottoms[0].name])]


class BNLL(LayerKind):
    """log(1 + exp(x)), written so that no exponent overflows."""

    checked = _GOLDEN

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        small = graph.node("Exp", [scaled(graph, graph.node("Abs", [bottoms[0].name]), -1, 0)])
        rest = graph.node("Log", [scaled(graph, small, 1, 1)])
        return [graph.node("Add", [graph.node("Relu", [bottoms[0].name]), rest])]


class Clip(LayerKind):
    """max(low, min(x, high))."""

    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.clip_param
        if not (param.HasField("min") and param.HasField("max")):
            raise layer.mistake("min and max are missing")
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param = layer.param.clip_param
        return [clip(graph, bottoms[0].name, max(param.min, _LOWEST), min(param.max, _HIGHEST))]


class ELU(LayerKind):
    """x above zero, alpha (exp(x) - 1) below."""

    checked = f"{_GOLDEN}; OpenCV 4.14"

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        # OpenCV 5.0 ends the process where Elu lies between a division and a product, which it takes for Celu.
        value = bottoms[0].name
        if graph.operator_of(value) == "Div":
            value = graph.node("Mul", [value, graph.constant(np.float32(1), "one")])
        return [graph.node("Elu", [value], alpha=float(layer.param.elu_param.alpha))]


class Exp(LayerKind):
    """base ^ (shift + scale x), base -1 for e."""

    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        _check_base(layer, layer.param.exp_param.base)
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param = layer.param.exp_param
        base = 1.0 if param.base == -1 else math.log(param.base)
        try:
            outer = math.exp(base * param.shift)
        except OverflowError:
            outer = math.inf
        return [scaled(graph, graph.node("Exp", [scaled(graph, bottoms[0].name, base * param.scale, 0)]), outer, 0)]


class Log(LayerKind):
    """The logarithm of shift + scale x, base -1 for e."""

    checked = _GOLDEN  # not OpenCV 4.14's importer, which ignores the base

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        _check_base(layer, layer.param.log_param.base)
        if layer.param.log_param.base == 1:
            raise layer.mistake("base 1 has no logarithm")
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param = layer.param.log_param
        logarithm = graph.node("Log", [scaled(graph, bottoms[0].name, param.scale, param.shift)])
        return [scaled(graph, logarithm, 1.0 if param.base == -1 else 1 / math.log(param.base), 0)]


class Swish(LayerKind):
    """x sigmoid(beta x)."""

    checked = _GOLDEN

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        gate = graph.node("Sigmoid", [scaled(graph, bottoms[0].name, layer.param.swish_param.beta, 0)])
        return [graph.node("Mul", [bottoms[0].name, gate])]


class Threshold(LayerKind):
    """1 above a threshold, 0 from it down."""

    checked = _GOLDEN

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        # Arithmetic, because not every runtime has Greater and Where: what is above by the least step grows past 1.
        above = scaled(graph, bottoms[0].name, 1, -layer.param.threshold_param.threshold)
        return [clip(graph, scaled(graph, scaled(graph, above, 1e30, 0), 1e30, 0), 0, 1)]


class ReLU6(LayerKind):
    """max(x, 0) with a slope below zero, but at most 6 or another threshold (several forks)."""

    checked = _GOLDEN_FORK

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, value = layer.param.relu6_param, bottoms[0].name
        if param.negative_slope:
            value = graph.node("LeakyRelu", [value], alpha=float(param.negative_slope))
            return [clip(graph, value, _LOWEST, param.threshold)]
        return [clip(graph, value, min(0.0, param.threshold), param.threshold)]


class HardSigmoid(LayerKind):
    """alpha x + beta, between 0 and 1 (several forks)."""

    checked = _GOLDEN_FORK

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param = layer.param.hardsigmoid_param
        if layer.param.HasField("hard_sigmoid_param"):
            param = layer.param.hard_sigmoid_param
        return [clip(graph, scaled(graph, bottoms[0].name, param.alpha, param.beta), 0, 1)]


class HardSwish(LayerKind):
    """x times x / 6 + 1/2, that between 0 and 1 (several forks)."""

    checked = _GOLDEN_FORK

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        gate = clip(graph, scaled(graph, bottoms[0].name, 1 / 6, 0.5), 0, 1)
        return [graph.node("Mul", [bottoms[0].name, gate])]


class Mish(LayerKind):
    """x tanh(log(1 + exp(x))) (several forks)."""

    checked = "ONNX Runtime; a float64 transcription of its definition"

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        # tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), which is 1 long before e overflows.
        power = graph.node("Exp", [clip(graph, bottoms[0].name, -100, _SATURATED)])
        above = graph.node("Mul", [power, scaled(graph, power, 1, 2)])
        gate = graph.node("Div", [above, scaled(graph, above, 1, 2)])
        return [graph.node("Mul", [bottoms[0].name, gate])]


def _check_base(layer: Layer, base: float) -> None:
    if base != -1 and not 0 < base < math.inf:
        raise layer.mistake(f"base must be positive, or -1 for e, but got {base}")


class Dropout(LayerKind):
    """Nothing, outside training."""

    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if layer.param.HasField("phase") and layer.param.phase == TRAIN:
            raise layer.unsupported("phase: TRAIN drops numbers by chance: remove the line")
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [bottoms[0].name]
