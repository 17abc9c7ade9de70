# ruff: noqa: D102 - these methods are documented where their interface is
"""Winograd's short convolutions: 3x3 windows with a quarter (or four ninths) of the multiplications.

F(m x m, 3 x 3) computes tiles of m x m outputs from (m + 2) x (m + 2) inputs: Y = A^T [(G g G^T) * (B^T d B)] A, where
the product in the middle is summed over channels and so is one product of matrices per point. The transforms are
linear maps of a tile's pixels and are written as one small product of matrices each (their Kronecker squares). The
gradients are the adjoint maps, hence exact derivatives of what the forward pass computes.

Matrices: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015 (arXiv:1509.09308).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from spherecv.train.backend.blas import Accumulator
from spherecv.train.backend.memory import Scratch
from spherecv.train.geometry import Window

Floats = npt.NDArray[Any]

_INPUT = {
    2: [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    4: [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
}
_OUTPUT = {
    2: [[1, 1, 1, 0], [0, 1, -1, -1]],
    4: [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
}
_KERNEL = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}

_SMALL = 1 << 20
"""Numbers of a weight's gradient up to which NumPy's product and a sum take less time than BLAS's that adds."""


class Winograd:
    """The kernel for 3x3 windows without stride, dilation or groups.

    Parameters
    ----------
    tile : {2, 4}
        Outputs per tile and axis. 4 needs fewer multiplications, 2 fits small maps better.
    """

    def __init__(self, tile: int) -> None:
        self.tile = tile
        self.points = (tile + 2) ** 2
        self._input, self._output, self._kernel = (
            np.kron(np.array(table[tile], float), np.array(table[tile], float)) for table in (_INPUT, _OUTPUT, _KERNEL)
        )

    def prepare(self, weight: Floats, empty: Callable[[Sequence[int]], Floats]) -> Floats:
        """Return the kernel at the tile's points, (points, channels, filters)."""
        ready = empty(self.gradient_shape(weight))
        np.matmul(self._kernel.astype(weight.dtype), weight.reshape(9, -1), out=ready.reshape(self.points, -1))
        return ready

    def forward(self, x: Floats, ready: Any, bias: Floats | None, y: Floats, window: Window, scratch: Scratch) -> None:
        tile, filters = self.tile, y.shape[3]
        down, across = self._tiles(y.shape)
        values = self._transformed(x, window, (down, across), scratch)
        products = scratch.take("gathered", (self.points, values.shape[1], filters), x.dtype)
        np.matmul(values, ready, out=products)
        pixels = scratch.take("values", (tile * tile, values.shape[1] * filters), x.dtype)
        np.matmul(self._output.astype(x.dtype), products.reshape(self.points, -1), out=pixels)
        grid = pixels.reshape(tile, tile, len(x), down, across, filters).transpose(2, 3, 0, 4, 1, 5)
        whole = y.shape[1] == down * tile and y.shape[2] == across * tile
        target = y if whole else scratch.take("padded", (len(x), down * tile, across * tile, filters), x.dtype)
        cells = target.reshape(len(x), down, tile, across, tile, filters)
        if bias is None:
            cells[...] = grid
        else:
            np.add(grid, bias, out=cells)
        if not whole:
            y[...] = target[:, : y.shape[1], : y.shape[2]]

    def gradient_shape(self, weight: Floats) -> tuple[int, ...]:
        """Return (points, channels, filters)."""
        return (self.points, weight.shape[2], weight.shape[3])

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
        """Add to the gradient at the tile's points, and write the input's gradient."""
        channels, filters = x.shape[3], dy.shape[3]
        down, across = self._tiles(dy.shape)
        tiles = len(x) * down * across
        values = scratch.take("values", (self.points, tiles, channels), x.dtype)
        if total is not None:
            values = self._transformed(x, window, (down, across), scratch)
        products = self._gradient_at_points(dy, (down, across), scratch)
        if total is not None and (not add or total.size <= _SMALL):
            term = scratch.take("term", total.shape, x.dtype) if add else total
            np.matmul(values.transpose(0, 2, 1), products, out=term)
            if add:
                total += term
        elif total is not None:
            Accumulator(channels, filters, tiles, x.dtype).each(values, products, total, add=True)
        if dx is not None:
            np.matmul(products, ready.transpose(0, 2, 1), out=values)
            self._overlap(values, dx, window, (down, across), scratch)

    def finish(self, total: Floats, dweight: Floats) -> None:
        """Write the gradient of the 3x3 weight."""
        matrix = self._kernel.astype(total.dtype)
        np.matmul(matrix.T, total.reshape(self.points, -1), out=dweight.reshape(9, -1))

    def _tiles(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return -(-shape[1] // self.tile), -(-shape[2] // self.tile)

    def _transformed(self, x: Floats, window: Window, tiles: tuple[int, int], scratch: Scratch) -> Floats:
        """Return the inputs at the tile's points, (points, tiles of all images, channels)."""
        (count, height, width, channels), (top, left), (down, across) = x.shape, window.pad, tiles
        size, step = self.tile + 2, self.tile
        padded = scratch.take("padded", (count, down * step + 2, across * step + 2, channels), x.dtype)
        padded[:, :top] = padded[:, top + height :] = 0
        padded[:, :, :left] = padded[:, :, left + width :] = 0
        padded[:, top : top + height, left : left + width] = x
        image, line, pixel, number = padded.strides
        windows = as_strided(
            padded,
            (size, size, count, down, across, channels),
            (line, pixel, image, step * line, step * pixel, number),
            writeable=False,
        )
        gathered = scratch.take("gathered", windows.shape, x.dtype)
        gathered[...] = windows
        values = scratch.take("values", (self.points, count * down * across, channels), x.dtype)
        np.matmul(self._input.astype(x.dtype), gathered.reshape(self.points, -1), out=values.reshape(self.points, -1))
        return values

    def _gradient_at_points(self, dy: Floats, tiles: tuple[int, int], scratch: Scratch) -> Floats:
        """Return the outputs' gradient at the tile's points, (points, tiles of all images, filters)."""
        (count, height, width, filters), (down, across), tile = dy.shape, tiles, self.tile
        whole = dy
        if (height, width) != (down * tile, across * tile):
            whole = scratch.take("padded", (count, down * tile, across * tile, filters), dy.dtype)
            whole[:, height:] = 0
            whole[:, :height, width:] = 0
            whole[:, :height, :width] = dy
        cells = scratch.take("pixels", (tile, tile, count, down, across, filters), dy.dtype)
        cells[...] = whole.reshape(count, down, tile, across, tile, filters).transpose(2, 4, 0, 1, 3, 5)
        products = scratch.take("gathered", (self.points, count * down * across, filters), dy.dtype)
        np.matmul(
            self._output.T.astype(dy.dtype), cells.reshape(tile * tile, -1), out=products.reshape(self.points, -1)
        )
        return products

    def _overlap(self, values: Floats, dx: Floats, window: Window, tiles: tuple[int, int], scratch: Scratch) -> None:
        """Bring gradients at the points back to pixels; neighbouring tiles share two lines, which add up."""
        (count, height, width, channels), (top, left), (down, across) = dx.shape, window.pad, tiles
        size, step = self.tile + 2, self.tile
        pixels = scratch.take("gathered", (self.points, values[0].size), dx.dtype)
        np.matmul(self._input.T.astype(dx.dtype), values.reshape(self.points, -1), out=pixels)
        cells = pixels.reshape(size, size, count, down, across, channels)
        padded = scratch.take("padded", (count, down * step + 2, across * step + 2, channels), dx.dtype)
        padded[:, down * step :] = 0
        padded[:, :, across * step :] = 0
        image, line, pixel, number = padded.strides
        for rows, cols, first in (
            (slice(0, step), slice(0, step), True),
            (slice(step, size), slice(0, step), False),
            (slice(0, step), slice(step, size), False),
            (slice(step, size), slice(step, size), False),
        ):
            part = cells[rows, cols]
            place = as_strided(
                padded[:, rows.start :, cols.start :],
                part.shape,
                (line, pixel, image, step * line, step * pixel, number),
            )
            # Within one of the four parts no pixel occurs twice, so adding in place is safe.
            if first:
                place[...] = part
            else:
                place += part
        dx[...] = padded[:, top : top + height, left : left + width]
