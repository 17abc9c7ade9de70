# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Layers that divide numbers by what is around them: LRN, MVN, Normalize."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spherecv.caffe.spherecv_caffe_pb2 import LRNParameter
from spherecv.train.backend.base import Array
from spherecv.train.geometry import PoolWindow
from spherecv.train.layers.base import CaffeOrderLayer, Layer
from spherecv.train.layers.pooling import WindowPool
from spherecv.train.params import BlobOrder, Shape


class LRN(Layer):
    """x (k + alpha mean(x^2))^-beta over neighbouring channels, or over neighbouring places of the same channel.

    Source of the formulas: Krizhevsky et al., "ImageNet Classification with Deep CNNs", 2012, with alpha divided by the
    number of neighbours as in Caffe. Within a channel Caffe passes `k` over: it is 1, and padding counts in the mean.
    """

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.lrn_param, shapes[0]
        if len(shape) != 4:
            raise self.spec.mistake(f"needs maps of four axes, but got {shape}")
        self.size, self.alpha, self.beta = int(settings.local_size), float(settings.alpha), float(settings.beta)
        if self.size % 2 == 0:
            raise self.spec.mistake(f"local_size must be odd, but is {self.size}")
        self.within = settings.norm_region == LRNParameter.WITHIN_CHANNEL
        self.k = 1.0 if self.within else float(settings.k)
        pad = self.size // 2
        self.pool = WindowPool(self.backend, PoolWindow((self.size,) * 2, (1, 1), (pad, pad)), largest=False)
        return [shape]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        x = bottoms[0]
        scale = self.k + self.alpha * self._mean(x * x)
        self._kept = (x, scale)
        return [x * scale**-self.beta]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        dy, (x, scale) = grads[0], self._take()
        power = scale**-self.beta
        dmean = (-self.beta * self.alpha) * (dy * x * power / scale)
        return [dy * power + 2 * x * self._mean_backward(dmean, x)]

    def _mean(self, squares: Array) -> Array:
        if self.within:
            return self.pool.forward(squares)
        xp, reach, channels = self.backend.xp, self.size // 2, squares.shape[3]
        around = self.backend.zeros((*squares.shape[:3], reach))
        padded = xp.concat([around, squares, around], axis=3)
        total = padded[..., :channels]
        for start in range(1, self.size):
            total = total + padded[..., start : start + channels]
        return total / self.size

    def _mean_backward(self, dmean: Array, x: Array) -> Array:
        # Neighbours across channels are neighbours both ways: the sum is its own transpose.
        return self.pool.backward(x * x, None, dmean) if self.within else self._mean(dmean)


class MVN(CaffeOrderLayer):
    """Each map (with `across_channels`, each image) minus its mean, and divided by its deviation plus `eps`."""

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.mvn_param, shapes[0]
        if not 1 <= len(shape) <= 4:
            raise self.spec.mistake(f"needs one to four axes, but got {shape}")
        self.leading = 1 if settings.across_channels else min(2, len(shape))
        self.scaled, self.eps = settings.normalize_variance, float(settings.eps)
        return [shape]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, shape = self.backend.xp, bottoms[0].shape
        x = self._rows(bottoms[0])
        y = x - xp.mean(x, axis=1, keepdims=True)
        deviation = None
        if self.scaled:
            deviation = xp.sqrt(xp.mean(y * y, axis=1, keepdims=True)) + self.eps
            y = y / deviation
        self._kept = (y, deviation)
        return [xp.reshape(y, shape)]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp, (y, deviation) = self.backend.xp, self._take()
        dy = self._rows(grads[0])
        dx = dy - xp.mean(dy, axis=1, keepdims=True)
        if deviation is not None:
            dx = (dx - y * xp.mean(dy * y, axis=1, keepdims=True)) / deviation
        return [xp.reshape(dx, grads[0].shape)]

    def _rows(self, x: Array) -> Array:
        return self.backend.xp.reshape(x, (math.prod(x.shape[: self.leading]), -1))


class Normalize(CaffeOrderLayer):
    """Each image (or with `across_spatial: false` each place) brought to length 1, times a learnt factor: SSD's."""

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.norm_param, shapes[0]
        if not 2 <= len(shape) <= 4:
            raise self.spec.mistake(f"needs two to four axes, but got {shape}")
        self.across, self.eps = settings.across_spatial, float(settings.eps)
        order = BlobOrder.plain(() if settings.channel_shared else (shape[1],))
        value = None if settings.HasField("scale_filler") else 1.0
        self.factor = self._param(0, settings.scale_filler, order, value=value)
        return [shape]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, shape = self.backend.xp, bottoms[0].shape
        x = xp.reshape(bottoms[0], (shape[0], shape[1], -1))
        length = xp.sqrt(xp.sum(x * x, axis=self._axes(), keepdims=True) + self.eps)
        self._kept = (x / length, length)
        return [xp.reshape(x / length * self.factor.data[None, :, None], shape)]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp, (unit, length) = self.backend.xp, self._take()
        dy = xp.reshape(grads[0], unit.shape)
        if self.factor.trainable:
            per_channel = xp.sum(dy * unit, axis=(0, 2))
            shared = self.factor.data.shape[0] == 1
            self.factor.add_grad(self.backend, xp.sum(per_channel, keepdims=True) if shared else per_channel)
        # The factor comes after the projection, as in the fork, where channels with factors of their own are not alike.
        along = xp.sum(dy * unit, axis=self._axes(), keepdims=True)
        dx = self.factor.data[None, :, None] * (dy - unit * along) / length
        return [xp.reshape(dx, grads[0].shape)]

    def _axes(self) -> tuple[int, ...]:
        return (1, 2) if self.across else (1,)
