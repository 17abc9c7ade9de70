"""Pooling, as Caffe does it: sizes round up, and the average counts the padding; and SPP, a pyramid of it."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, SizeNeededError, Value, known, reshape_target
from spherecv.caffe.layers.window import Pair, Window, four_axes, pad_image, settings_given
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter, PoolingParameter, SPPParameter
from spherecv.caffe.tail import Step

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_HIGHEST_PYRAMID = 16

# Stride and padding that global pooling may state: none, by either way of stating it.
_GLOBAL = {(1, 0, 0, 0, 0, 0), (1, 1, 1, 0, 0, 0)}


class Pooling(LayerKind):
    """Maximum or average over a window; sizes round up, and the average counts the padding."""

    tops = (1, 2)  # the second one is the mask of a maximum: where in the map it was
    checked = "Caffe's answers; loops over every window; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = self._shape(layer, bottoms)
        if len(layer.tops) > 1 and layer.param.pooling_param.pool != PoolingParameter.MAX:
            raise layer.mistake("only MAX has a second top, the mask of the maxima")
        return [shape] * len(layer.tops)

    def _shape(self, layer: Layer, bottoms: Sequence[Shape]) -> Shape:
        four_axes(layer, bottoms[0])
        param = layer.param.pooling_param
        if param.pool not in (PoolingParameter.MAX, PoolingParameter.AVE):
            raise layer.unsupported("only MAX and AVE are supported")
        batch, channels, *sizes = bottoms[0]
        if param.global_pooling:
            if (param.stride, param.stride_h, param.stride_w, param.pad, param.pad_h, param.pad_w) not in _GLOBAL:
                raise layer.mistake("global pooling takes neither stride nor pad")
            if "kernel_size" in settings_given(param) or settings_given(param) & {"kernel_h", "kernel_w"}:
                raise layer.mistake("global pooling takes no kernel size: it covers the whole image")
            return (batch, channels, 1, 1)
        return (batch, channels, *self._sizes(layer, self.window(layer), sizes))

    def window(self, layer: Layer) -> Window:
        """Return the layer's window, from either way of stating it."""
        param = layer.param.pooling_param
        window = Window(
            kernel=_single_or_pair(layer, param, "kernel_size", "kernel"),
            stride=_single_or_pair(layer, param, "stride", "stride"),
            pad=_single_or_pair(layer, param, "pad", "pad"),
        )
        if min(*window.kernel, *window.stride) < 1:
            raise layer.mistake("kernel size and stride must be at least 1")
        if window.pad[0] >= window.kernel[0] or window.pad[1] >= window.kernel[1]:
            raise layer.mistake(f"pad {window.pad} must be smaller than the kernel {window.kernel}")
        return window

    def _sizes(self, layer: Layer, window: Window, sizes: Sequence[int]) -> list[int]:
        floor, out = _rounds_down(layer), []
        for size, kernel, stride, pad in zip(sizes, window.kernel, window.stride, window.pad, strict=True):
            room = size + 2 * pad - kernel
            count = (room if floor else room + stride - 1) // stride + 1
            if window.pad != (0, 0) and (count - 1) * stride >= size + pad:
                count -= 1  # Caffe drops a last window that would lie in the padding altogether
            if (count - 1) * stride - pad >= size:
                raise layer.unsupported("its last window lies outside the image, where Caffe's result is undefined")
            out.append(count)
        return out

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        if len(layer.tops) == 1:
            return None
        if layer.param.pooling_param.global_pooling:
            size = list(known(bottoms[0][2:]))
            return Step("MaxPoolWithMask", {"kernel": size, "stride": [1, 1], "pad": [0, 0], "floor": True})
        window = self.window(layer)
        settings = {"kernel": list(window.kernel), "stride": list(window.stride), "pad": list(window.pad)}
        return Step("MaxPoolWithMask", {**settings, "floor": _rounds_down(layer)})

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, bottom = layer.param.pooling_param, bottoms[0]
        average = param.pool == PoolingParameter.AVE
        if param.global_pooling:
            return [graph.node("GlobalAveragePool" if average else "GlobalMaxPool", [bottom.name])]
        window = self.window(layer)
        tail = self._tail(layer, window, bottom.shape, tops[0])
        if not average:
            pads = [*window.pad, window.pad[0] + tail[0], window.pad[1] + tail[1]]
            kernel, strides = list(window.kernel), list(window.stride)
            return [graph.node("MaxPool", [bottom.name], kernel_shape=kernel, strides=strides, pads=pads)]
        return [average_pool(graph, bottom.name, window, tail)]

    def _tail(self, layer: Layer, window: Window, bottom: Dims, top: Dims) -> Pair:
        """Return how many rows and columns past the padding make rounding down equal to Caffe's rounding up."""
        if _rounds_down(layer):
            return (0, 0)
        tail = []
        axes = zip(bottom[2:], top[2:], window.kernel, window.stride, window.pad, strict=True)
        for size, count, kernel, stride, pad in axes:
            if size is not None and count is not None:
                tail.append(max(0, (count - 1) * stride + kernel - size - 2 * pad))
            elif pad + stride <= kernel:
                tail.append(stride - 1)  # rounds up at every size, and no window lies in the padding altogether
            else:
                raise SizeNeededError
        return tail[0], tail[1]


