# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Layers that give numbers another place and change none: Flatten, Reshape, Permute, Tile, Crop, Slice, Concat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from spherecv.train.axes import caffe_shape, internal_axis, internal_shape, to_caffe, to_internal
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import MANY, CaffeOrderLayer, Layer
from spherecv.train.params import Shape


class Concat(Layer):
    """Joins blobs along an axis."""

    takes = (1, MANY)

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, rank = self.spec.param.concat_param, len(shapes[0])
        if settings.HasField("axis") and settings.HasField("concat_dim"):
            raise self.spec.mistake("has both axis and concat_dim: keep one")
        stated = settings.concat_dim if settings.HasField("concat_dim") else settings.axis
        axis = self.axis(stated, rank)
        self.along = internal_axis(axis, rank)
        self.imagewise = axis != 0
        rest = {(len(shape), *(s for place, s in enumerate(shape) if place != self.along)) for shape in shapes}
        if len(rest) != 1:
            raise self.spec.mistake(f"{_listed(shapes)} differ in more than the axis {axis}")
        self.widths = [shape[self.along] for shape in shapes]
        joined = list(shapes[0])
        joined[self.along] = sum(self.widths)
        return [tuple(joined)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        self._kept = [bottom.shape[self.along] for bottom in bottoms]
        return [self.backend.xp.concat(list(bottoms), axis=self.along)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return _parts(self.backend.xp, grads[0], self.along, self._take())


class Slice(Layer):
    """Cuts a blob along an axis, at `slice_point` or into equal parts."""

    gives = (1, MANY)

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape, count = self.spec.param.slice_param, shapes[0], len(self.spec.tops)
        if settings.HasField("axis") and settings.HasField("slice_dim"):
            raise self.spec.mistake("has both axis and slice_dim: keep one")
        stated = settings.slice_dim if settings.HasField("slice_dim") else settings.axis
        axis = self.axis(stated, len(shape))
        self.along = internal_axis(axis, len(shape))
        self.imagewise = axis != 0
        size, points = shape[self.along], list(settings.slice_point)
        if points:
            bounds = [0, *points, size]
            self.widths = [high - low for low, high in pairwise(bounds)]
            if len(points) != count - 1 or min(self.widths) < 1:
                raise self.spec.mistake(f"slice_point {points} does not cut {size} into {count} parts")
        elif size % count:
            raise self.spec.mistake(f"the axis {axis} has {size} numbers, which cannot be cut into {count} equal parts")
        else:
            self.widths = [size // count] * count
        return [(*shape[: self.along], width, *shape[self.along + 1 :]) for width in self.widths]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        size = bottoms[0].shape[self.along]
        if size != sum(self.widths):
            raise self.spec.mistake(f"cuts {sum(self.widths)} into {self.widths}, but got {size}")
        parts = _parts(self.backend.xp, bottoms[0], self.along, self.widths)
        self._kept = [part.shape for part in parts]
        return parts

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        pairs = zip(grads, self._take(), strict=True)
        filled = [self.backend.zeros(shape) if grad is None else grad for grad, shape in pairs]
        return [self.backend.xp.concat(filled, axis=self.along)]


class Flatten(Layer):
    """Makes one axis of several, in Caffe's order."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.flatten_param, caffe_shape(shapes[0])
        self.not_in_place()
        first = self.axis(settings.axis, len(shape))
        last = self.axis(settings.end_axis, len(shape), "end_axis")
        if last < first:
            raise self.spec.mistake(f"end_axis {settings.end_axis} lies before axis {settings.axis}")
        self.imagewise = first > 0
        self.first, self.last = first, last
        return [internal_shape(self._flat(shape))]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        shape = caffe_shape(bottoms[0].shape)
        self._kept = shape
        return [_reshaped(self.backend.xp, bottoms[0], self._flat(shape))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [_reshaped(self.backend.xp, grads[0], self._take())]

    def _flat(self, shape: Shape) -> Shape:
        return (*shape[: self.first], math.prod(shape[self.first : self.last + 1]), *shape[self.last + 1 :])


class Reshape(Layer):
    """Gives a blob another shape: 0 copies a size, -1 takes what is left, from `axis` over `num_axes` axes."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.reshape_param, caffe_shape(shapes[0])
        self.not_in_place()
        rank, dims = len(shape), list(settings.shape.dim)
        start = settings.axis if settings.axis >= 0 else rank + settings.axis + 1
        end = rank if settings.num_axes == -1 else start + settings.num_axes
        if not 0 <= start <= rank or settings.num_axes < -1 or end > rank:
            raise self.spec.mistake(f"axis {settings.axis} and num_axes {settings.num_axes} do not fit {rank} axes")
        if min(dims, default=1) < -1 or dims.count(-1) > 1:
            raise self.spec.mistake(f"shape {dims} may have one -1, and no other size below 0")
        copied = [start + place for place, size in enumerate(dims) if size == 0]
        if copied and copied[-1] >= end:
            raise self.spec.mistake(f"shape {dims} copies an axis that the bottom does not have")
        self.start, self.end, self.dims = start, end, dims
        return [internal_shape(self._wanted(shape))]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        shape = caffe_shape(bottoms[0].shape)
        self._kept = shape
        return [_reshaped(self.backend.xp, bottoms[0], self._wanted(shape))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [_reshaped(self.backend.xp, grads[0], self._take())]

    def _wanted(self, shape: Shape) -> Shape:
        sizes = [shape[self.start + place] if size == 0 else size for place, size in enumerate(self.dims)]
        count, known = math.prod(shape[self.start : self.end]), math.prod(size for size in sizes if size != -1)
        if (count % known if -1 in sizes else count - known) != 0:
            raise self.spec.mistake(f"the bottom {shape} cannot have the shape {self.dims}")
        sizes = [count // known if size == -1 else size for size in sizes]
        return (*shape[: self.start], *sizes, *shape[self.end :])


class Permute(CaffeOrderLayer):
    """Brings axes into another order; those that `order` leaves out follow as they are."""

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        rank, order = len(shapes[0]), list(self.spec.param.permute_param.order)
        if len(set(order)) != len(order) or any(axis >= rank for axis in order):
            raise self.spec.mistake(f"order {order} must name each of the {rank} axes once at most")
        self.order = (*order, *(axis for axis in range(rank) if axis not in order))
        return [tuple(shapes[0][axis] for axis in self.order)]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        return [self.backend.xp.permute_dims(bottoms[0], self.order)]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        inverse = sorted(range(len(self.order)), key=lambda place: self.order[place])
        return [self.backend.xp.permute_dims(grads[0], tuple(inverse))]


class Tile(CaffeOrderLayer):
    """Repeats a blob along an axis."""

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.tile_param, shapes[0]
        self.along, self.tiles = self.axis(settings.axis, len(shape)), settings.tiles
        if self.tiles < 1:
            raise self.spec.mistake(f"tiles must be at least 1, but is {self.tiles}")
        return [(*shape[: self.along], shape[self.along] * self.tiles, *shape[self.along + 1 :])]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        return [self.backend.xp.concat([bottoms[0]] * self.tiles, axis=self.along)]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp, shape = self.backend.xp, grads[0].shape
        size = shape[self.along] // self.tiles
        apart = xp.reshape(grads[0], (*shape[: self.along], self.tiles, size, *shape[self.along + 1 :]))
        return [xp.sum(apart, axis=self.along)]


class Crop(CaffeOrderLayer):
    """The part of the first bottom that has the size of the second one, from `axis` on."""

    takes = (2, 2)

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, (shape, wanted) = self.spec.param.crop_param, shapes
        rank, offsets = len(shape), list(settings.offset)
        axis = self.axis(settings.axis, rank)
        if len(wanted) != rank:
            raise self.spec.mistake(f"{_listed(shapes)} must have as many axes")
        if len(offsets) not in (0, 1, rank - axis):
            raise self.spec.mistake(f"has {len(offsets)} offsets for {rank - axis} axes")
        full = (offsets or [0]) * (rank - axis) if len(offsets) < 2 else offsets
        self.offsets = [0] * axis + full
        self.cropped = axis
        for place in range(axis, rank):
            if self.offsets[place] + wanted[place] > shape[place]:
                raise self.spec.mistake(
                    f"{wanted[place]} from {self.offsets[place]} on reaches beyond the axis {place} of {shape[place]}"
                )
        return [(*shape[:axis], *wanted[axis:])]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        x, like = bottoms
        sizes = (*x.shape[: self.cropped], *like.shape[self.cropped :])
        place = tuple(slice(low, low + size) for low, size in zip(self.offsets, sizes, strict=True))
        self._kept = (x.shape, place)
        return [x[place]]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        shape, place = self._take()
        dx = self.backend.xp.zeros(shape, dtype=self.backend.dtype)
        dx[place] = grads[0]
        return [dx, None]


def _parts(xp: Any, array: Array, axis: int, widths: Sequence[int]) -> list[Array]:
    """Cut an array into parts that are arrays of their own."""
    out, start = [], 0
    for width in widths:
        part = array[(*[slice(None)] * axis, slice(start, start + width), ...)]
        out.append(xp.asarray(part, copy=True))
        start += width
    return out


def _reshaped(xp: Any, array: Array, shape: Shape) -> Array:
    """Return an array of another shape in Caffe's order, both as they lie in memory."""
    return to_internal(xp, xp.reshape(to_caffe(xp, array), shape))


def _listed(shapes: Sequence[Shape]) -> str:
    return "the shapes " + ", ".join(str(shape) for shape in shapes)
