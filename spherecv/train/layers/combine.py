# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Layers that bring blobs of one shape together, hand them on, or swallow them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from spherecv.caffe.spherecv_caffe_pb2 import EltwiseParameter
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import MANY, Layer
from spherecv.train.params import Shape


class Eltwise(Layer):
    """Sum (with coefficients), product or maximum of equal shapes."""

    takes = (2, MANY)
    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.eltwise_param
        if len(set(shapes)) != 1:
            raise self.spec.mistake(f"needs two or more bottoms of one shape, but got {list(shapes)}")
        self.kind = settings.operation
        if settings.coeff and self.kind == EltwiseParameter.PROD:
            raise self.spec.mistake("has coefficients, which a product does not take")
        if settings.coeff and len(settings.coeff) != len(shapes):
            raise self.spec.mistake(f"has {len(settings.coeff)} coefficients for {len(shapes)} bottoms")
        self.coeff = list(settings.coeff) or [1.0] * len(shapes)
        self.stable = settings.stable_prod_grad
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

        top = self.backend.blocks(combine, bottoms)
        if self.kind == EltwiseParameter.PROD and not self.stable:
            self._kept.append(top)
        return [top]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        dy, kept, blocks = grads[0], self._take(), self.backend.blocks
        if self.kind == EltwiseParameter.SUM:
            return [dy if c == 1 else blocks(lambda g, c=c: c * g, (dy,)) for c in self.coeff]
        if self.kind == EltwiseParameter.PROD and not self.stable:
            *parts, top = kept
            return [blocks(lambda g, y, x: g * (y / x), (dy, top, part)) for part in parts]
        out: list[Array | None] = []
        for index in range(len(kept)):
            others = [kept[i] for i in range(len(kept)) if i != index]
            if self.kind == EltwiseParameter.PROD:
                out.append(blocks(lambda g, *rest: g * math.prod(rest[1:], start=rest[0]), (dy, *others)))
            else:
                out.append(blocks(self._winner(index), (dy, *kept)))
        return out

    def _winner(self, index: int) -> Callable[..., Array]:
        """Return the gradient of a maximum for one bottom; of equals Caffe takes the second of the first two."""
        xp = self.backend.xp

        def back(dy: Array, *parts: Array) -> Array:
            mine, wins = parts[index], None
            for i, part in enumerate(parts):
                if i != index:
                    strictly = i == 1 if index == 0 else 1 < index > i
                    this = mine > part if strictly else mine >= part
                    wins = this if wins is None else xp.logical_and(wins, this)
            return xp.where(wins, dy, xp.zeros_like(dy))

        return back


class Split(Layer):
    """The same blob under several names."""

    gives = (1, MANY)
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

    takes = (1, MANY)
    gives = (0, 0)
    differentiable = False

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        return []

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        return []

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [None] * len(needed)