class SPP(LayerKind):
    """A pyramid of poolings into 1, 4, 16, ... parts, in a row."""

    checked = "Caffe's answers"

    def _levels(self, layer: Layer, size: Sequence[int]) -> list[Layer]:
        """Return the poolings of the pyramid."""
        param = layer.param.spp_param
        if not 1 <= param.pyramid_height <= _HIGHEST_PYRAMID or 2 ** (param.pyramid_height - 1) > max(size):
            raise layer.mistake(f"pyramid_height {param.pyramid_height} does not fit a map of {tuple(size)}")
        method = SPPParameter.PoolMethod.Name(param.pool)
        levels = []
        for level in range(param.pyramid_height):
            pooling = LayerParameter(type="Pooling")
            pooling.pooling_param.pool = PoolingParameter.PoolMethod.Value(method)
            for side, axis in zip(size, "hw", strict=True):
                kernel = math.ceil(side / 2**level)
                setattr(pooling.pooling_param, f"kernel_{axis}", kernel)
                setattr(pooling.pooling_param, f"stride_{axis}", kernel)
                setattr(pooling.pooling_param, f"pad_{axis}", (kernel * 2**level - side + 1) // 2)
            levels.append(replace(layer, param=pooling, tops=layer.tops[:1]))
        return levels

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        pooled = [_POOLING.top_shapes(level, bottoms)[0] for level in self._levels(layer, bottoms[0][2:])]
        if len(pooled) == 1:
            return pooled
        return [(bottoms[0][0], sum(math.prod(shape[1:]) for shape in pooled))]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        shape = bottoms[0].shape
        parts = []
        for level in self._levels(layer, known(shape[2:])):
            # As for one image: the batch may be open.
            top = _POOLING.top_shapes(level, [(1, *known(shape[1:]))])[0]
            (value,) = _POOLING.emit(level, bottoms, [(shape[0], *top[1:])], graph)
            parts.append((value, math.prod(top[1:])))
        if len(parts) == 1:
            return [parts[0][0]]
        flat = [graph.reshape(value, reshape_target((None, count))) for value, count in parts]
        return [graph.node("Concat", flat, axis=1)]


_POOLING = Pooling()


def _rounds_down(layer: Layer) -> bool:
    """Tell whether sizes round down, by BVLC's word for it or by that of several forks."""
    param = layer.param.pooling_param
    floor = param.round_mode == PoolingParameter.FLOOR
    if param.HasField("ceil_mode") and param.HasField("round_mode") and floor == param.ceil_mode:
        raise layer.mistake("round_mode and ceil_mode contradict each other")
    return floor or not param.ceil_mode


def average_pool(graph: OnnxGraph, value: str, window: Window, tail: Pair = (0, 0)) -> str:
    """Add Caffe's average: over the part of the window on image and padding, without the `tail` that lies beyond.

    The padding becomes part of the image, and the tail alone is padding to ONNX, which leaves it out of the divisor.
    (AveragePool's own count_include_pad would count both, and OpenCV 4.14 ignores it.)
    """
    if window.pad != (0, 0):
        value = pad_image(graph, value, window.pad)
    kernel, strides = list(window.kernel), list(window.stride)
    return graph.node("AveragePool", [value], kernel_shape=kernel, strides=strides, pads=[0, 0, *tail])


def _single_or_pair(layer: Layer, param: PoolingParameter, single: str, prefix: str) -> Pair:
    """Read a pooling setting: one value, or `_h` and `_w`."""
    present = settings_given(param)
    if f"{prefix}_h" in present or f"{prefix}_w" in present:
        if single in present:
            raise layer.mistake(f"give {single} or {prefix}_h and {prefix}_w, not both")
        if not {f"{prefix}_h", f"{prefix}_w"} <= present:
            raise layer.mistake(f"give both {prefix}_h and {prefix}_w")
        return getattr(param, f"{prefix}_h"), getattr(param, f"{prefix}_w")
    if single == "kernel_size" and single not in present:
        raise layer.mistake("kernel_size is missing")
    value = getattr(param, single)
    return value, value
