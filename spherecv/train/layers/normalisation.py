# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""BatchNorm, Scale and Bias, which Caffe keeps apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spherecv.train.axes import axis_back, axis_last, caffe_shape, internal_axis, to_caffe, to_internal
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.params import BlobOrder, Param, Shape


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
        if not shape or any(param.lr_mult for param in self.spec.param.param):
            raise self.spec.mistake(
                "needs a bottom with axes" if not shape else "has an lr_mult, but its statistics cannot be learnt"
            )
        # A blob of one axis has one channel, all others theirs on the second axis of Caffe's order.
        self.channel = internal_axis(1, len(shape)) if len(shape) > 1 else None
        channels = 1 if self.channel is None else shape[self.channel]
        self.eps, self.keep = float(settings.eps), float(settings.moving_average_fraction)
        self.stored = settings.use_global_stats if settings.HasField("use_global_stats") else None
        orders = [BlobOrder.plain(size) for size in ((channels,), (channels,), (1,))]
        self.mean, self.variance, self.factor = (
            self._param(index, None, order, learned=False, value=0.0) for index, order in enumerate(orders)
        )
        return [shape]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, x, blocks = self.backend.xp, self._last(bottoms[0]), self.backend.blocks
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
        return [self._back(y)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, dy, blocks = self.backend.xp, self._last(grads[0]), self.backend.blocks
        y, inverse = self._take()
        if y is None:
            return [self._back(blocks(lambda dy, i: dy * i, (dy,), (inverse,)))]
        count = math.prod(y.shape[:-1])
        total, along = blocks(lambda y, dy: (xp.sum(dy, axis=0), xp.sum(y * dy, axis=0)), (y, dy), news=0, sums=2)
        terms = (total / count, along / count, inverse)
        return [self._back(blocks(lambda y, dy, t, a, i: (dy - t - y * a) * i, (y, dy), terms))]

    def _last(self, x: Array) -> Array:
        """Return an array with its channels last."""
        return x[:, None] if self.channel is None else axis_last(self.backend.xp, x, self.channel)

    def _back(self, x: Array) -> Array:
        return x[:, 0] if self.channel is None else axis_back(self.backend.xp, x, self.channel)

    def _remember(self, mean: Array, variance: Array, count: int) -> None:
        unbiased = count / (count - 1) if count > 1 else 1.0
        self.mean.data = self.mean.data * self.keep + mean
        self.variance.data = self.variance.data * self.keep + variance * unbiased
        self.factor.data = self.factor.data * self.keep + 1.0


class Affine(Layer):
    """What Scale and Bias have in common: numbers for some axes of the bottom, learnt or from a second bottom."""

    takes = (1, 2)
    imagewise = True

    def covered(self, shapes: Sequence[Shape], axis: int, count: int) -> Shape:
        """Find the axes that the numbers are for, and return the numbers' shape in Caffe's order.

        Parameters
        ----------
        shapes : sequence of shape
            Of the bottoms.
        axis, count : int
            The first axis, and how many: all from there on if -1. A second bottom says by itself how many.
        """
        shape = caffe_shape(shapes[0])
        rank = len(shape)
        if len(shapes) == 2:
            second = caffe_shape(shapes[1])
            first = self.axis(axis, rank) if second else 0
            own = second
        else:
            first = self.axis(axis, rank)
            own = shape[first:] if count == -1 else shape[first : first + count]
            if count < -1 or (count >= 0 and len(own) != count):
                raise self.spec.mistake(f"num_axes {count} from axis {axis} do not fit {rank} axes")
        if shape[first : first + len(own)] != own:
            raise self.spec.mistake(f"its second bottom {own} does not fit the first one {shape} at axis {axis}")
        self.first, self.own = first, own
        # Numbers for the images themselves cannot be cut into lanes, nor can those of a second bottom.
        self.imagewise = len(shapes) == 1 and first > 0
        self.plain = len(shapes) == 1 and first == 1 and len(own) == 1 and rank in (2, 4)
        return own

    def learned(self, index: int, filler: object, start: float | None) -> Param:
        """Make the numbers as a parameter."""
        return self._param(index, filler, BlobOrder.plain(self.own), value=start)

    def spread(self, numbers: Array, rank: int) -> Array:
        """Return numbers in Caffe's order as an array that fits the bottom, axis by axis."""
        xp, after = self.backend.xp, rank - self.first - len(self.own)
        numbers = xp.reshape(numbers, (*[1] * self.first, *self.own, *[1] * after))
        return to_internal(xp, numbers)

    def gathered(self, terms: Array) -> Array:
        """Return the sum of terms over all that each number stands for, in Caffe's order."""
        xp = self.backend.xp
        terms = to_caffe(xp, terms)
        covered = range(self.first, self.first + len(self.own))
        axes = tuple(axis for axis in range(terms.ndim) if axis not in covered)
        return xp.sum(terms, axis=axes) if axes else terms

    def add_grad(self, param: Param | None, terms: Array) -> None:
        """Add the sum of terms to a parameter's gradient, if it learns."""
        if param is not None and param.trainable:
            param.add_grad(self.backend, self.backend.xp.reshape(self.gathered(terms), param.data.shape))


class Scale(Affine):
    """A factor for each channel (or whatever axes are stated) that is learnt, and with `bias_term` a shift."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.scale_param
        self.covered(shapes, settings.axis, settings.num_axes)
        self.factor: Param | None = None
        if len(shapes) == 1:
            self.factor = self.learned(0, settings.filler, None if settings.HasField("filler") else 1.0)
        self.shift: Param | None = None
        if settings.bias_term:
            self.shift = self.learned(len(self.params), settings.bias_filler, None)
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        self._kept = list(bottoms)
        x, rank = bottoms[0], bottoms[0].ndim
        if self.plain and self.factor is not None:
            if self.shift is None:
                return [self.backend.blocks(lambda x, f: x * f, (x,), (self.factor.data,))]
            return [self.backend.blocks(lambda x, f, s: x * f + s, (x,), (self.factor.data, self.shift.data))]
        y = x * self._factor(bottoms, rank)
        return [y if self.shift is None else y + self.spread(self.shift.data, rank)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, kept, dy = self.backend.xp, self._take(), grads[0]
        x = kept[0]
        if self.plain and self.factor is not None:

            def back(x: Array, dy: Array, factor: Array) -> tuple[Array, Array, Array]:
                return dy * factor, xp.sum(x * dy, axis=0), xp.sum(dy, axis=0)

            dx, dfactor, dshift = self.backend.blocks(back, (x, dy), (self.factor.data,), sums=2)
            for param, total in ((self.factor, dfactor), (self.shift, dshift)):
                if param is not None and param.trainable:
                    param.add_grad(self.backend, total)
            return [dx]
        self.add_grad(self.shift, dy)
        self.add_grad(self.factor, x * dy)
        dx = dy * self._factor(kept, x.ndim)
        if self.factor is not None:
            return [dx]
        return [dx, to_internal(xp, self.gathered(x * dy)) if needed[1] else None]

    def _factor(self, bottoms: Sequence[Array], rank: int) -> Array:
        numbers = to_caffe(self.backend.xp, bottoms[1]) if self.factor is None else self.factor.data
        return self.spread(numbers, rank)


class Bias(Affine):
    """A shift for each channel, or whatever axes are stated, learnt or from a second bottom."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.bias_param
        self.covered(shapes, settings.axis, settings.num_axes)
        self.shift = self.learned(0, settings.filler, None) if len(shapes) == 1 else None
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        numbers = to_caffe(self.backend.xp, bottoms[1]) if self.shift is None else self.shift.data
        return [bottoms[0] + self.spread(numbers, bottoms[0].ndim)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        dy = grads[0]
        self.add_grad(self.shift, dy)
        if self.shift is not None:
            return [dy]
        return [dy, to_internal(self.backend.xp, self.gathered(dy)) if needed[1] else None]
