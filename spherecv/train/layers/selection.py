# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Layers that choose among numbers or images, or make one number of many: ArgMax, Filter, BatchReindex, Reduction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spherecv.caffe.spherecv_caffe_pb2 import ReductionParameter
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import MANY, CaffeOrderLayer
from spherecv.train.params import Shape


class ArgMax(CaffeOrderLayer):
    """Places (and with `out_max_val` the numbers) of the `top_k` largest, along an axis or over each image."""

    differentiable = False

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.argmax_param, shapes[0]
        self.along = self.axis(settings.axis, len(shape)) if settings.HasField("axis") else None
        self.top_k, self.values = int(settings.top_k), settings.out_max_val
        size = math.prod(shape[1:]) if self.along is None else shape[self.along]
        if not 1 <= self.top_k <= size:
            raise self.spec.mistake(f"top_k must be in 1..{size}, but is {self.top_k}")
        if self.along is not None:
            return [(*shape[: self.along], self.top_k, *shape[self.along + 1 :])]
        return [(shape[0], 1 + self.values, self.top_k, *(1 for _ in shape[3:]))]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp = self.backend.xp
        x = self.backend.numpy(bottoms[0])
        rows = x.reshape(x.shape[0], -1) if self.along is None else np.moveaxis(x, self.along, -1)
        # Of equal numbers Caffe takes the last one first.
        places = rows.shape[-1] - 1 - np.argsort(-rows[..., ::-1], axis=-1, kind="stable")[..., : self.top_k]
        largest = np.take_along_axis(rows, places, axis=-1)
        if self.along is not None:
            chosen = largest if self.values else places
            return [self.backend.asarray(np.moveaxis(chosen, -1, self.along))]
        parts = [places, largest] if self.values else [places]
        top = self.backend.asarray(np.stack(parts, axis=1))
        return [xp.reshape(top, (*top.shape, *(1 for _ in x.shape[3:])))]


class BatchReindex(CaffeOrderLayer):
    """The images that the second bottom lists, in its order."""

    takes = (2, 2)

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        if len(shapes[1]) != 1:
            raise self.spec.mistake(f"its second bottom must have one axis, but has shape {shapes[1]}")
        return [(shapes[1][0], *shapes[0][1:])]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        x, order = bottoms
        wanted = self.backend.numpy(order).astype(np.int64)
        bad = wanted[(wanted < 0) | (wanted >= x.shape[0])]
        if len(bad):
            raise self.spec.mistake(f"asks for image {int(bad[0])} of {x.shape[0]}")
        index = self.backend.asindex(wanted)
        self._kept = (x.shape, index)
        return [self.backend.xp.take(x, index, axis=0)]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        shape, index = self._take()
        return [_scattered(self, shape, index, grads[0]), None]


class Filter(CaffeOrderLayer):
    """The images whose selector, the last bottom, is not 0; the number of images changes from pass to pass."""

    takes = (2, MANY)
    gives = (1, MANY)

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        *blobs, selector = shapes
        if len(self.spec.tops) != len(blobs):
            raise self.spec.mistake(f"has {len(self.spec.tops)} tops for {len(blobs)} bottoms and a selector")
        if math.prod(selector) != selector[0] or any(shape[0] != selector[0] for shape in blobs):
            raise self.spec.mistake("its selector, the last bottom, must have one number for each image")
        return list(blobs)

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        *blobs, selector = bottoms
        chosen = np.flatnonzero(self.backend.numpy(selector).reshape(-1))
        if not len(chosen):
            raise self.spec.mistake(f"its selector takes none of the {selector.shape[0]} images")
        index = self.backend.asindex(chosen)
        self._kept = ([blob.shape for blob in blobs], index)
        return [self.backend.xp.take(blob, index, axis=0) for blob in blobs]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        shapes, index = self._take()
        pairs = zip(shapes, grads, strict=True)
        return [*(_scattered(self, shape, index, grad) for shape, grad in pairs), None]


class Reduction(CaffeOrderLayer):
    """Sum, sum of magnitudes, sum of squares, or mean, over the axes from `axis` on, times `coeff`."""

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.reduction_param, shapes[0]
        self.first = self.axis(settings.axis, len(shape))
        self.kind, self.coeff = settings.operation, float(settings.coeff)
        return [shape[: self.first]]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, x = self.backend.xp, bottoms[0]
        coeff = self.coeff / (math.prod(x.shape[self.first :]) if self.kind == ReductionParameter.MEAN else 1)
        self._kept = (x, coeff)
        terms = {ReductionParameter.ASUM: xp.abs, ReductionParameter.SUMSQ: lambda x: x * x}.get(self.kind)
        axes = tuple(range(self.first, x.ndim))
        return [coeff * xp.sum(x if terms is None else terms(x), axis=axes)]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp, (x, coeff) = self.backend.xp, self._take()
        share = xp.reshape(coeff * grads[0], (*x.shape[: self.first], *(1 for _ in x.shape[self.first :])))
        if self.kind == ReductionParameter.ASUM:
            return [share * xp.sign(x)]
        return [share * (2 * x if self.kind == ReductionParameter.SUMSQ else xp.ones_like(x))]


def _scattered(layer: CaffeOrderLayer, shape: Shape, index: Array, grad: Array) -> Array:
    """Return the gradients of images added up where each image came from."""
    backend, length = layer.backend, math.prod(shape[1:])
    rows = backend.xp.reshape(grad, (grad.shape[0], length))
    return backend.xp.reshape(backend.add_rows(backend.zeros((shape[0], length)), index, rows), shape)
