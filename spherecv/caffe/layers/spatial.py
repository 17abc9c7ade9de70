"""Layers that slide a window over height and width: Convolution, Deconvolution and Pooling."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, SizeNeededError, Value
from spherecv.caffe.spherecv_caffe_pb2 import ConvolutionParameter, PoolingParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

Pair = tuple[int, int]

_MOST_SPREAD = 1 << 25  # numbers in a kernel with its holes filled, 128 MiB

# Stride and padding that global pooling may state: none, by either way of stating it.
_GLOBAL = {(1, 0, 0, 0, 0, 0), (1, 1, 1, 0, 0, 0)}


def four_axes(layer: Layer, shape: Sequence[object]) -> None:
    """Refuse blobs that are not (N, C, H, W)."""
    if len(shape) != 4:
        raise layer.unsupported(f"works on blobs (N, C, H, W) only, but its bottom has the shape {tuple(shape)}")


@dataclass(frozen=True)
class Window:
    """Kernel, stride, padding and dilation, each as (height, width)."""

    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """How many pixels the kernel spans."""
        return (
            self.dilation[0] * (self.kernel[0] - 1) + 1,
            self.dilation[1] * (self.kernel[1] - 1) + 1,
        )


class Convolution(LayerKind):
    """Convolution over height and width, in groups, with dilation."""

    def _param(self, layer: Layer) -> ConvolutionParameter:
        return layer.param.convolution_param

    def window(self, layer: Layer) -> Window:
        """Return the layer's window, from either way of stating it."""
        param = self._param(layer)
        window = Window(
            kernel=_pair(layer, param, "kernel_size", "kernel", None),
            stride=_pair(layer, param, "stride", "stride", 1),
            pad=_pair(layer, param, "pad", "pad", 0),
            dilation=_pair(layer, param, "dilation", "dilation", 1),
        )
        if min(*window.kernel, *window.stride, *window.dilation) < 1:
            raise layer.mistake("kernel size, stride and dilation must be at least 1")
        return window

    def groups(self, layer: Layer, channels: int) -> int:
        """Return the number of groups, checked against the channels on both sides."""
        param = self._param(layer)
        if param.num_output < 1:
            raise layer.mistake("num_output must be at least 1")
        if param.group < 1 or channels % param.group or param.num_output % param.group:
            raise layer.mistake(f"group {param.group} does not divide {channels} inputs and {param.num_output} outputs")
        return int(param.group)

    def check(self, layer: Layer, bottoms: Sequence[Shape]) -> None:
        """Refuse what this class has no form for."""
        four_axes(layer, bottoms[0])
        if self._param(layer).axis not in (1, -3):
            raise layer.unsupported(f"axis {self._param(layer).axis}: only 1 is supported")

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check(layer, bottoms)
        batch, channels, *sizes = bottoms[0]
        self.groups(layer, channels)
        window = self.window(layer)
        out = [
            (size + 2 * pad - extent) // stride + 1
            for size, pad, extent, stride in zip(sizes, window.pad, window.extent, window.stride, strict=True)
        ]
        return [(batch, self._param(layer).num_output, *out)]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, channels = self._param(layer), bottoms[0][1]
        weight = (param.num_output, channels // self.groups(layer, channels), *self.window(layer).kernel)
        return [weight, (param.num_output,)] if param.bias_term else [weight]

    def macs(self, layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        weight = self.blob_shapes(layer, bottoms)[0]
        return math.prod(tops[0]) * math.prod(weight[1:])

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        window, value = self.window(layer), bottoms[0].name
        dilated_group = window.dilation != (1, 1) and self._param(layer).group > 1
        if window.pad != (0, 0) and (window.kernel == (1, 1) or dilated_group):
            # OpenCV 5.0 reads beyond the image where a kernel of one pixel has padding, and so does 4.14 where a
            # depthwise 3x3 has dilation 2 and padding 1.
            value, window = _pad(graph, value, window.pad), replace(window, pad=(0, 0))
        return [self._emit_as("Conv", layer, window, layer.blobs, value, graph)]

    def _emit_as(
        self, operator: str, layer: Layer, window: Window, blobs: Sequence[Array], value: str, graph: OnnxGraph
    ) -> str:
        weights = [graph.constant(blob, label) for blob, label in zip(blobs, ("weight", "bias"), strict=False)]
        return graph.node(
            operator,
            [value, *weights],
            kernel_shape=list(window.kernel),
            strides=list(window.stride),
            pads=[*window.pad, *window.pad],
            dilations=list(window.dilation),
            group=int(self._param(layer).group),
        )


class Deconvolution(Convolution):
    """The transpose of Convolution: the sizes grow by the stride."""

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check(layer, bottoms)
        batch, channels, *sizes = bottoms[0]
        self.groups(layer, channels)
        window = self.window(layer)
        out = [
            stride * (size - 1) + extent - 2 * pad
            for size, pad, extent, stride in zip(sizes, window.pad, window.extent, window.stride, strict=True)
        ]
        return [(batch, self._param(layer).num_output, *out)]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, channels = self._param(layer), bottoms[0][1]
        weight = (channels, param.num_output // self.groups(layer, channels), *self.window(layer).kernel)
        return [weight, (param.num_output,)] if param.bias_term else [weight]

    def macs(self, layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        weight = self.blob_shapes(layer, bottoms)[0]
        return math.prod(bottoms[0]) * math.prod(weight[1:])

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        window, blobs = self.window(layer), layer.blobs
        if window.dilation != (1, 1):
            # OpenCV 4.14 ignores the dilation of a ConvTranspose, so the holes go into the kernel.
            if math.prod((*blobs[0].shape[:2], *window.extent)) > _MOST_SPREAD:
                raise layer.unsupported(f"dilation {window.dilation} makes its kernel too large")
            blobs = (_spread(blobs[0], window.dilation), *blobs[1:])
            window = Window(window.extent, window.stride, window.pad)
        # OpenCV 4.14 writes beyond its memory where the padding is not smaller than the kernel: cut that off instead.
        outside = [pad if pad >= kernel else 0 for pad, kernel in zip(window.pad, window.kernel, strict=True)]
        window = replace(window, pad=(window.pad[0] - outside[0], window.pad[1] - outside[1]))
        value = self._emit_as("ConvTranspose", layer, window, blobs, bottoms[0].name, graph)
        for axis, cut in enumerate(outside, start=2):
            if cut:
                value = graph.slice(value, [cut], [-cut], [axis])
        return [value]


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
        value = _pad(graph, value, window.pad)
    kernel, strides = list(window.kernel), list(window.stride)
    return graph.node("AveragePool", [value], kernel_shape=kernel, strides=strides, pads=[0, 0, *tail])


def _pad(graph: OnnxGraph, value: str, pad: Pair) -> str:
    """Add zeros around every image."""
    edges = graph.constant(np.array([0, 0, *pad, 0, 0, *pad], np.int64), "pads")
    return graph.node("Pad", [value, edges, graph.constant(np.float32(0), "zero")])


def _spread(weight: Array, dilation: Pair) -> Array:
    """Return the kernel with zeros in the holes that dilation leaves."""
    height, width = weight.shape[2:]
    spread = np.zeros((*weight.shape[:2], dilation[0] * (height - 1) + 1, dilation[1] * (width - 1) + 1), np.float32)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _pair(layer: Layer, param: ConvolutionParameter, repeated: str, prefix: str, default: int | None) -> Pair:
    """Read a setting that is given once, once per axis, or as `_h` and `_w`."""
    values = list(getattr(param, repeated))
    has_h, has_w = (f"{prefix}_h" in _present(param)), (f"{prefix}_w" in _present(param))
    if has_h or has_w:
        if values:
            raise layer.mistake(f"give {repeated} or {prefix}_h and {prefix}_w, not both")
        low = 0 if default is None else default
        return (
            getattr(param, f"{prefix}_h") if has_h else low,
            getattr(param, f"{prefix}_w") if has_w else low,
        )
    if not values and default is None:
        raise layer.mistake(f"{repeated} is missing")
    values = values or [default or 0]
    if len(values) > 2:
        raise layer.mistake(f"{repeated} is given {len(values)} times, for 2 axes")
    return values[0], values[-1]


def _single_or_pair(layer: Layer, param: PoolingParameter, single: str, prefix: str) -> Pair:
    """Read a pooling setting: one value, or `_h` and `_w`."""
    present = _present(param)
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


def _present(param: ConvolutionParameter | PoolingParameter) -> set[str]:
    return {field.name for field, _ in param.ListFields()}
