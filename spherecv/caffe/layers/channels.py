"""Layers that move numbers between places: ShuffleChannel, PixelShuffle, Reorg, Flip, Tile, Unsqueeze, Im2col, Axpy."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value, axis_of, known, places, reshape_target
from spherecv.caffe.layers.convolution import Convolution
from spherecv.caffe.layers.window import four_axes

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_TRANSCRIPTION = "a transcription of its definition"
_MOST_TILES = 1 << 16
_MOST_PICKS = 1 << 24  # numbers in the kernels of an Im2col


def rearranged(graph: OnnxGraph, value: str, split: Sequence[int], order: Sequence[int], target: Sequence[int]) -> str:
    """Add what gives a value more axes, orders them, and joins them again."""
    parts = graph.node("Transpose", [graph.reshape(value, split)], perm=list(order))
    return graph.reshape(parts, target)


class Axpy(LayerKind):
    """a x + y, with a number for each channel of each image (SENet's fork)."""

    bottoms = (3, 3)
    checked = "Caffe's answers, by Scale and Eltwise"  # OpenCV 4.14's importer is wrong on it

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        factors, x, y = bottoms
        if x != y:
            raise layer.mistake(f"its second and third bottoms have different shapes: {x}, {y}")
        if len(x) < 2 or factors[:2] != x[:2] or any(size != 1 for size in factors[2:]):
            raise layer.mistake(f"its first bottom {factors} has not one number for each image and channel of {x}")
        return [x]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        factors, x, y = bottoms
        name = factors.name
        if len(factors.shape) != len(x.shape):
            name = graph.reshape(name, reshape_target((*factors.shape[:2], *(1,) * (len(x.shape) - 2)), kept=2))
        return [graph.node("Add", [graph.node("Mul", [x.name, name]), y.name])]


class ShuffleChannel(LayerKind):
    """Channels of groups dealt out in turn (ShuffleNet's fork)."""

    checked = _TRANSCRIPTION

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        groups, shape = layer.param.shuffle_channel_param.group, bottoms[0]
        if len(shape) < 2 or groups < 1 or shape[1] % groups:
            raise layer.mistake(f"group {groups} does not divide the channels of {shape}")
        return [shape]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        (channels,) = known(bottoms[0].shape[1:2])
        order = places(layer, channels).reshape(layer.param.shuffle_channel_param.group, -1).T.reshape(-1)
        return [graph.gather(bottoms[0].name, order, 1)]


class Flip(LayerKind):
    """The image mirrored, left to right or upside down (a fork's layer)."""

    checked = _TRANSCRIPTION

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, (name, shape) = layer.param.flip_param, bottoms[0]
        for wanted, axis in ((param.flip_height, 2), (param.flip_width, 3)):
            if wanted:
                name = graph.gather(name, places(layer, known(shape[axis : axis + 1])[0])[::-1], axis)
        return [name]


class PixelShuffle(LayerKind):
    """Channels spread over finer pixels."""

    checked = "Caffe's answers (SSD build)"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        factor = layer.param.pixelshuffle_param.upscale_factor
        batch, channels, height, width = bottoms[0]
        if factor < 1 or channels % factor**2:
            raise layer.mistake(f"upscale_factor {factor} does not fit {channels} channels")
        return [(batch, channels // factor**2, height * factor, width * factor)]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        factor, (name, shape) = layer.param.pixelshuffle_param.upscale_factor, bottoms[0]
        channels, height, width = known(shape[1:])
        split = [-1, channels // factor**2, factor, factor, height, width]
        return [rearranged(graph, name, split, (0, 1, 4, 2, 5, 3), reshape_target((None, *known(tops[0][1:]))))]


class Reorg(LayerKind):
    """Pixels of a square made channels, in the order of darknet (YOLO's forks)."""

    checked = _TRANSCRIPTION

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        param = layer.param.reorg_param
        stride = param.stride
        batch, channels, height, width = bottoms[0]
        if stride < 1 or channels % stride**2:
            raise layer.mistake(f"stride {stride} does not fit {channels} channels")
        if param.reverse:
            return [(batch, channels // stride**2, height * stride, width * stride)]
        if height % stride or width % stride:
            raise layer.mistake(f"stride {stride} does not divide height and width of {bottoms[0]}")
        return [(batch, channels * stride**2, height // stride, width // stride)]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        stride = layer.param.reorg_param.stride
        channels, height, width = known(bottoms[0].shape[1:])
        # darknet takes the numbers for those of a larger map with fewer channels, whatever the shapes say.
        least = channels // stride**2
        target = reshape_target((None, *known(tops[0][1:])))
        if layer.param.reorg_param.reverse:
            split = [-1, stride, stride, least, height, width]
            return [rearranged(graph, bottoms[0].name, split, (0, 3, 4, 1, 5, 2), target)]
        split = [-1, least, height, stride, width, stride]
        return [rearranged(graph, bottoms[0].name, split, (0, 3, 5, 1, 2, 4), target)]


class Tile(LayerKind):
    """A blob repeated along an axis."""

    checked = "Caffe's answers"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, shape = layer.param.tile_param, bottoms[0]
        axis = axis_of(layer, param.axis, len(shape))
        if not 1 <= param.tiles <= _MOST_TILES:
            raise layer.mistake(f"tiles must be from 1 to {_MOST_TILES}, but is {param.tiles}")
        return [(*shape[:axis], shape[axis] * param.tiles, *shape[axis + 1 :])]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, (name, shape) = layer.param.tile_param, bottoms[0]
        if param.tiles == 1:
            return [name]
        repeats = np.ones(len(shape), np.int64)
        repeats[axis_of(layer, param.axis, len(shape))] = param.tiles
        return [graph.node("Tile", [name, graph.constant(repeats, "repeats")])]


class Unsqueeze(LayerKind):
    """A new axis of one (a fork's layer)."""

    checked = "Caffe's answers (SSD build)"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        axis = axis_of(layer, layer.param.unsqueeze_param.dim, len(shape), end=True)
        return [(*shape[:axis], 1, *shape[axis:])]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        axis = axis_of(layer, layer.param.unsqueeze_param.dim, len(bottoms[0].shape), end=True)
        return [graph.reshape(bottoms[0].name, reshape_target(tops[0], kept=axis))]


class Im2col(Convolution):
    """The windows of a convolution made channels."""

    bottoms = (1, 1)
    tops = (1, 1)
    checked = "Caffe's answers"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        batch, channels, *sizes = bottoms[0]
        window = self.window(layer, bottoms[0])
        if channels * math.prod(window.kernel) ** 2 > _MOST_PICKS:
            raise layer.unsupported(f"its kernel {window.kernel} is too large")
        out = map(self._output, sizes, window.pad, window.extent, window.stride)
        return [(batch, channels * window.kernel[0] * window.kernel[1], *out)]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return []

    def macs(self, layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 0

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        (channels,) = known(bottoms[0].shape[1:2])
        window = self.window(layer, bottoms[0].shape)
        count = window.kernel[0] * window.kernel[1]
        # A convolution of each channel by kernels that pick one place each.
        picks = np.tile(np.eye(count, dtype=np.float32).reshape(count, 1, *window.kernel), (channels, 1, 1, 1))
        return [self.emit_as("Conv", window, channels, [picks], bottoms[0].name, graph)]

