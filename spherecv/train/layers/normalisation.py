# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""BatchNorm and Scale, which Caffe keeps apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.params import BlobOrder, Shape


class BatchNorm(Layer):
    """Caffe's BatchNorm: mean and variance per channel, without scale and shift.

    Its three blobs are running sums of means and variances and the factor to divide them by; a solver never changes
    them. With `use_global_stats` (the default outside training) the stored statistics are used.
    """

    @property
    def imagewise(self) -> bool:  # type: ignore[override]
        """Whether the stored statistics are used, not the batch's."""
        return not self.context.train if self.stored is None else self.stored

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.batch_norm_param, shapes[0]
        if settings.scale_bias or settings.HasField("scale_filler") or settings.HasField("bias_filler"):
            raise self.spec.unsupported("NVCaffe's scale and bias are not known: put a Scale layer behind it")
        channels = shape[-1]
        self.eps, self.keep = float(settings.eps), float(settings.moving_average_fraction)
        self.stored = settings.use_global_stats if settings.HasField("use_global_stats") else None
        orders = [BlobOrder.plain(size) for size in ((channels,), (channels,), (1,))]
        self.mean, self.variance, self.factor = (
            self._param(index, None, order, learned=False, value=0.0) for index, order in enumerate(orders)
        )
        return [shape]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, x, blocks = self.backend.xp, bottoms[0], self.backend.blocks
        stored = self.imagewise
        if stored:
            factor = float(self.factor.data[0])
            scale = 0.0 if factor == 0 else 1.0 / factor
            mean, variance = self.mean.data * scale, self.variance.data * scale
        else:
            count = math.prod(x.shape[:-1])
            total = blocks(lambda x: xp.sum(x, axis=0), (x,), news=0, sums=1)
            mean = total / count
            squares = blocks(lambda x, m: xp.sum((x - m) * (x - m), axis=0), (x,), (mean,), news=0, sums=1)
            variance = squares / count
            self._remember(mean, variance, count)
        inverse = 1.0 / xp.sqrt(variance + self.eps)
        y = blocks(lambda x, m, i: (x - m) * i, (x,), (mean, inverse))
        self._kept = (None if stored else y, inverse)
        return [y]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, dy, blocks = self.backend.xp, grads[0], self.backend.blocks
        y, inverse = self._take()
        if y is None:
            return [blocks(lambda dy, i: dy * i, (dy,), (inverse,))]
        count = math.prod(y.shape[:-1])
        total, along = blocks(lambda y, dy: (xp.sum(dy, axis=0), xp.sum(y * dy, axis=0)), (y, dy), news=0, sums=2)
        return [blocks(lambda y, dy, t, a, i: (dy - t - y * a) * i, (y, dy), (total / count, along / count, inverse))]

    def _remember(self, mean: Array, variance: Array, count: int) -> None:
        unbiased = count / (count - 1) if count > 1 else 1.0
        self.mean.data = self.mean.data * self.keep + mean
        self.variance.data = self.variance.data * self.keep + variance * unbiased
        self.factor.data = self.factor.data * self.keep + 1.0


class Scale(Layer):
    """A factor per channel that is learnt, and with `bias_term` a shift."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.scale_param
        if len(shapes) != 1 or settings.axis != 1 or settings.num_axes != 1:
            raise self.spec.unsupported("only one bottom, axis: 1 and num_axes: 1 are known")
        order = BlobOrder.plain((shapes[0][-1],))
        self.factor = self._param(0, settings.filler, order, value=None if settings.HasField("filler") else 1.0)
        self.shift = self._param(1, settings.bias_filler, order) if settings.bias_term else None
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        self._kept = bottoms[0]
        if self.shift is None:
            return [self.backend.blocks(lambda x, f: x * f, bottoms, (self.factor.data,))]
        return [self.backend.blocks(lambda x, f, s: x * f + s, bottoms, (self.factor.data, self.shift.data))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, x, dy = self.backend.xp, self._take(), grads[0]

        def back(x: Array, dy: Array, factor: Array) -> tuple[Array, Array, Array]:
            return dy * factor, xp.sum(x * dy, axis=0), xp.sum(dy, axis=0)

        dx, dfactor, dshift = self.backend.blocks(back, (x, dy), (self.factor.data,), sums=2)
        if self.factor.trainable:
            self.factor.add_grad(self.backend, dfactor)
        if self.shift is not None and self.shift.trainable:
            self.shift.add_grad(self.backend, dshift)
        return [dx]
