"""Convolution and Deconvolution."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value, known, reshape_target
from spherecv.caffe.layers.window import Sizes, Window, pad_image
from spherecv.caffe.spherecv_caffe_pb2 import ConvolutionParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_MOST_SPREAD = 1 << 25  # numbers in a kernel with its holes filled, 128 MiB


class Convolution(LayerKind):
    """Convolution over one to three spatial axes, in groups, with dilation; several bottoms go through one kernel."""

    bottoms: tuple[int, int | None] = (1, None)
    tops: tuple[int, int | None] = (1, None)
    checked = "Caffe's answers; OpenCV 4.14"

    def _param(self, layer: Layer) -> ConvolutionParameter:
        return layer.param.convolution_param

    def window(self, layer: Layer, bottom: Sequence[int | None]) -> Window:
        """Return the layer's window over a bottom, from either way of stating it."""
        param, spatial = self._param(layer), len(bottom) - 2
        window = Window(
            kernel=_per_axis(layer, param, "kernel_size", "kernel", None, spatial),
            stride=_per_axis(layer, param, "stride", "stride", 1, spatial),
            pad=_per_axis(layer, param, "pad", "pad", 0, spatial),
            dilation=_per_axis(layer, param, "dilation", "dilation", 1, spatial),
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
        shape = bottoms[0]
        if not 3 <= len(shape) <= 5:
            raise layer.unsupported(f"works on one to three spatial axes, but its bottom has the shape {shape}")
        if self._param(layer).axis not in (1, 1 - len(shape)):
            raise layer.unsupported(f"axis {self._param(layer).axis}: only the second axis is supported")
        if len(layer.tops) != len(bottoms):
            raise layer.mistake(f"has {len(bottoms)} bottoms, but {len(layer.tops)} tops")
        if any(other != shape for other in bottoms):
            raise layer.mistake(f"its bottoms have different shapes: {', '.join(map(str, bottoms[:8]))}")

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        self.check(layer, bottoms)
        batch, channels, *sizes = bottoms[0]
        self.groups(layer, channels)
        window = self.window(layer, bottoms[0])
        out = map(self._output, sizes, window.pad, window.extent, window.stride)
        return [(batch, self._param(layer).num_output, *out)] * len(bottoms)

    @staticmethod
    def _output(size: int, pad: int, extent: int, stride: int) -> int:
        return (size + 2 * pad - extent) // stride + 1

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, channels = self._param(layer), bottoms[0][1]
        weight = (param.num_output, channels // self.groups(layer, channels), *self.window(layer, bottoms[0]).kernel)
        return [weight, (param.num_output,)] if param.bias_term else [weight]

    def macs(self, layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        weight = self.blob_shapes(layer, bottoms)[0]
        return sum(math.prod(top) for top in tops) * math.prod(weight[1:])

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        window = self.window(layer, bottoms[0].shape)
        groups = self.groups(layer, known(bottoms[0].shape[1:2])[0])
        return [self.emit_as("Conv", window, groups, layer.blobs, bottom.name, graph) for bottom in bottoms]

    def emit_as(
        self, operator: str, window: Window, groups: int, blobs: Sequence[Array], value: str, graph: OnnxGraph
    ) -> str:
        """Write a Conv or ConvTranspose."""
        flat = all(pad == 0 for pad in window.pad)
        dilated_group = groups > 1 and any(dilation != 1 for dilation in window.dilation)
        if operator == "Conv" and not flat and (all(size == 1 for size in window.kernel) or dilated_group):
            # OpenCV 5.0 reads beyond the image where a kernel of one pixel has padding, and so does 4.14 where a
            # depthwise 3x3 has dilation 2 and padding 1.
            value, window = pad_image(graph, value, window.pad), replace(window, pad=(0,) * len(window.pad))
        weights = [graph.constant(blob, label) for blob, label in zip(blobs, ("weight", "bias"), strict=False)]
        return graph.node(
            operator,
            [value, *weights],
            kernel_shape=list(window.kernel),
            strides=list(window.stride),
            pads=[*window.pad, *window.pad],
            dilations=list(window.dilation),
            group=groups,
        )


class ConvolutionDepthwise(Convolution):
    """A convolution with a group for each channel, whatever `group` says (several forks)."""

    checked = "Caffe's answers, by Convolution with groups"

    def groups(self, layer: Layer, channels: int) -> int:
        param = self._param(layer)
        if param.num_output < 1 or param.num_output % channels:
            raise layer.mistake(f"num_output {param.num_output} is no multiple of its {channels} channels")
        if param.group not in (1, channels):
            raise layer.mistake(f"group {param.group} must be the number of channels, {channels}, or left out")
        return channels


class Deconvolution(Convolution):
    """The transpose of Convolution: the sizes grow by the stride."""

    @staticmethod
    def _output(size: int, pad: int, extent: int, stride: int) -> int:
        return stride * (size - 1) + extent - 2 * pad

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, channels = self._param(layer), bottoms[0][1]
        weight = (channels, param.num_output // self.groups(layer, channels), *self.window(layer, bottoms[0]).kernel)
        return [weight, (param.num_output,)] if param.bias_term else [weight]

    def macs(self, layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        weight = self.blob_shapes(layer, bottoms)[0]
        return sum(math.prod(bottom) for bottom in bottoms) * math.prod(weight[1:])

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        window, blobs = self.window(layer, bottoms[0].shape), layer.blobs
        if any(dilation != 1 for dilation in window.dilation):
            # OpenCV 4.14 ignores the dilation of a ConvTranspose, so the holes go into the kernel.
            if math.prod((*blobs[0].shape[:2], *window.extent)) > _MOST_SPREAD:
                raise layer.unsupported(f"dilation {window.dilation} makes its kernel too large")
            blobs = (_spread(blobs[0], window.dilation), *blobs[1:])
            window = Window(window.extent, window.stride, window.pad, (1,) * len(window.pad))
        # OpenCV 4.14 writes beyond its memory where the padding is not smaller than the kernel: cut that off instead.
        outside = [pad if pad >= kernel else 0 for pad, kernel in zip(window.pad, window.kernel, strict=True)]
        window = replace(window, pad=tuple(pad - cut for pad, cut in zip(window.pad, outside, strict=True)))
        groups = self.groups(layer, known(bottoms[0].shape[1:2])[0])
        one_axis = len(window.kernel) == 1
        if one_axis:  # OpenCV 4.14 knows no ConvTranspose of one axis
            window, outside = Window((1, *window.kernel), (1, *window.stride), (0, *window.pad)), [0, *outside]
            blobs = (blobs[0][:, :, None], *blobs[1:])
        made = []
        for bottom, top in zip(bottoms, tops, strict=True):
            value = bottom.name
            if one_axis:
                value = graph.reshape(value, reshape_target((*bottom.shape[:2], 1, *bottom.shape[2:]), kept=2))
            value = self.emit_as("ConvTranspose", window, groups, blobs, value, graph)
            for axis, cut in enumerate(outside, start=2):
                if cut:
                    value = graph.slice(value, [cut], [-cut], [axis])
            made.append(graph.reshape(value, reshape_target(top, kept=2)) if one_axis else value)
        return made


def _spread(weight: Array, dilation: Sizes) -> Array:
    """Return the kernel with zeros in the holes that dilation leaves."""
    extent = [step * (size - 1) + 1 for size, step in zip(weight.shape[2:], dilation, strict=True)]
    spread = np.zeros((*weight.shape[:2], *extent), np.float32)
    spread[(slice(None), slice(None), *(slice(None, None, step) for step in dilation))] = weight
    return spread


def _per_axis(
    layer: Layer, param: ConvolutionParameter, repeated: str, prefix: str, default: int | None, spatial: int
) -> Sizes:
    """Read a setting that is given once, once per axis, or as `_h` and `_w`."""
    values = list(getattr(param, repeated))
    has_h, has_w = (prefix != "dilation" and param.HasField(f"{prefix}_{axis}") for axis in "hw")
    if has_h or has_w:
        if values:
            raise layer.mistake(f"give {repeated} or {prefix}_h and {prefix}_w, not both")
        if spatial != 2:
            raise layer.mistake(f"{prefix}_h and {prefix}_w are for two spatial axes, but there are {spatial}")
        low = 0 if default is None else default
        return (
            getattr(param, f"{prefix}_h") if has_h else low,
            getattr(param, f"{prefix}_w") if has_w else low,
        )
    if not values and default is None:
        raise layer.mistake(f"{repeated} is missing")
    values = values or [default or 0]
    if len(values) not in (1, spatial):
        raise layer.mistake(f"{repeated} is given {len(values)} times, for {spatial} axes")
    return tuple(values) if len(values) == spatial else tuple(values) * spatial
