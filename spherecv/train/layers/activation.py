# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Layers that look at one number at a time: PReLU, ReLU, Sigmoid, TanH, Dropout."""

from __future__ import annotations

from collections.abc import Sequence

from spherecv.train.axes import axis_back, axis_last, internal_axis
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.params import BlobOrder, Shape


class PReLU(Layer):
    """A slope below zero that is learnt, per channel or (`channel_shared`) one for all."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.prelu_param, shapes[0]
        if not 2 <= len(shape) <= 4:
            raise self.spec.mistake(f"needs two to four axes, but got {shape}")
        filler = settings.filler
        self.channel = internal_axis(1, len(shape))
        order = BlobOrder.plain(() if settings.channel_shared else (shape[self.channel],))
        # Caffe's default slope is 0.25, where a filler's own default would be 0.
        self.slope = self._param(0, filler, order, value=None if settings.HasField("filler") else 0.25)
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        self._kept = axis_last(self.backend.xp, bottoms[0], self.channel)
        return [axis_back(self.backend.xp, self.backend.rectify(self._kept, self.slope.data), self.channel)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        x, learns = self._take(), self.slope.trainable
        dy = axis_last(self.backend.xp, grads[0], self.channel)
        dx, dslope = self.backend.rectify_backward(x, self.slope.data, dy, need_slope=learns)
        if dslope is not None:
            if self.slope.data.shape[0] == 1:
                dslope = self.backend.xp.sum(dslope, axis=0, keepdims=True)
            self.slope.add_grad(self.backend, dslope)
        return [axis_back(self.backend.xp, dx, self.channel) if needed[0] else None]


class ReLU(Layer):
    """max(x, 0), with `negative_slope` below zero."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        self.slope = float(self.spec.param.relu_param.negative_slope)
        # In place the bottom is gone when its gradient is computed, and Caffe looks at the top's sign.
        self.by_top = self.slope < 0 and list(self.spec.param.bottom) == list(self.spec.param.top)
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, slope = self.backend.xp, self.slope
        zero = xp.zeros((), dtype=self.backend.dtype)
        y = self.backend.blocks(lambda x: xp.maximum(x, zero) + slope * xp.minimum(x, zero), bottoms)
        self._kept = y if self.by_top else bottoms[0]
        return [y]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, slope, x = self.backend.xp, self.slope, self._take()

        def back(x: Array, dy: Array) -> Array:
            return dy + (slope - 1) * (xp.astype(x <= 0, x.dtype) * dy)

        return [self.backend.blocks(back, (x, grads[0]))]


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp = self.backend.xp
        self._kept = self.backend.blocks(lambda x: 0.5 * xp.tanh(0.5 * x) + 0.5, bottoms)
        return [self._kept]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [self.backend.blocks(lambda y, dy: dy * y * (1 - y), (self._take(), grads[0]))]


class TanH(Layer):
    """The hyperbolic tangent."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        self._kept = self.backend.blocks(self.backend.xp.tanh, bottoms)
        return [self._kept]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [self.backend.blocks(lambda y, dy: dy * (1 - y * y), (self._take(), grads[0]))]


class Dropout(Layer):
    """Numbers are dropped while training, and the others scaled up so that the expectation stays."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        self.ratio = float(self.spec.param.dropout_param.dropout_ratio)
        if not 0 <= self.ratio < 1:
            raise self.spec.mistake(f"dropout_ratio must be in [0, 1), but is {self.ratio}")
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        if not self.context.train:
            self._kept = None
            return [bottoms[0]]
        kept = self.context.rng.random(bottoms[0].shape) >= self.ratio
        self._kept = self.backend.asarray(kept / (1.0 - self.ratio))
        return [self.backend.blocks(lambda x, mask: x * mask, (bottoms[0], self._kept))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        mask = self._take()
        if mask is None:
            return [grads[0]]
        return [self.backend.blocks(lambda dy, mask: dy * mask, (grads[0], mask))]
