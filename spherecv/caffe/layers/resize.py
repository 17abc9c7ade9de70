"""Layers that change the size of maps: Interp, Resize, BilinearInterpolate, Upsample, MaxUnPool and Pad."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value, known, places
from spherecv.caffe.layers.window import four_axes
from spherecv.caffe.spherecv_caffe_pb2 import PadParameter
from spherecv.caffe.tail import Step

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_TRANSCRIPTION = "a float64 transcription of its definition"
_MOST_FACTOR = 1 << 12
_MOST_WEIGHTS = 1 << 24  # numbers in the matrix of an interpolation, old side by new


class Bilinear(LayerKind):
    """Interpolation between the four nearest pixels: two products by matrices, which all runtimes compute alike."""

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        (start, end), size = self.crop(layer), bottoms[0][2:]
        inside = (size[0] - start - end, size[1] - start - end)
        if min(inside) < 1:
            raise layer.mistake(f"cuts off more than its bottom {bottoms[0]} has")
        height, width = self.size(layer, inside) if len(bottoms) == 1 else bottoms[1][2:]
        if max(height * inside[0], width * inside[1]) > _MOST_WEIGHTS:
            raise layer.unsupported(f"cannot make {height} x {width} of {inside[0]} x {inside[1]}: too large")
        return [(*bottoms[0][:2], height, width)]

    def size(self, layer: Layer, size: Sequence[int]) -> tuple[int, int]:
        """Return the new height and width."""
        raise NotImplementedError

    def crop(self, layer: Layer) -> tuple[int, int]:
        """Return how many pixels are cut off every side before: at the start and at the end."""
        return 0, 0

    def corners_meet(self, layer: Layer) -> bool:
        """Tell whether the centres of the corner pixels lie on each other, rather than the corners of the images."""
        raise NotImplementedError

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        value, (start, end) = bottoms[0].name, self.crop(layer)
        sizes, wanted = known(bottoms[0].shape[2:]), known(tops[0][2:])
        if start or end:
            value = graph.slice(value, [start] * 2, [size - end for size in sizes], [2, 3])
            sizes = tuple(size - start - end for size in sizes)
        if sizes == wanted:
            return [value]
        meet = self.corners_meet(layer)
        for size, target in zip(sizes[::-1], wanted[::-1], strict=True):  # the last axis, then the other in its place
            matrix = self.weights(size, target, meet).T
            value = graph.node("MatMul", [value, graph.constant(np.ascontiguousarray(matrix), "weights")])
            value = graph.node("Transpose", [value], perm=[0, 1, 3, 2])
        return [value]

    def weights(self, size: int, wanted: int, corners_meet: bool) -> Array:
        """Return how much each old place counts for each new one, (wanted, size)."""
        places = np.arange(wanted, dtype=np.float64)
        if corners_meet:
            places *= (size - 1) / (wanted - 1) if wanted > 1 else 0.0
        else:
            places = (places + 0.5) * size / wanted - 0.5
        places = np.clip(places, 0, size - 1)
        low = np.minimum(np.floor(places).astype(int), max(size - 2, 0))
        matrix = np.zeros((wanted, size))
        rows = np.arange(wanted)
        matrix[rows, low] = 1 - (places - low)
        matrix[rows, np.minimum(low + 1, size - 1)] += places - low
        return matrix.astype(np.float32)


class Interp(Bilinear):
    """Bilinear interpolation to a size or by whole factors (DeepLab's and PSPNet's forks)."""

    bottoms = (1, 2)
    checked = _TRANSCRIPTION

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms) == 2:
            four_axes(layer, bottoms[1])
            if layer.param.HasField("interp_param") and self._fields(layer) - {"pad_beg", "pad_end", "align_corners"}:
                raise layer.mistake("takes the size of its second bottom or settings, not both")
        shape = super().top_shapes(layer, bottoms)[0]
        return [shape]

    def _fields(self, layer: Layer) -> set[str]:
        return {field.name for field, _ in layer.param.interp_param.ListFields()}

    def size(self, layer: Layer, size: Sequence[int]) -> tuple[int, int]:
        param, given = layer.param.interp_param, self._fields(layer)
        zoom, shrink = "zoom_factor" in given, "shrink_factor" in given
        if ("height" in given) != ("width" in given):
            raise layer.mistake("give both height and width")
        if "height" in given and not (zoom or shrink):
            if min(param.height, param.width) < 1:
                raise layer.mistake("height and width must be positive")
            return param.height, param.width
        if not zoom and not shrink:
            raise layer.mistake("needs height and width, zoom_factor, shrink_factor, or a second bottom")
        if "height" in given:
            raise layer.mistake("give height and width or factors, not both")
        if min(param.zoom_factor, param.shrink_factor) < 1:
            raise layer.mistake("zoom_factor and shrink_factor must be at least 1")
        shrunk = [(side - 1) // param.shrink_factor + 1 for side in size]
        height, width = (side + (side - 1) * (param.zoom_factor - 1) for side in shrunk)
        return height, width

    def crop(self, layer: Layer) -> tuple[int, int]:
        param = layer.param.interp_param
        if param.pad_beg > 0 or param.pad_end > 0:
            raise layer.mistake("pad_beg and pad_end must not be positive: Interp can only cut off")
        return -param.pad_beg, -param.pad_end

    def corners_meet(self, layer: Layer) -> bool:
        return bool(layer.param.interp_param.align_corners)


class Resize(Bilinear):
    """Bilinear interpolation to a size or by factors (a fork's layer)."""

    checked = "Caffe's answers (SSD build)"

    def size(self, layer: Layer, size: Sequence[int]) -> tuple[int, int]:
        param = layer.param.resize_param
        if param.is_pyramid_test:
            factors = param.out_height_scale, param.out_width_scale
            if not all(0 < factor < _MOST_FACTOR for factor in factors):
                raise layer.mistake(f"out_height_scale and out_width_scale must lie between 0 and {_MOST_FACTOR}")
            height, width = (int(np.float32(factor) * np.float32(side)) for factor, side in
                             zip(factors, size, strict=True))  # fmt: skip
            return height, width
        if min(param.height, param.width) < 1:
            raise layer.mistake("height and width are missing")
        return param.height, param.width

    def corners_meet(self, layer: Layer) -> bool:
        return False

    def weights(self, size: int, wanted: int, corners_meet: bool) -> Array:
        # Corners of images on each other, without half a pixel; beyond the last pixel there are zeros.
        places = np.arange(wanted) * size / wanted
        low = np.floor(places).astype(int)
        matrix = np.zeros((wanted, size + 1))
        rows = np.arange(wanted)
        matrix[rows, low] = 1 - (places - low)
        matrix[rows, low + 1] = places - low
        return matrix[:, :size].astype(np.float32)


class BilinearInterpolate(Bilinear):
    """Bilinear interpolation to a size or by a factor (a fork's layer)."""

    checked = "Caffe's answers (SSD build)"

    def size(self, layer: Layer, size: Sequence[int]) -> tuple[int, int]:
        param = layer.param.bilinear_interpolate_param
        sized = param.HasField("dst_h") or param.HasField("dst_w")
        if sized == param.HasField("scale_factor"):
            raise layer.mistake("give dst_h and dst_w or scale_factor, one of the two")
        if min(size) < 2:
            raise layer.unsupported(f"reads beyond maps of one pixel, as its bottom is: {tuple(size)}")
        if sized:
            height = param.dst_h if param.HasField("dst_h") else size[0]
            width = param.dst_w if param.HasField("dst_w") else size[1]
            return height, width
        factor = np.float32(param.scale_factor)
        if not 0 < factor < _MOST_FACTOR:
            raise layer.mistake(f"scale_factor must lie between 0 and {_MOST_FACTOR}")
        return int(np.float32(size[0]) * factor), int(np.float32(size[1]) * factor)

    def corners_meet(self, layer: Layer) -> bool:
        return bool(layer.param.bilinear_interpolate_param.align_corners)


class Upsample(LayerKind):
    """Every pixel repeated (YOLO's forks); or, with a mask, maxima put back to where they were (SegNet's fork)."""

    bottoms = (1, 2)
    checked = f"Caffe's answers (SSD build); with a mask: {_TRANSCRIPTION}"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param, shape = layer.param.upsample_param, bottoms[0]
        if len(bottoms) == 2:
            _same_maps(layer, bottoms)
            return [(*shape[:2], *self._unpooled(layer, shape[2:]))]
        if len(param.ListFields()) > param.HasField("scale") + param.HasField("dims_num"):
            raise layer.mistake("takes only scale, unless it has a mask as second bottom")
        if param.dims_num not in (3, 4) or (param.HasField("dims_num") and param.dims_num != len(shape)):
            raise layer.mistake(f"dims_num {param.dims_num} does not fit its bottom {shape}")
        if len(shape) != param.dims_num:
            raise layer.unsupported(f"works on blobs of four axes, but its bottom has the shape {shape}")
        scale = self._scale(layer)
        return [(*shape[:2], *(size * scale for size in shape[2:]))]

    @staticmethod
    def _scale(layer: Layer) -> int:
        param = layer.param.upsample_param
        scale = param.scale if param.HasField("scale") else 1
        if scale < 1:
            raise layer.mistake(f"scale must be positive, but is {scale}")
        return int(scale)

    @staticmethod
    def _unpooled(layer: Layer, size: Shape) -> Shape:
        param = layer.param.upsample_param
        if param.HasField("scale") and (param.HasField("scale_h") or param.HasField("scale_w")):
            raise layer.mistake("give scale or scale_h and scale_w, not both")
        if param.HasField("scale_h") != param.HasField("scale_w"):
            raise layer.mistake("give both scale_h and scale_w")
        both = (param.scale_h, param.scale_w) if param.HasField("scale_h") else (param.scale, param.scale)
        given = (param.upsample_h, param.upsample_w)
        cut = (param.pad_out_h, param.pad_out_w)
        return tuple(
            stated or side * scale - less for side, scale, stated, less in zip(size, both, given, cut, strict=True)
        )

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        if len(bottoms) == 1:
            return None
        height, width = self._unpooled(layer, known(bottoms[0][2:]))
        return Step("MaxUnPool", {"height": height, "width": width})

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        scale, value = self._scale(layer), bottoms[0].name
        if scale == 1:
            return [value]
        for axis, size in enumerate(known(bottoms[0].shape[2:]), start=2):
            places(layer, size * scale)
            value = graph.gather(value, np.repeat(places(layer, size), scale), axis)
        return [value]


class MaxUnPool(LayerKind):
    """Maxima put back to where a mask says that they were, zeros between them."""

    bottoms = (2, 2)
    checked = "Caffe's answers (SSD build)"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        _same_maps(layer, bottoms)
        param = layer.param.max_unpool_param
        if min(param.dst_h, param.dst_w) < 1:
            raise layer.mistake("dst_h and dst_w are missing")
        return [(*bottoms[0][:2], param.dst_h, param.dst_w)]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        param = layer.param.max_unpool_param
        return Step("MaxUnPool", {"height": param.dst_h, "width": param.dst_w})


class Pad(LayerKind):
    """A border of constants, of the nearest pixels, or of mirrored ones; negative on all sides: cut off (a fork's)."""

    checked = "Caffe's answers (SSD build)"

    @staticmethod
    def _sides(layer: Layer) -> tuple[int, int, int, int]:
        param = layer.param.pad_param
        return param.pad_u, param.pad_d, param.pad_l, param.pad_r

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        up, down, left, right = self._sides(layer)
        if min(up, down, left, right) < 0 and max(up, down, left, right) >= 0:
            raise layer.unsupported("pads must be negative on all four sides or on none")
        batch, channels, height, width = bottoms[0]
        if layer.param.pad_param.pad_type == PadParameter.REFLECT and (
            max(up, down) > height - 1 or max(left, right) > width - 1
        ):
            raise layer.mistake(f"cannot mirror a border as wide as the image: {bottoms[0]}")
        return [(batch, channels, height + up + down, width + left + right)]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, (name, shape) = layer.param.pad_param, bottoms[0]
        up, down, left, right = self._sides(layer)
        if min(up, left) < 0:
            return [graph.slice(name, [-up, -left], [down, right], [2, 3])]
        if not any((up, down, left, right)):
            return [name]
        if param.pad_type == PadParameter.CONSTANT:
            edges = graph.constant(np.array([0, 0, up, left, 0, 0, down, right], np.int64), "pads")
            return [graph.node("Pad", [name, edges, graph.constant(np.float32(param.pad_value), "border")])]
        for axis, before, after in ((2, up, down), (3, left, right)):
            if before or after:
                (size,) = known(shape[axis : axis + 1])
                order = places(layer, before + size + after) - before
                if param.pad_type == PadParameter.REPLICATE:
                    order = np.clip(order, 0, size - 1)
                else:  # mirrored at the outer pixels, which are not repeated
                    order = (size - 1) - np.abs((size - 1) - np.abs(order))
                name = graph.gather(name, order, axis)
        return [name]


def _same_maps(layer: Layer, bottoms: Sequence[Shape]) -> None:
    four_axes(layer, bottoms[0])
    if bottoms[0] != bottoms[1]:
        raise layer.mistake(f"its maxima and their mask have different shapes: {bottoms[0]}, {bottoms[1]}")
