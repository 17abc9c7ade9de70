# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Pooling with Caffe's rounding of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spherecv.caffe.spherecv_caffe_pb2 import PoolingParameter
from spherecv.train.backend.base import Array
from spherecv.train.geometry import Pair, PoolWindow
from spherecv.train.layers.base import Layer
from spherecv.train.params import Shape


class Pooling(Layer):
    """Maximum or average of windows; with `global_pooling`, of the whole map."""

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, (count, height, width, channels) = self.spec.param.pooling_param, shapes[0]
        if settings.pool not in (PoolingParameter.MAX, PoolingParameter.AVE):
            raise self.spec.unsupported("stochastic pooling is not known: use MAX or AVE")

        def pair(name: str, short: str) -> Pair:
            both = (f"{short}_h", f"{short}_w")
            one = getattr(settings, name)
            return tuple(getattr(settings, f) if settings.HasField(f) else one for f in both)

        kernel = (height, width) if settings.global_pooling else pair("kernel_size", "kernel")
        stride, pad = ((1, 1), (0, 0)) if settings.global_pooling else (pair("stride", "stride"), pair("pad", "pad"))
        if min(*kernel, *stride) < 1 or pad[0] >= kernel[0] or pad[1] >= kernel[1]:
            raise self.spec.mistake(f"kernel {kernel}, stride {stride}, pad {pad} make no sense")
        self.largest = settings.pool == PoolingParameter.MAX
        ceil = settings.round_mode == PoolingParameter.CEIL and settings.ceil_mode
        self.window = PoolWindow(kernel, stride, pad, ceil=ceil)
        return [(count, *self.window.output(height, width), channels)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, x = self.backend.xp, bottoms[0]
        padded = self._padded(x)
        first, *rest = ((slice(None), *place, slice(None)) for place in self._taps(x.shape))
        total = xp.asarray(padded[first], copy=True)
        for spot in rest:
            total = xp.maximum(total, padded[spot]) if self.largest else total + padded[spot]
        if not self.largest:
            total = total / self._areas(x.shape)
        self._kept = (x, total if self.largest else None)
        return [total]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp = self.backend.xp
        dy: Array = grads[0]
        x, y = self._take()
        padded = self._padded(x)
        dpadded = xp.zeros_like(padded)
        share = dy if self.largest else dy / self._areas(x.shape)
        free = xp.ones(dy.shape, dtype=xp.bool) if self.largest else None
        for place in self._taps(x.shape):
            spot = (slice(None), *place, slice(None))
            if free is None:
                dpadded[spot] = dpadded[spot] + share
                continue
            # Of equal numbers in a window the first, in reading order, was Caffe's maximum.
            wins = xp.logical_and(free, padded[spot] == y)
            free = xp.logical_and(free, xp.logical_not(wins))
            dpadded[spot] = dpadded[spot] + xp.where(wins, share, xp.zeros_like(share))
        top, left = self.window.pad
        return [dpadded[:, top : top + x.shape[1], left : left + x.shape[2], :]]

    def _reach(self, shape: Shape) -> Pair:
        """Return how far the last windows reach, padding before the map included."""
        size = self.window.output(shape[1], shape[2])
        ends = zip(size, self.window.stride, self.window.kernel, strict=True)
        down, across = ((out - 1) * stride + kernel for out, stride, kernel in ends)
        return max(down, shape[1] + self.window.pad[0]), max(across, shape[2] + self.window.pad[1])

    def _padded(self, x: Array) -> Array:
        (top, left), (count, height, width, channels) = self.window.pad, x.shape
        down, across = self._reach(x.shape)
        if (down, across, top, left) == (height, width, 0, 0):
            return x
        around = -float("inf") if self.largest else 0.0
        padded = self.backend.xp.full((count, down, across, channels), around, dtype=self.backend.dtype)
        padded[:, top : top + height, left : left + width, :] = x
        return padded

    def _taps(self, shape: Shape) -> Iterator[tuple[slice, slice]]:
        out, (sy, sx) = self.window.output(shape[1], shape[2]), self.window.stride
        for ky in range(self.window.kernel[0]):
            for kx in range(self.window.kernel[1]):
                yield slice(ky, ky + (out[0] - 1) * sy + 1, sy), slice(kx, kx + (out[1] - 1) * sx + 1, sx)

    def _areas(self, shape: Shape) -> Array:
        """Return by how many numbers each window's sum is divided: padding counts, what lies beyond it does not."""
        sides = []
        for axis, size in enumerate(self.window.output(shape[1], shape[2])):
            stride, pad, kernel = self.window.stride[axis], self.window.pad[axis], self.window.kernel[axis]
            starts = [index * stride - pad for index in range(size)]
            sides.append([min(start + kernel, shape[1 + axis] + pad) - start for start in starts])
        return self.backend.asarray([[[[float(a * b)] for b in sides[1]] for a in sides[0]]])
