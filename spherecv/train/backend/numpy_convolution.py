# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Three ways to convolve on the CPU, and the table that says which one is used for which shape.

Each kernel works on a few images at a time, so that its temporaries stay in a core's cache; lanes take different
images. Measured ratios are in `benchmarks/train_conv.py`; the choice is made by shape alone, so that a resumed run
adds numbers in the same order as one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from spherecv.train.backend.memory import Scratch
from spherecv.train.backend.winograd import Winograd
from spherecv.train.geometry import Window

Floats = npt.NDArray[Any]


class Kernel(Protocol):
    """One way to convolve."""

    def prepare(self, weight: Floats, empty: Callable[[Sequence[int]], Floats]) -> Any:
        """Return the weight in the form that `forward` and `backward` want, in an array that `empty` makes."""

    def forward(self, x: Floats, ready: Any, bias: Floats | None, y: Floats, window: Window, scratch: Scratch) -> None:
        """Write the convolution of a few images into `y`."""

    def gradient_shape(self, weight: Floats) -> tuple[int, ...]:
        """Return the shape in which weight gradients are added up."""

    def backward(
        self,
        x: Floats,
        ready: Any,
        dy: Floats,
        dx: Floats | None,
        total: Floats | None,
        window: Window,
        scratch: Scratch,
        *,
        add: bool,
    ) -> None:
        """Write the input's gradient into `dx`, and the weight's into `total` or, with `add`, onto it."""

    def finish(self, total: Floats, dweight: Floats) -> None:
        """Write the weight's gradient from what was added up."""


class Columns:
    """Every output pixel's inputs side by side in one row (im2col): works for every window."""

    def prepare(self, weight: Floats, empty: Any) -> Floats:
        return weight

    def forward(self, x: Floats, ready: Any, bias: Floats | None, y: Floats, window: Window, scratch: Scratch) -> None:
        rows, deep = math.prod(y.shape[:3]), y.shape[3] // window.group
        wide = x.shape[3] // window.group
        for part in range(window.group):
            columns = self._columns(x[..., part * wide : (part + 1) * wide], y.shape[1:3], window, scratch)
            filters = slice(part * deep, (part + 1) * deep)
            matrix = ready[..., filters].reshape(-1, deep)
            if window.group == 1:
                np.matmul(columns, matrix, out=y.reshape(rows, deep))
            else:
                y[..., filters] = (columns @ matrix).reshape(*y.shape[:3], deep)
        if bias is not None:
            np.add(y, bias, out=y)

    def gradient_shape(self, weight: Floats) -> tuple[int, ...]:
        return weight.shape

    def backward(
        self,
        x: Floats,
        ready: Any,
        dy: Floats,
        dx: Floats | None,
        total: Floats | None,
        window: Window,
        scratch: Scratch,
        *,
        add: bool,
    ) -> None:
        rows, deep, wide = math.prod(dy.shape[:3]), dy.shape[3] // window.group, x.shape[3] // window.group
        for part in range(window.group):
            channels, filters = slice(part * wide, (part + 1) * wide), slice(part * deep, (part + 1) * deep)
            gradient = dy[..., filters].reshape(rows, deep)
            if total is not None:
                columns = self._columns(x[..., channels], dy.shape[1:3], window, scratch)
                term = (columns.T @ gradient).reshape(*window.kernel, wide, deep)
                total[..., filters] = total[..., filters] + term if add else term
            if dx is not None:
                matrix = ready[..., filters].reshape(-1, deep)
                back = scratch.take("columns", (rows, matrix.shape[0]), dy.dtype)
                np.matmul(gradient, matrix.T, out=back)
                self._scatter(back.reshape(*dy.shape[:3], *window.kernel, wide), dx[..., channels], window, scratch)

    def finish(self, total: Floats, dweight: Floats) -> None:
        dweight[...] = total

    def _columns(self, x: Floats, size: tuple[int, ...], window: Window, scratch: Scratch) -> Floats:
        count, _, _, channels = x.shape
        if window.pointwise:
            return x.reshape(-1, channels)
        padded = pad(x, window.pad, scratch)
        columns = scratch.take("columns", (count, *size, *window.kernel, channels), x.dtype)
        image, *pixel, number = padded.strides
        move, reach = (
            [step * by for step, by in zip(pixel, axis, strict=True)] for axis in (window.stride, window.dilation)
        )
        columns[...] = as_strided(padded, columns.shape, (image, *move, *reach, number), writeable=False)
        return columns.reshape(math.prod((count, *size)), -1)

    def _scatter(self, back: Floats, dx: Floats, window: Window, scratch: Scratch) -> None:
        if window.pointwise:
            dx[...] = back[:, :, :, 0, 0]
            return
        (top, left), (count, height, width, channels) = window.pad, dx.shape
        padded = scratch.take("padded", (count, height + 2 * top, width + 2 * left, channels), dx.dtype)
        padded[...] = 0
        for ky, kx, rows, cols in taps(window, back.shape[1:3]):
            padded[:, rows, cols] += back[:, :, :, ky, kx]
        dx[...] = padded[:, top : top + height, left : left + width]


