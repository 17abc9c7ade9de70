"""Layers that treat every number by itself: ReLU, PReLU, Sigmoid, TanH, Power; and Dropout, which does nothing."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph


class ReLU(LayerKind):
    """max(x, 0), with a slope below zero."""

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        slope = layer.param.relu_param.negative_slope
        if slope:
            return [graph.node("LeakyRelu", [bottoms[0].name], alpha=float(slope))]
        return [graph.node("Relu", [bottoms[0].name])]


class PReLU(LayerKind):
    """max(x, 0) + slope min(x, 0), the slope learned: one per channel or one for all."""

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise layer.mistake(f"needs a blob with a channel axis, but its bottom has the shape {bottoms[0]}")
        return [bottoms[0]]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return [()] if layer.param.prelu_param.channel_shared else [(bottoms[0][1],)]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        trailing = (1,) * (len(bottoms[0].shape) - 2)
        slope = layer.blobs[0].reshape(-1, *trailing)
        return [graph.node("PRelu", [bottoms[0].name, graph.constant(slope, "slope")])]


class Sigmoid(LayerKind):
    """1 / (1 + exp(-x))."""

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [graph.node("Sigmoid", [bottoms[0].name])]


class TanH(LayerKind):
    """The hyperbolic tangent."""

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [graph.node("Tanh", [bottoms[0].name])]


class Power(LayerKind):
    """(shift + scale x) ^ power."""

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, value = layer.param.power_param, bottoms[0].name
        for operator, number, neutral in (("Mul", param.scale, 1), ("Add", param.shift, 0), ("Pow", param.power, 1)):
            if number != neutral:
                value = graph.node(operator, [value, graph.constant(np.float32(number), operator.lower())])
        return [value]


class Dropout(LayerKind):
    """Nothing, outside training."""

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [bottoms[0].name]
