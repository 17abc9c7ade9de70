# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Layers that bring blobs together, take them apart, or give them another shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from spherecv.caffe.spherecv_caffe_pb2 import EltwiseParameter
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.params import Shape


class Eltwise(Layer):
    """Sum (with coefficients), product or maximum of equal shapes."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.eltwise_param
        if len(shapes) < 2 or len(set(shapes)) != 1:
            raise self.spec.mistake(f"needs two or more bottoms of one shape, but got {list(shapes)}")
        if settings.coeff and len(settings.coeff) != len(shapes):
            raise self.spec.mistake(f"has {len(settings.coeff)} coefficients for {len(shapes)} bottoms")
        self.kind = settings.operation
        self.coeff = list(settings.coeff) or [1.0] * len(shapes)
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, coeff = self.backend.xp, self.coeff
        self._kept = None if self.kind == EltwiseParameter.SUM else list(bottoms)
        if self.kind == EltwiseParameter.SUM and len(bottoms) == 2 and coeff == [1.0, 1.0]:
            return [self.backend.add(*bottoms)]

        def combine(*parts: Array) -> Array:
            if self.kind == EltwiseParameter.SUM:
                parts = tuple(part if c == 1 else c * part for c, part in zip(coeff, parts, strict=True))
            total = parts[0]
            for part in parts[1:]:
                if self.kind == EltwiseParameter.SUM:
                    total = total + part
                elif self.kind == EltwiseParameter.PROD:
                    total = total * part
                else:
                    total = xp.maximum(total, part)
            return total

        return [self.backend.blocks(combine, bottoms)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        dy, kept, blocks = grads[0], self._take(), self.backend.blocks
        if self.kind == EltwiseParameter.SUM:
            return [dy if c == 1 else blocks(lambda g, c=c: c * g, (dy,)) for c in self.coeff]
        out: list[Array | None] = []
        for index in range(len(kept)):
            others = [kept[i] for i in range(len(kept)) if i != index]
            if self.kind == EltwiseParameter.PROD:
                out.append(blocks(lambda g, *rest: g * math.prod(rest[1:], start=rest[0]), (dy, *others)))
            else:
                out.append(blocks(self._winner(index), (dy, *kept)))
        return out

    def _winner(self, index: int) -> Callable[..., Array]:
        """Return the gradient of a maximum for one bottom; of equals the first wins."""
        xp = self.backend.xp

        def back(dy: Array, *parts: Array) -> Array:
            mine, wins = parts[index], None
            for i, part in enumerate(parts):
                if i != index:
                    this = mine > part if i < index else mine >= part
                    wins = this if wins is None else xp.logical_and(wins, this)
            return xp.where(wins, dy, xp.zeros_like(dy))

        return back


class Concat(Layer):
    """Joins blobs along the channels."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        if self.spec.param.concat_param.axis != 1:
            raise self.spec.unsupported("only axis: 1 is known")
        if len({shape[:-1] for shape in shapes}) != 1:
            raise self.spec.mistake(f"the shapes {list(shapes)} differ in more than their channels")
        self.widths = [shape[-1] for shape in shapes]
        return [(*shapes[0][:-1], sum(self.widths))]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        return [self.backend.xp.concat(list(bottoms), axis=-1)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        dy, out, start = grads[0], [], 0
        assert dy is not None  # noqa: S101 - the net calls backward with a gradient for each top it needs
        for width in self.widths:
            out.append(self.backend.xp.asarray(dy[..., start : start + width], copy=True))
            start += width
        return out


class Flatten(Layer):
    """Makes one row of each image, channel by channel as Caffe does."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.flatten_param
        if settings.axis != 1 or settings.end_axis != -1:
            raise self.spec.unsupported("only axis: 1 and end_axis: -1 are known")
        self.shape = shapes[0]
        return [(shapes[0][0], math.prod(shapes[0][1:]))]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, x = self.backend.xp, bottoms[0]
        self._kept = x.shape
        if x.ndim == 4:
            x = xp.permute_dims(x, (0, 3, 1, 2))
        return [xp.reshape(x, (x.shape[0], -1))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, shape = self.backend.xp, self._take()
        if len(shape) != 4:
            return [xp.reshape(grads[0], shape)]
        count, height, width, channels = shape
        return [xp.permute_dims(xp.reshape(grads[0], (count, channels, height, width)), (0, 2, 3, 1))]


class Split(Layer):
    """The same blob under several names."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [shapes[0]] * len(self.spec.tops)

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        return [bottoms[0]] * len(self.spec.tops)

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        given = [grad for grad in grads if grad is not None]
        if len(given) == 1:
            return [given[0]]
        return [self.backend.blocks(lambda *parts: sum(parts[1:], start=parts[0]), given)]


class Silence(Layer):
    """Swallows blobs that nobody reads."""

    differentiable = False

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        return []

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        return []

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [None] * len(needed)
