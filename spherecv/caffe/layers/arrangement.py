"""Layers that join, cut and rearrange blobs: Eltwise, Concat, Slice, Split, Crop, Flatten, Reshape and Permute."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, SizeNeededError, Value, axis_of, known, reshape_target
from spherecv.caffe.spherecv_caffe_pb2 import EltwiseParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_TO_THE_END = (1 << 31) - 1
_MOST_DIMS = 32  # kMaxBlobAxes


class Eltwise(LayerKind):
    """Sum with coefficients, product or maximum of blobs of one shape."""

    checked = "Caffe's answers; OpenCV 4.14"

    bottoms = (2, None)

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if any(shape != bottoms[0] for shape in bottoms):
            raise layer.mistake(f"its bottoms have different shapes: {', '.join(map(str, bottoms[:8]))}")
        param = layer.param.eltwise_param
        if param.coeff and (len(param.coeff) != len(bottoms) or param.operation != EltwiseParameter.SUM):
            raise layer.mistake(f"takes one coeff per bottom, for SUM only: got {len(param.coeff)}")
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param = layer.param.eltwise_param
        terms = [bottom.name for bottom in bottoms]
        for index, coeff in enumerate(param.coeff):
            if coeff != 1:
                terms[index] = graph.node("Mul", [terms[index], graph.constant(np.float32(coeff), "coeff")])
        operator = {EltwiseParameter.SUM: "Add", EltwiseParameter.PROD: "Mul", EltwiseParameter.MAX: "Max"}
        value = terms[0]
        for term in terms[1:]:
            value = graph.node(operator[param.operation], [value, term])
        return [value]


class Concat(LayerKind):
    """Blobs one after the other along an axis."""

    checked = "Caffe's answers; OpenCV 4.14"

    bottoms = (1, None)

    def _axis(self, layer: Layer, rank: int) -> int:
        param = layer.param.concat_param
        if param.HasField("axis") and param.HasField("concat_dim"):
            raise layer.mistake("give axis or concat_dim, not both")
        return axis_of(layer, param.concat_dim if param.HasField("concat_dim") else param.axis, rank)

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        axis = self._axis(layer, len(bottoms[0]))
        rest = {(len(shape), shape[:axis], shape[axis + 1 :]) for shape in bottoms}
        if len(rest) > 1:
            shapes = ", ".join(map(str, bottoms[:8]))
            raise layer.mistake(f"its bottoms must have equal shapes but for axis {axis}: {shapes}")
        first = bottoms[0]
        return [(*first[:axis], sum(shape[axis] for shape in bottoms), *first[axis + 1 :])]

    def shares_memory(self, layer: Layer, bottoms: Sequence[Shape]) -> bool:
        return len(bottoms) == 1

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        if len(bottoms) == 1:
            return [bottoms[0].name]
        axis = self._axis(layer, len(bottoms[0].shape))
        return [graph.node("Concat", [bottom.name for bottom in bottoms], axis=axis)]


class Slice(LayerKind):
    """Parts of a blob along an axis."""

    checked = "Caffe's answers; OpenCV 4.14"

    tops = (1, None)

    def _axis(self, layer: Layer, rank: int) -> int:
        param = layer.param.slice_param
        if param.HasField("axis") and param.HasField("slice_dim"):
            raise layer.mistake("give axis or slice_dim, not both")
        return axis_of(layer, param.slice_dim if param.HasField("slice_dim") else param.axis, rank)

    def _points(self, layer: Layer, size: int | None) -> list[int]:
        points, parts = list(layer.param.slice_param.slice_point), len(layer.tops)
        if not points:
            if size is None:
                raise SizeNeededError
            if size % parts:
                raise layer.mistake(f"axis of {size} cannot be cut into {parts} equal parts: give slice_point")
            points = [size // parts * index for index in range(1, parts)]
        if len(points) != parts - 1:
            raise layer.mistake(f"needs {parts - 1} slice points for {parts} tops, but got {len(points)}")
        bounds = [0, *points, _TO_THE_END if size is None else size]
        if any(low >= high for low, high in pairwise(bounds)):
            raise layer.mistake(f"slice points {points[:8]} must increase and lie inside the axis of {size}")
        return bounds

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        axis = self._axis(layer, len(shape))
        bounds = self._points(layer, shape[axis])
        return [
            (*shape[:axis], high - low, *shape[axis + 1 :]) for low, high in pairwise(bounds)
        ]

    def shares_memory(self, layer: Layer, bottoms: Sequence[Shape]) -> bool:
        return len(layer.tops) == 1

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        axis = self._axis(layer, len(bottoms[0].shape))
        bounds = self._points(layer, bottoms[0].shape[axis])
        return [
            graph.slice(bottoms[0].name, [low], [high], [axis]) for low, high in pairwise(bounds)
        ]


class Split(LayerKind):
    """The same blob under several names."""

    checked = "Caffe's answers; OpenCV 4.14"

    tops = (1, None)

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return [bottoms[0]] * len(layer.tops)

    def shares_memory(self, layer: Layer, bottoms: Sequence[Shape]) -> bool:
        return True

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [bottoms[0].name] * len(layer.tops)


class Crop(LayerKind):
    """The part of the first blob that has the size of the second."""

    checked = "Caffe's answers; OpenCV 4.14"

    bottoms = (2, 2)

    def _offsets(self, layer: Layer, rank: int) -> tuple[int, list[int]]:
        param = layer.param.crop_param
        axis = axis_of(layer, param.axis, rank)
        count = rank - axis
        if len(param.offset) not in (0, 1, count):
            raise layer.mistake(f"takes no offset, one, or {count}, but got {len(param.offset)}")
        offsets = list(param.offset) or [0]
        return axis, offsets * count if len(offsets) == 1 else offsets

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        source, like = bottoms
        if len(source) != len(like):
            raise layer.mistake(f"its bottoms must have equally many axes: {source}, {like}")
        axis, offsets = self._offsets(layer, len(source))
        for size, wanted, offset in zip(source[axis:], like[axis:], offsets, strict=True):
            if offset + wanted > size:
                raise layer.mistake(f"cannot crop {wanted} from {size} at offset {offset}")
        return [(*source[:axis], *like[axis:])]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        axis, offsets = self._offsets(layer, len(bottoms[0].shape))
        sizes = known(bottoms[1].shape[axis:])
        ends = [offset + size for offset, size in zip(offsets, sizes, strict=True)]
        return [graph.slice(bottoms[0].name, offsets, ends, list(range(axis, axis + len(sizes))))]


class Flatten(LayerKind):
    """Neighbouring axes made one."""

    checked = "Caffe's answers; OpenCV 4.14"

    def _axes(self, layer: Layer, rank: int) -> tuple[int, int]:
        param = layer.param.flatten_param
        first, last = axis_of(layer, param.axis, rank), axis_of(layer, param.end_axis, rank)
        if last < first:
            raise layer.mistake(f"end_axis {param.end_axis} comes before axis {param.axis}")
        return first, last

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        first, last = self._axes(layer, len(shape))
        return [(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])]

    def shares_memory(self, layer: Layer, bottoms: Sequence[Shape]) -> bool:
        return True

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        name, shape = bottoms[0]
        first, last = self._axes(layer, len(shape))
        if first == last:
            return [name]
        return [graph.reshape(name, reshape_target(tops[0], kept=first))]


class Reshape(LayerKind):
    """The same numbers in another shape; 0 copies a size, -1 is what is left."""

    checked = "Caffe's answers; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        start, end = self._span(layer, len(shape))
        dims, middle = layer.param.reshape_param.shape.dim, shape[start:end]
        if min(dims, default=0) < -1 or list(dims).count(-1) > 1 or len(dims) > _MOST_DIMS:
            raise layer.mistake("takes at most 32 dims of at least -1, and -1 once")
        if any(dim == 0 and place >= len(middle) for place, dim in enumerate(dims)):
            raise layer.mistake("dim 0 copies a size that the bottom does not have")
        sizes = [middle[place] if dim == 0 else dim for place, dim in enumerate(dims)]
        count, rest = math.prod(middle), math.prod(size for size in sizes if size != -1)
        if -1 in sizes and count % rest == 0:
            sizes[sizes.index(-1)] = count // rest
        if math.prod(sizes) != count:
            raise layer.mistake(f"cannot make {tuple(dims)} of {middle}: the number of elements differs")
        return [(*shape[:start], *sizes, *shape[end:])]

    def _span(self, layer: Layer, rank: int) -> tuple[int, int]:
        """Return the first axis that is reshaped, and the first after it that is not."""
        param = layer.param.reshape_param
        start = axis_of(layer, param.axis, rank, end=True)
        end = rank if param.num_axes == -1 else start + param.num_axes
        if param.num_axes < -1 or end > rank:
            raise layer.mistake(f"num_axes {param.num_axes} from axis {start} leaves a blob of {rank} axes")
        return start, end

    def shares_memory(self, layer: Layer, bottoms: Sequence[Shape]) -> bool:
        return True

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        start, _ = self._span(layer, len(bottoms[0].shape))
        dims = layer.param.reshape_param.shape.dim
        copied = [start + place for place, dim in enumerate(dims) if dim == 0]
        return [graph.reshape(bottoms[0].name, reshape_target(tops[0], kept=start, copied=copied))]


class Permute(LayerKind):
    """Axes in another order (SSD's layer)."""

    checked = "Caffe's answers (SSD build); OpenCV 4.14"

    def _order(self, layer: Layer, rank: int) -> list[int]:
        order = list(layer.param.permute_param.order)
        if len(set(order)) != len(order) or any(axis >= rank for axis in order):
            raise layer.mistake(f"order must name axes of a blob of {rank}, each once, but got {order[:8]}")
        return order + [axis for axis in range(rank) if axis not in order]

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        return [tuple(shape[axis] for axis in self._order(layer, len(shape)))]

    def shares_memory(self, layer: Layer, bottoms: Sequence[Shape]) -> bool:
        return self._order(layer, len(bottoms[0])) == list(range(len(bottoms[0])))

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        order = self._order(layer, len(bottoms[0].shape))
        if order == sorted(order):
            return [bottoms[0].name]
        return [graph.node("Transpose", [bottoms[0].name], perm=order)]