class Channelwise:
    """One filter per channel (depthwise): a weighted sum of shifted maps, without any product of matrices."""

    def prepare(self, weight: Floats, empty: Any) -> Floats:
        return weight

    def forward(self, x: Floats, ready: Any, bias: Floats | None, y: Floats, window: Window, scratch: Scratch) -> None:
        padded = pad(x, window.pad, scratch)
        term = scratch.take("term", y.shape, x.dtype)
        y[...] = 0 if bias is None else bias
        for ky, kx, rows, cols in taps(window, y.shape[1:3]):
            np.multiply(padded[:, rows, cols], ready[ky, kx, 0], out=term)
            np.add(y, term, out=y)

    def gradient_shape(self, weight: Floats) -> tuple[int, ...]:
        return weight.shape

    def backward(
        self,
        x: Floats,
        ready: Any,
        dy: Floats,
        dx: Floats | None,
        total: Floats | None,
        window: Window,
        scratch: Scratch,
        *,
        add: bool,
    ) -> None:
        term = scratch.take("term", dy.shape, x.dtype)
        if total is not None:
            padded = pad(x, window.pad, scratch)
            for ky, kx, rows, cols in taps(window, dy.shape[1:3]):
                np.multiply(padded[:, rows, cols], dy, out=term)
                part = term.reshape(-1, dy.shape[3]).sum(axis=0)
                total[ky, kx, 0] = total[ky, kx, 0] + part if add else part
        if dx is not None:
            (top, left), (count, height, width, channels) = window.pad, dx.shape
            padded = scratch.take("padded", (count, height + 2 * top, width + 2 * left, channels), dx.dtype)
            padded[...] = 0
            for ky, kx, rows, cols in taps(window, dy.shape[1:3]):
                np.multiply(dy, ready[ky, kx, 0], out=term)
                padded[:, rows, cols] += term
            dx[...] = padded[:, top : top + height, left : left + width]

    def finish(self, total: Floats, dweight: Floats) -> None:
        dweight[...] = total


def pad(x: Floats, border: tuple[int, int], scratch: Scratch) -> Floats:
    """Return maps with a border of zeros, in scratch memory."""
    top, left = border
    if top == left == 0:
        return x
    count, height, width, channels = x.shape
    padded = scratch.take("padded", (count, height + 2 * top, width + 2 * left, channels), x.dtype)
    padded[:, :top] = padded[:, top + height :] = 0
    padded[:, :, :left] = padded[:, :, left + width :] = 0
    padded[:, top : top + height, left : left + width] = x
    return padded


def taps(window: Window, size: tuple[int, ...]) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield every tap of a kernel with the rows and columns of the padded map that it meets."""
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y, x = ky * window.dilation[0], kx * window.dilation[1]
            rows = slice(y, y + (size[0] - 1) * window.stride[0] + 1, window.stride[0])
            yield ky, kx, rows, slice(x, x + (size[1] - 1) * window.stride[1] + 1, window.stride[1])


COLUMNS, CHANNELWISE = Columns(), Channelwise()
WINOGRAD2, WINOGRAD4 = Winograd(2), Winograd(4)


def choose(x: tuple[int, ...], weight: tuple[int, ...], window: Window) -> tuple[Kernel, int]:
    """Return the kernel for a shape and how many images it takes at a time. A function of the shape alone.

    The limits come from `benchmarks/train_conv.py` (cores with AVX-512 and 2 MB of second-level cache).
    """
    height, width = window.output(x[1], x[2])
    pixels, channels, filters = height * width, x[3], weight[3]
    if window.group == channels == filters and window.group > 1:
        return CHANNELWISE, _images(pixels * channels, 65_536)
    if window.kernel == (3, 3) and window.dense and min(channels, filters) >= 32:
        if max(channels, filters) >= 512 or min(height, width) < 8:
            return WINOGRAD2, _images(pixels, 672)
        return WINOGRAD4, _images(pixels, 2016)
    return COLUMNS, _images(pixels, 672)


def _images(each: int, wanted: int) -> int:
    return max(1, round(wanted / each))
