# ruff: noqa: ARG002 - others need what this one does not
"""The backend every other one refines: nothing but the array API, so it runs on any namespace that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.train.geometry import Window

Array = Any  # an array of some array-API namespace; there is no static type for "any of them"


class Backend:
    """Arrays of one namespace, and the few operations that the array API has no word for.

    Maps are stored as (images, height, width, channels): a convolution then is a product of matrices whose rows are
    pixels. Caffe's order (images, channels, height, width) exists at the file boundary only.

    Parameters
    ----------
    xp : namespace
        An array-API namespace, such as `array_api_compat.numpy`.
    dtype : {"float32", "float64"}
    """

    device = "cpu"
    lanes = 1

    def __init__(self, xp: Any, dtype: str = "float32") -> None:
        self.xp = xp
        self.dtype = getattr(xp, dtype)
        self.dtype_name = dtype

    # ------------------------------------------------------------------------------------------------ arrays
    def asarray(self, values: npt.ArrayLike) -> Array:
        """Return floating-point values as an array of this backend."""
        return self.xp.asarray(np.asarray(values, dtype=self.dtype_name))

    def asindex(self, values: npt.ArrayLike) -> Array:
        """Return whole numbers (labels) as an array of this backend."""
        return self.xp.asarray(np.asarray(values, dtype=np.int64))

    def real(self, array: Array) -> Array:
        """Return an array as floating-point numbers: labels that a loss does arithmetic with."""
        return array if array.dtype == self.dtype else self.xp.astype(array, self.dtype)

    def whole(self, array: Array) -> Array:
        """Return an array as whole numbers, cut as Caffe cuts labels that are stored as floating-point numbers."""
        return array if self.xp.isdtype(array.dtype, "integral") else self.xp.astype(array, self.xp.int64)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """Return an array's values on the host."""
        return np.asarray(array)

    def empty(self, shape: Sequence[int]) -> Array:
        """Return an array with arbitrary content."""
        return self.xp.zeros(tuple(shape), dtype=self.dtype)

    def zeros(self, shape: Sequence[int]) -> Array:
        """Return an array of zeros."""
        return self.xp.zeros(tuple(shape), dtype=self.dtype)

    def lane_backends(self) -> Sequence[Backend]:
        """Return a backend for each lane, which works in that lane alone."""
        return [self]

    def lanewise(self, work: Callable[[int], Any]) -> list[Any]:
        """Run ``work(lane)`` for every lane at once and return the results in the order of the lanes."""
        return [work(lane) for lane in range(self.lanes)]

    def cut(self, count: int) -> list[range]:
        """Cut `count` things into one run per lane, the same every time; runs may be empty."""
        bounds = [count * lane // self.lanes for lane in range(self.lanes + 1)]
        return [range(low, high) for low, high in pairwise(bounds)]

    def use_lanes(self, lanes: int) -> None:
        """Cut work as a run with another number of CPU threads did, so that it goes on with the same bits."""

    @contextmanager
    def active(self) -> Iterator[None]:
        """Hold whatever the backend needs while it computes (a device, a number of BLAS threads)."""
        yield

    # ------------------------------------------------------------------------------------------------ blocks
    def blocks(
        self,
        function: Callable[..., Any],
        arrays: Sequence[Array],
        fixed: Sequence[Array] = (),
        *,
        news: int = 1,
        sums: int = 0,
    ) -> Any:
        """Apply an elementwise function, in blocks of rows where that is faster.

        Parameters
        ----------
        function : callable
            ``function(*blocks, *fixed)`` returns `news` new blocks, and after them `sums` arrays to be added up over
            blocks. Each block has shape (rows, channels).
        arrays : sequence of array
            All of one shape, the last axis being channels.
        fixed : sequence of array
            Handed to each call as they are.
        news, sums : int
            How many new blocks and how many sums the function returns.

        Returns
        -------
        array, or tuple of arrays where there are several
            The new arrays have the shape of the first one.
        """
        shape = arrays[0].shape
        flat = [self.xp.reshape(array, (-1, shape[-1] if shape else 1)) for array in arrays]
        results = function(*flat, *fixed)
        if news + sums == 1:
            return self.xp.reshape(results, shape) if news else results
        return tuple(self.xp.reshape(r, shape) if place < news else r for place, r in enumerate(results))

    def add(self, left: Array, right: Array) -> Array:
        """Return the sum of two arrays of one shape."""
        return left + right

    def rectify(self, x: Array, slope: Array) -> Array:
        """Return x where it is above zero and slope x elsewhere; the slope is of shape (channels,) or (1,)."""
        zero = self.xp.zeros((), dtype=self.dtype)
        return self.blocks(lambda x, s: self.xp.maximum(x, zero) + s * self.xp.minimum(x, zero), (x,), (slope,))

    def rectify_backward(
        self, x: Array, slope: Array, dy: Array, *, need_slope: bool = True
    ) -> tuple[Array, Array | None]:
        """Return the gradients of what was rectified, and of the slope per channel where it is needed."""
        xp, zero = self.xp, self.xp.zeros((), dtype=self.dtype)

        # Sums and products: numpy's `where` takes three times as long on signs that follow no pattern.
        def back_both(x: Array, dy: Array, slope: Array) -> tuple[Array, Array]:
            below = xp.astype(x <= zero, x.dtype) * dy
            return dy + (slope - 1) * below, xp.sum(below * x, axis=0)

        def back(x: Array, dy: Array, slope: Array) -> Array:
            return dy + (slope - 1) * (xp.astype(x <= zero, x.dtype) * dy)

        if not need_slope:
            return self.blocks(back, (x, dy), (slope,)), None
        dx, dslope = self.blocks(back_both, (x, dy), (slope,), sums=1)
        return dx, dslope

    def matmul(self, left: Array, right: Array) -> Array:
        """Return the product of two matrices."""
        return self.xp.matmul(left, right)

    # ------------------------------------------------------------------------------------------------ gather, scatter
    def one_hot(self, index: Array, classes: int) -> Array:
        """Return a (count, classes) array that is 1 at each row's index."""
        xp = self.xp
        return xp.astype(xp.arange(classes, dtype=index.dtype)[None, :] == index[:, None], self.dtype)

    def pick(self, table: Array, index: Array) -> Array:
        """Return ``table[row, index[row]]`` of every row, shape (rows,)."""
        return self.xp.sum(table * self.one_hot(index, table.shape[1]), axis=1)

    def put(self, table: Array, index: Array, values: Array) -> Array:
        """Return the table with ``table[row, index[row]]`` replaced."""
        hot = self.one_hot(index, table.shape[1])
        return table * (1 - hot) + hot * values[:, None]

    def add_rows(self, table: Array, index: Array, rows: Array) -> Array:
        """Return the table with each row added to the table's row of its index; an index may occur often."""
        hot = self.one_hot(index, table.shape[0])
        return table + self.xp.matmul(self.xp.matrix_transpose(hot), rows)

    # ------------------------------------------------------------------------------------------------ convolution
    def prepare_convolution(self, shape: tuple[int, ...], weight: Array, window: Window) -> Any:
        """Return a weight in the form that convolving maps of a shape wants; `convolve` does so where it is not given.

        None where there is no such form. It may be used until the weight changes.
        """

    def convolve(self, x: Array, weight: Array, bias: Array | None, window: Window, *, ready: Any = None) -> Array:
        """Convolve maps.

        Parameters
        ----------
        x : array (images, height, width, channels)
        weight : array (kernel height, kernel width, channels / group, filters)
        bias : array (filters,), optional
        window : Window
        ready : Any
            What `prepare_convolution` returned for this weight.

        Returns
        -------
        array (images, out height, out width, filters)
        """
        xp = self.xp
        padded, size = self._padded(x, window), window.output(x.shape[1], x.shape[2])
        parts = []
        for channels, filters in _groups(x.shape[3], weight.shape[3], window.group):
            total = None
            for ky, kx, rows in _taps(window, size):
                tap = padded[(slice(None), *rows, channels)]
                term = xp.matmul(tap, weight[ky, kx, :, filters])
                total = term if total is None else total + term
            parts.append(total)
        y = parts[0] if len(parts) == 1 else xp.concat(parts, axis=3)
        return y if bias is None else y + bias

    def convolve_backward(
        self,
        x: Array,
        weight: Array,
        dy: Array,
        window: Window,
        *,
        need_x: bool = True,
        need_weight: bool = True,
        ready: Any = None,
    ) -> tuple[Array | None, Array | None]:
        """Return the gradients of a convolution's input and weight, each None where it is not needed."""
        xp = self.xp
        padded, size = self._padded(x, window), window.output(x.shape[1], x.shape[2])
        dpadded = xp.zeros_like(padded) if need_x else None
        dweight = xp.zeros_like(weight) if need_weight else None
        for channels, filters in _groups(x.shape[3], weight.shape[3], window.group):
            part = dy[:, :, :, filters]
            flat = xp.reshape(part, (-1, part.shape[3]))
            for ky, kx, rows in _taps(window, size):
                place = (slice(None), *rows, channels)
                if dweight is not None:
                    tap = padded[place]
                    columns = xp.reshape(tap, (-1, tap.shape[3]))
                    dweight[ky, kx, :, filters] = xp.matmul(xp.matrix_transpose(columns), flat)
                if dpadded is not None:
                    back = xp.matmul(part, xp.matrix_transpose(weight[ky, kx, :, filters]))
                    dpadded[place] = dpadded[place] + back
        if dpadded is None:
            return None, dweight
        top, left = window.pad
        return dpadded[:, top : top + x.shape[1], left : left + x.shape[2], :], dweight

    def _padded(self, x: Array, window: Window) -> Array:
        top, left = window.pad
        if top == left == 0:
            return x
        images, height, width, channels = x.shape
        padded = self.zeros((images, height + 2 * top, width + 2 * left, channels))
        padded[:, top : top + height, left : left + width, :] = x
        return padded


def _groups(channels: int, filters: int, group: int) -> Iterator[tuple[slice, slice]]:
    wide, deep = channels // group, filters // group
    for part in range(group):
        yield slice(part * wide, (part + 1) * wide), slice(part * deep, (part + 1) * deep)


def _taps(window: Window, size: tuple[int, int]) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """Yield every tap of the kernel with the rows and columns of the padded map that it meets."""
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            place = []
            for tap, out, stride, dilation in zip((ky, kx), size, window.stride, window.dilation, strict=True):
                start = tap * dilation
                place.append(slice(start, start + (out - 1) * stride + 1, stride))
            yield ky, kx, (place[0], place[1])
