"""Pooling, as Caffe does it: sizes round up, and the average counts the padding."""

# ruff: noqa: D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, SizeNeededError, Value
from spherecv.caffe.layers.window import Pair, Window, four_axes, pad_image, settings_given
from spherecv.caffe.spherecv_caffe_pb2 import PoolingParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

# Stride and padding that global pooling may state: none, by either way of stating it.
_GLOBAL = {(1, 0, 0, 0, 0, 0), (1, 1, 1, 0, 0, 0)}


class Pooling(LayerKind):
    """Maximum or average over a window; sizes round up, and the average counts the padding."""

    tops = (1, 2)  # a second top would be the mask of a maximum

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(layer.tops) > 1:
            raise layer.unsupported("its second top, the mask of the maxima, is not supported")
        four_axes(layer, bottoms[0])
        param = layer.param.pooling_param
        if param.pool not in (PoolingParameter.MAX, PoolingParameter.AVE):
            raise layer.unsupported("only MAX and AVE are supported")
        batch, channels, *sizes = bottoms[0]
        if param.global_pooling:
            if (param.stride, param.stride_h, param.stride_w, param.pad, param.pad_h, param.pad_w) not in _GLOBAL:
                raise layer.mistake("global pooling takes neither stride nor pad")
            return [(batch, channels, 1, 1)]
        return [(batch, channels, *self._sizes(layer, self.window(layer), sizes))]

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
        floor = layer.param.pooling_param.round_mode == PoolingParameter.FLOOR
        out = []
        for size, kernel, stride, pad in zip(sizes, window.kernel, window.stride, window.pad, strict=True):
            room = size + 2 * pad - kernel
            count = (room if floor else room + stride - 1) // stride + 1
            if window.pad != (0, 0) and (count - 1) * stride >= size + pad:
                count -= 1  # Caffe drops a last window that would lie in the padding altogether
            if (count - 1) * stride - pad >= size:
                raise layer.unsupported("its last window lies outside the image, where Caffe's result is undefined")
            out.append(count)
        return out

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
        if layer.param.pooling_param.round_mode == PoolingParameter.FLOOR:
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
