"""A window that slides over any number of axes, and the products that a convolution of them is made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from spherecv.caffe.graph import Layer as Spec
from spherecv.train.backend.base import Array
from spherecv.train.geometry import Window
from spherecv.train.params import Shape


class Sliding:
    """A window that slides over any number of axes, and the products that a convolution is made of.

    Parameters
    ----------
    kernel, stride, pad, dilation : tuple of int
        One for each axis.
    group : int
    """

    def __init__(self, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape, group: int) -> None:
        self.kernel, self.stride, self.pad, self.dilation, self.group = kernel, stride, pad, dilation, group

    def window(self) -> Window:
        """Return the window over maps."""
        kernel, stride, pad, dilation = (
            (both[0], both[1]) for both in (self.kernel, self.stride, self.pad, self.dilation)
        )
        return Window(kernel, stride, pad, dilation, self.group)

    def output(self, sizes: Shape) -> Shape:
        """Return the sizes that a convolution makes; below 1 where the window does not fit."""
        axes = zip(sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple((size + 2 * pad - (step * (k - 1) + 1)) // stride + 1 for size, k, stride, pad, step in axes)

    def spread(self, sizes: Shape) -> Shape:
        """Return the sizes that a deconvolution makes."""
        axes = zip(sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple(stride * (size - 1) + step * (k - 1) + 1 - 2 * pad for size, k, stride, pad, step in axes)

    def taps(self, made: Shape) -> Iterator[tuple[Shape, tuple[slice, ...]]]:
        """Yield every tap of the kernel with the places of the padded axes that it meets."""
        for tap in itertools.product(*map(range, self.kernel)):
            axes = zip(tap, made, self.stride, self.dilation, strict=True)
            yield tap, tuple(slice(t * d, t * d + (out - 1) * s + 1, s) for t, out, s, d in axes)

    def padded(self, xp: Any, x: Array, *, first: int = 1) -> Array:
        """Return an array with zeros around its axes from `first` on."""
        if not any(self.pad):
            return xp.asarray(x, copy=True)
        sizes = x.shape[first : first + len(self.pad)]
        around = [size + 2 * pad for size, pad in zip(sizes, self.pad, strict=True)]
        out = xp.zeros((*x.shape[:first], *around, *x.shape[first + len(sizes) :]), dtype=x.dtype)
        out[(*[slice(None)] * first, *self.inside(sizes), ...)] = x
        return out

    def inside(self, sizes: Shape) -> tuple[slice, ...]:
        """Return where in the padded axes the axes lie."""
        return tuple(slice(pad, pad + size) for pad, size in zip(self.pad, sizes, strict=True))

    def forward(self, xp: Any, x: Array, weight: Array) -> Array:
        """Convolve (outer, sizes..., channels) with a weight of Caffe's order."""
        padded, made = self.padded(xp, x), self.output(x.shape[1:-1])
        parts = []
        for channels, filters in self._groups(x.shape[-1], weight.shape[0]):
            total = None
            for tap, place in self.taps(made):
                term = xp.matmul(padded[(slice(None), *place, channels)], self._tap(xp, weight, filters, tap))
                total = term if total is None else total + term
            parts.append(total)
        return xp.concat(parts, axis=-1)

    def backward(self, xp: Any, x: Array, weight: Array, dy: Array) -> tuple[Array, Array]:
        """Return the gradients of what was convolved and of the weight."""
        padded, made = self.padded(xp, x), self.output(x.shape[1:-1])
        dpadded, dweight = xp.zeros_like(padded), xp.zeros_like(weight)
        for channels, filters in self._groups(x.shape[-1], weight.shape[0]):
            part = dy[..., filters]
            flat = xp.reshape(part, (-1, part.shape[-1]))
            for tap, place in self.taps(made):
                spot = (slice(None), *place, channels)
                columns = xp.reshape(padded[spot], (flat.shape[0], -1))
                dweight[(filters, slice(None), *tap)] = xp.matmul(xp.matrix_transpose(flat), columns)
                back = xp.matmul(part, xp.matrix_transpose(self._tap(xp, weight, filters, tap)))
                dpadded[spot] = dpadded[spot] + back
        return dpadded[(slice(None), *self.inside(x.shape[1:-1]), slice(None))], dweight

    def _tap(self, xp: Any, weight: Array, filters: slice, tap: Shape) -> Array:
        """Return one tap's matrix (channels, filters)."""
        return xp.matrix_transpose(weight[(filters, slice(None), *tap)])

    def _groups(self, channels: int, filters: int) -> Iterator[tuple[slice, slice]]:
        wide, deep = channels // self.group, filters // self.group
        for part in range(self.group):
            yield slice(part * wide, (part + 1) * wide), slice(part * deep, (part + 1) * deep)


def sliding_of(spec: Spec, axes: int) -> Sliding:
    """Return the window a layer with a convolution_param states, in any of Caffe's ways, over a number of axes."""
    settings: Any = spec.param.convolution_param

    def along(name: str, short: str, default: int) -> Shape:
        stated = tuple(getattr(settings, name))
        pair = [f"{short}_{side}" for side in "hw"] if short else []
        given = [field for field in pair if settings.HasField(field)]
        if given and (stated or axes != 2):
            raise spec.mistake(f"has {given[0]} " + (f"and {name}: keep one" if stated else f"for {axes} axes"))
        if given:
            return tuple(getattr(settings, field) for field in pair)
        if len(stated) not in (0, 1, axes):
            raise spec.mistake(f"{name} is given {len(stated)} times for {axes} axes")
        return (stated or (default,)) * axes if len(stated) < 2 else stated

    kernel, stride = along("kernel_size", "kernel", 0), along("stride", "stride", 1)
    pad, dilation = along("pad", "pad", 0), along("dilation", "", 1)
    if min(*kernel, *stride, *dilation, settings.group, 1) < 1:
        raise spec.mistake("kernel_size, stride, dilation and group must be at least 1")
    return Sliding(kernel, stride, pad, dilation, settings.group)
