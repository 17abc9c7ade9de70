"""Layers that sum up or choose: Reduction, ArgMax, Filter, BatchReindex and Embed; and blobs without a bottom."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value, axis_of, known, reshape_target
from spherecv.caffe.spherecv_caffe_pb2 import ReductionParameter
from spherecv.caffe.tail import Step

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_GOLDEN = "Caffe's answers"


class Reduction(LayerKind):
    """Sum, sum of absolute values, of squares, or mean over the axes from one on, times a factor."""

    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0][: axis_of(layer, layer.param.reduction_param.axis, len(bottoms[0]))]]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        param = layer.param.reduction_param
        if axis_of(layer, param.axis, len(bottoms[0])):
            return None
        # A result without axes: OpenCV 4 crashes on it.
        operation = ReductionParameter.ReductionOp.Name(param.operation)
        return Step("Reduction", {"operation": operation, "coeff": param.coeff})

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, (name, shape) = layer.param.reduction_param, bottoms[0]
        axis = axis_of(layer, param.axis, len(shape))
        length = math.prod(known(shape[axis:]))
        value = graph.reshape(name, [*reshape_target((*shape[:axis], None), kept=axis)[:-1], length])
        if param.operation == ReductionParameter.ASUM:
            value = graph.node("Abs", [value])
        elif param.operation == ReductionParameter.SUMSQ:
            value = graph.node("Mul", [value, value])
        value = graph.node("ReduceSum", [value, graph.constant(np.array([axis], np.int64), "axes")], keepdims=0)
        factor = param.coeff / (length if param.operation == ReductionParameter.MEAN else 1)
        if factor != 1:
            value = graph.node("Mul", [value, graph.constant(np.float32(factor), "coeff")])
        return [value]


class ArgMax(LayerKind):
    """The places of the largest numbers, and the numbers: over each image or along an axis; the last of equal ones."""

    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, shape = layer.param.argmax_param, bottoms[0]
        if not shape:
            raise layer.mistake("needs a blob with an axis")
        axis = axis_of(layer, param.axis, len(shape)) if param.HasField("axis") else None
        length = math.prod(shape[1:]) if axis is None else shape[axis]
        if not 1 <= param.top_k <= length:
            raise layer.mistake(f"top_k must be from 1 to {length}, but is {param.top_k}")
        if axis is not None:
            return [(*shape[:axis], param.top_k, *shape[axis + 1 :])]
        rank = max(3, len(shape))
        first = (shape[0], 2, param.top_k) if param.out_max_val else (shape[0], 1, param.top_k)
        return [(*first, *(1,) * (rank - 3))]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        param = layer.param.argmax_param
        axis = axis_of(layer, param.axis, len(bottoms[0])) if param.HasField("axis") else None
        return Step("ArgMax", {"axis": axis, "top_k": param.top_k, "values": param.out_max_val})


class Filter(LayerKind):
    """The items whose selector is not zero."""

    bottoms = (2, None)
    tops = (1, None)
    open_axis = 0
    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        *blobs, selector = bottoms
        if len(layer.tops) != len(blobs):
            raise layer.mistake(f"has {len(blobs)} bottoms before the selector, but {len(layer.tops)} tops")
        if not selector or any(size != 1 for size in selector[1:]):
            raise layer.mistake(f"its last bottom must hold one number for each item, but has the shape {selector}")
        if any(not shape or shape[0] != selector[0] for shape in blobs):
            raise layer.mistake(f"its bottoms must have {selector[0]} items, as the selector has")
        return blobs

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        return Step("Filter")


class BatchReindex(LayerKind):
    """Items in another order, some of them perhaps several times."""

    bottoms = (2, 2)
    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[1]) != 1 or not bottoms[0]:
            raise layer.mistake(f"its second bottom must have one axis, but has the shape {bottoms[1]}")
        return [(bottoms[1][0], *bottoms[0][1:])]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        return Step("BatchReindex")


class Embed(LayerKind):
    """Rows of a learned table, by their numbers."""

    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.embed_param
        if min(param.num_output, param.input_dim) < 1:
            raise layer.mistake("num_output and input_dim must be at least 1")
        return [(*bottoms[0], param.num_output)]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.embed_param
        table = (param.input_dim, param.num_output)
        return [table, (param.num_output,)] if param.bias_term else [table]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        return Step("Embed", arrays=layer.blobs)


class Parameter(LayerKind):
    """A learned blob that depends on nothing."""

    bottoms = (0, 0)
    is_constant = True
    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return [tuple(layer.param.parameter_param.shape.dim)]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return self.top_shapes(layer, bottoms)

    def constants(self, layer: Layer, bottoms: Sequence[Dims]) -> list[Array] | None:
        return list(layer.blobs)


class DummyData(LayerKind):
    """Constants, where the net has another input: without one, they stand for it."""

    bottoms = (0, 0)
    is_constant = True
    tops = (1, None)
    checked = _GOLDEN

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, count = layer.param.dummy_data_param, len(layer.tops)
        if len(param.data_filler) not in (0, 1, count):
            raise layer.mistake(f"takes no filler, one, or one for each of its {count} tops")
        if any(filler.type != "constant" for filler in param.data_filler):
            raise layer.unsupported("fills blobs by chance, so what the net makes of them is chance too")
        old = param.num or param.channels or param.height or param.width
        if bool(old) == bool(param.shape):
            raise layer.mistake("give shape, or num, channels, height and width")
        shapes = [tuple(shape.dim) for shape in param.shape]
        if old:
            parts = (param.num, param.channels, param.height, param.width)
            if any(len(part) not in (1, count) for part in parts):
                raise layer.mistake(f"takes one size or one for each of its {count} tops")
            shapes = [tuple(part[index if len(part) > 1 else 0] for part in parts) for index in range(count)]
        if len(shapes) not in (1, count):
            raise layer.mistake(f"takes one shape or one for each of its {count} tops")
        return shapes * count if len(shapes) == 1 else shapes

    def constants(self, layer: Layer, bottoms: Sequence[Dims]) -> list[Array] | None:
        values = [filler.value for filler in layer.param.dummy_data_param.data_filler] or [0.0]
        values = values * len(layer.tops) if len(values) == 1 else values
        shapes = self.top_shapes(layer, [])
        return [np.full(shape, value, np.float32) for shape, value in zip(shapes, values, strict=True)]
