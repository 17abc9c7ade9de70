# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Pooling with Caffe's rounding of sizes, over windows and over pyramids of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spherecv.caffe.spherecv_caffe_pb2 import PoolingParameter, SPPParameter
from spherecv.train.axes import to_caffe, to_internal
from spherecv.train.backend.base import Array, Backend
from spherecv.train.geometry import Pair, PoolWindow
from spherecv.train.layers.base import Layer
from spherecv.train.params import Shape


class WindowPool:
    """The maximum or the average of windows.

    Parameters
    ----------
    backend : Backend
    window : PoolWindow
    largest : bool
        Whether the maximum is taken, not the average.
    """

    def __init__(self, backend: Backend, window: PoolWindow, *, largest: bool) -> None:
        self.backend, self.window, self.largest = backend, window, largest

    def forward(self, x: Array) -> Array:
        """Return the pooled maps."""
        xp = self.backend.xp
        padded = self._padded(x)
        first, *rest = ((slice(None), *place, slice(None)) for place in self._taps(x.shape))
        total = xp.asarray(padded[first], copy=True)
        for spot in rest:
            total = xp.maximum(total, padded[spot]) if self.largest else total + padded[spot]
        return total if self.largest else total / self._areas(x.shape)

    def backward(self, x: Array, y: Array | None, dy: Array) -> Array:
        """Return the gradient of the maps, from that of the pooled ones; `y` is looked at for a maximum only."""
        xp = self.backend.xp
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
        return dpadded[:, top : top + x.shape[1], left : left + x.shape[2], :]

    def places(self, x: Array, y: Array) -> Array:
        """Return where in its map each maximum lies, counted row by row."""
        xp = self.backend.xp
        padded, (out_h, out_w) = self._padded(x), self.window.output(x.shape[1], x.shape[2])
        (sy, sx), (top, left), width = self.window.stride, self.window.pad, x.shape[2]
        corner = [[float((i * sy - top) * width + j * sx - left) for j in range(out_w)] for i in range(out_h)]
        base = self.backend.asarray(corner)[None, :, :, None]
        found, free = xp.zeros_like(y), xp.ones(y.shape, dtype=xp.bool)
        for tap, place in enumerate(self._taps(x.shape)):
            ky, kx = divmod(tap, self.window.kernel[1])
            wins = xp.logical_and(free, padded[(slice(None), *place, slice(None))] == y)
            free = xp.logical_and(free, xp.logical_not(wins))
            found = xp.where(wins, base + float(ky * width + kx), found)
        return found

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


class Pooling(Layer):
    """Maximum or average of windows; with `global_pooling`, of the whole map. A second top has the maxima's places."""

    gives = (1, 2)
    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.pooling_param
        if len(shapes[0]) != 4:
            raise self.spec.mistake(f"needs maps of four axes, but got {shapes[0]}")
        count, height, width, channels = shapes[0]
        if settings.pool not in (PoolingParameter.MAX, PoolingParameter.AVE):
            raise self.spec.unsupported("stochastic pooling is not known: use MAX or AVE")
        if len(self.spec.tops) == 2 and settings.pool != PoolingParameter.MAX:
            raise self.spec.mistake("has two tops, but only maxima have places")
        stated = [name for name in ("kernel_size", "kernel_h", "kernel_w") if settings.HasField(name)]
        if settings.global_pooling and stated:
            raise self.spec.mistake(f"has global_pooling and {stated[0]}: keep one")

        def pair(name: str, short: str) -> Pair:
            both = (f"{short}_h", f"{short}_w")
            given = [settings.HasField(field) for field in both]
            if any(given) and (settings.HasField(name) or not all(given)):
                raise self.spec.mistake(f"give {name}, or both {both[0]} and {both[1]}")
            one = getattr(settings, name)
            return tuple(getattr(settings, f) if settings.HasField(f) else one for f in both)

        kernel = (height, width) if settings.global_pooling else pair("kernel_size", "kernel")
        stride, pad = pair("stride", "stride"), pair("pad", "pad")
        if settings.global_pooling and (stride, pad) != ((1, 1), (0, 0)):
            raise self.spec.mistake("has global_pooling, which takes neither stride nor pad")
        if min(*kernel, *stride) < 1 or pad[0] >= kernel[0] or pad[1] >= kernel[1]:
            raise self.spec.mistake(f"kernel {kernel}, stride {stride}, pad {pad} make no sense")
        self.largest = settings.pool == PoolingParameter.MAX
        # ceil_mode is what several forks call it.
        ceil = settings.round_mode == PoolingParameter.CEIL and settings.ceil_mode
        window = PoolWindow(kernel, stride, pad, ceil=ceil)
        self.pool = WindowPool(self.backend, window, largest=self.largest)
        return [(count, *window.output(height, width), channels)] * len(self.spec.tops)

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        x = bottoms[0]
        y = self.pool.forward(x)
        self._kept = (x, y if self.largest else None)
        return [y] if len(self.spec.tops) == 1 else [y, self.pool.places(x, y)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        x, y = self._take()
        return [None if grads[0] is None else self.pool.backward(x, y, grads[0])]


class SPP(Layer):
    """A pyramid of poolings into 1, 4, 16, ... windows, one after the other in a row.

    Source: He et al., "Spatial Pyramid Pooling in Deep CNNs for Visual Recognition", ECCV 2014. With one level the top
    keeps its four axes, as in Caffe.
    """

    imagewise = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.spp_param
        if len(shapes[0]) != 4:
            raise self.spec.mistake(f"needs maps of four axes, but got {shapes[0]}")
        count, height, width, channels = shapes[0]
        if settings.pool not in (SPPParameter.MAX, SPPParameter.AVE):
            raise self.spec.unsupported("stochastic pooling is not known: use MAX or AVE")
        levels = settings.pyramid_height
        if levels < 1 or 2 ** (levels - 1) > min(height, width):
            raise self.spec.mistake(f"pyramid_height {levels} does not fit maps of {height}x{width}")
        largest = settings.pool == SPPParameter.MAX
        self.pools = [
            WindowPool(self.backend, _bins(2**level, height, width), largest=largest) for level in range(levels)
        ]
        sizes = [pool.window.output(height, width) for pool in self.pools]
        if levels == 1:
            return [(count, *sizes[0], channels)]
        return [(count, sum(channels * high * wide for high, wide in sizes))]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, x = self.backend.xp, bottoms[0]
        made = [pool.forward(x) for pool in self.pools]
        self._kept = (x, made)
        if len(made) == 1:
            return made
        return [xp.concat([xp.reshape(to_caffe(xp, y), (x.shape[0], -1)) for y in made], axis=1)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, (x, made) = self.backend.xp, self._take()
        if len(made) == 1:
            return [self.pools[0].backward(x, made[0], grads[0])]
        total, start = None, 0
        for pool, y in zip(self.pools, made, strict=True):
            count, high, wide, channels = y.shape
            part = grads[0][:, start : start + high * wide * channels]  # type: ignore[index]
            start += high * wide * channels
            dy = to_internal(xp, xp.reshape(part, (count, channels, high, wide)))
            term = pool.backward(x, y, dy)
            total = term if total is None else total + term
        return [total]


def _bins(bins: int, height: int, width: int) -> PoolWindow:
    """Return the window that cuts a map into so many bins along each axis."""
    kernel = (-(-height // bins), -(-width // bins))
    pad = tuple((size * bins - whole + 1) // 2 for size, whole in zip(kernel, (height, width), strict=True))
    return PoolWindow(kernel, kernel, (pad[0], pad[1]))
