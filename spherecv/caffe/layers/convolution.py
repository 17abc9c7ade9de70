"""Convolution and Deconvolution."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value
from spherecv.caffe.layers.window import Pair, Window, four_axes, pad_image, settings_given
from spherecv.caffe.spherecv_caffe_pb2 import ConvolutionParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_MOST_SPREAD = 1 << 25  # numbers in a kernel with its holes filled, 128 MiB


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
        out = map(self._output, sizes, window.pad, window.extent, window.stride)
        return [(batch, self._param(layer).num_output, *out)]

    @staticmethod
    def _output(size: int, pad: int, extent: int, stride: int) -> int:
        return (size + 2 * pad - extent) // stride + 1

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
            value, window = pad_image(graph, value, window.pad), replace(window, pad=(0, 0))
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

    @staticmethod
    def _output(size: int, pad: int, extent: int, stride: int) -> int:
        return stride * (size - 1) + extent - 2 * pad

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


def _spread(weight: Array, dilation: Pair) -> Array:
    """Return the kernel with zeros in the holes that dilation leaves."""
    height, width = weight.shape[2:]
    spread = np.zeros((*weight.shape[:2], dilation[0] * (height - 1) + 1, dilation[1] * (width - 1) + 1), np.float32)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _pair(layer: Layer, param: ConvolutionParameter, repeated: str, prefix: str, default: int | None) -> Pair:
    """Read a setting that is given once, once per axis, or as `_h` and `_w`."""
    values = list(getattr(param, repeated))
    has_h, has_w = (f"{prefix}_h" in settings_given(param)), (f"{prefix}_w" in settings_given(param))
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
