# ruff: noqa: D102 - these methods are documented where their interface is
"""The CPU: NumPy in blocks that stay in the cache, one BLAS thread per lane, buffers used again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from spherecv.errors import InvalidArgumentError
from spherecv.runtime.devices import usable_cores
from spherecv.train.backend import numpy_convolution as kernels
from spherecv.train.backend.base import Array, Backend
from spherecv.train.backend.memory import BufferPool, Scratch
from spherecv.train.backend.rectifier import rectify, rectify_backward, tiled
from spherecv.train.geometry import Window

_BLOCK = 65_536  # numbers in a block: with its temporaries it stays in a core's second-level cache
_TALL = 64  # rows of a product from which its lanes take rows, which are written where they belong
_SMALL_PRODUCT = 1 << 21  # multiply-adds below which starting the lanes costs more than it gives


class NumpyBackend(Backend):
    """NumPy with its work cut into lanes.

    How work is cut (the lanes, the blocks) decides in which order numbers are added, hence their last bits. It
    depends on `lanes` and on shapes only, never on timing: the same lanes give the same bits.

    Parameters
    ----------
    threads : int, optional
        Lanes, each a thread; the cores of the machine by default.
    dtype : {"float32", "float64"}
    """

    def __init__(self, threads: int | None = None, dtype: str = "float32") -> None:
        import array_api_compat.numpy

        super().__init__(array_api_compat.numpy, dtype)
        self.lanes = usable_cores() if threads is None else threads
        if self.lanes < 1:
            raise InvalidArgumentError(f"threads must be at least 1, but got {threads}")
        self._workers = ThreadPoolExecutor(self.lanes, thread_name_prefix="spherecv-train")
        self._pool = BufferPool()
        self._scratch = [Scratch() for _ in range(self.lanes)]
        self._nested = 0
        self._alone: list[NumpyBackend] = []

    # ------------------------------------------------------------------------------------------------ arrays
    def empty(self, shape: Sequence[int]) -> Array:
        return self._pool.take(shape, self.dtype)

    def forget_buffers(self) -> None:
        """Free the memory kept for later use."""
        self._pool.clear()
        self._scratch = [Scratch() for _ in range(self.lanes)]
        for alone in self._alone:
            alone.forget_buffers()

    def lane_backends(self) -> Sequence[NumpyBackend]:
        while len(self._alone) < self.lanes:
            alone = NumpyBackend(1, self.dtype_name)
            alone._nested = 1  # the caller that runs the lanes limits BLAS
            self._alone.append(alone)
        return self._alone[: self.lanes]

    def use_lanes(self, lanes: int) -> None:
        if lanes != self.lanes:
            self.lanes = lanes
            self._scratch = [Scratch() for _ in range(lanes)]
            self._workers = ThreadPoolExecutor(lanes, thread_name_prefix="spherecv-train")

    @contextmanager
    def active(self) -> Iterator[None]:
        """Give BLAS one thread per call while the lanes run side by side."""
        if self._nested:
            yield
            return
        self._nested += 1
        try:
            with _blas_threads().limit(limits=1, user_api="blas"):
                yield
        finally:
            self._nested -= 1

    def lanewise(self, work: Callable[[int], Any]) -> list[Any]:
        if self.lanes == 1:
            return [_quietly(work, 0)]
        return list(self._workers.map(_quietly, [work] * self.lanes, range(self.lanes)))

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
        shape = arrays[0].shape
        if arrays[0].size <= _BLOCK:
            return super().blocks(function, arrays, fixed, news=news, sums=sums)
        channels = shape[-1]
        flat = [array.reshape(-1, channels) for array in arrays]
        rows, step = flat[0].shape[0], max(1, _BLOCK // channels)
        starts = range(0, rows, step)
        made = [self.empty(shape) for _ in range(news)]
        targets = [array.reshape(-1, channels) for array in made]
        partial: list[tuple[Array, ...]] = [()] * len(starts)

        def work(lane: int) -> None:
            for index in runs[lane]:
                block = slice(starts[index], starts[index] + step)
                results = function(*(array[block] for array in flat), *fixed)
                if news + sums == 1:
                    results = (results,)
                for target, result in zip(targets, results, strict=False):
                    target[block] = result
                partial[index] = tuple(results[news:])

        runs = self.cut(len(starts))
        with self.active():
            self.lanewise(work)
        # Added up in the order of the blocks, not of their completion.
        totals = [np.add.reduce(np.stack(column), axis=0) for column in zip(*partial, strict=True)]
        return made[0] if (news, sums) == (1, 0) else totals[0] if (news, sums) == (0, 1) else (*made, *totals)

    def add(self, left: Array, right: Array) -> Array:
        out = self.empty(left.shape)
        if left.size <= _BLOCK or self.lanes == 1:
            return np.add(left, right, out=out)
        runs = self.cut(left.shape[0])

        def work(lane: int) -> None:
            part = slice(runs[lane].start, runs[lane].stop)
            np.add(left[part], right[part], out=out[part])

        self.lanewise(work)
        return out

    def rectify(self, x: Array, slope: Array) -> Array:
        # Up to a slope of 1 the larger of x and slope x is the answer; nets whose slopes grew beyond are rare.
        if x.size <= _BLOCK or not bool((slope <= 1).all()):
            return super().rectify(x, slope)
        y = self.empty(x.shape)
        table = tiled(slope, x.shape[-1], self._rows(x))

        def work(block: slice, _: Scratch) -> None:
            rectify(flat[block], table, target[block])

        flat, target = (array.reshape(-1, x.shape[-1]) for array in (x, y))
        self._blockwise(work, flat.shape)
        return y

    def rectify_backward(
        self, x: Array, slope: Array, dy: Array, *, need_slope: bool = True
    ) -> tuple[Array, Array | None]:
        if x.size <= _BLOCK:
            return super().rectify_backward(x, slope, dy, need_slope=need_slope)
        dx, channels = self.empty(x.shape), x.shape[-1]
        table = tiled(slope - 1, channels, self._rows(x))

        def work(block: slice, scratch: Scratch) -> Array | None:
            return rectify_backward(flat[block], table, slopes[block], target[block], scratch, need_slope=need_slope)

        flat, slopes, target = (array.reshape(-1, channels) for array in (x, dy, dx))
        parts = self._blockwise(work, flat.shape)
        return dx, np.add.reduce(np.stack(parts), axis=0) if need_slope else None

    def _rows(self, x: Array) -> int:
        """Return how many rows of an array's channels are a block."""
        return max(1, _BLOCK // int(x.shape[-1]))

    def _blockwise(self, work: Callable[[slice, Scratch], Any], shape: Sequence[int]) -> list[Any]:
        """Run ``work(block, scratch)`` for blocks of rows, and return the results in the order of the blocks."""
        step = max(1, _BLOCK // shape[1])
        starts = range(0, shape[0], step)
        runs = self.cut(len(starts))

        def share(lane: int) -> list[Any]:
            return [work(slice(starts[i], starts[i] + step), self._scratch[lane]) for i in runs[lane]]

        return [result for results in self.lanewise(share) for result in results]

    def matmul(self, left: Array, right: Array) -> Array:
        m, n = left.shape[0], right.shape[1]
        out = self.empty((m, n))
        if self.lanes == 1 or m * n * left.shape[1] < _SMALL_PRODUCT:
            with self.active():
                return np.matmul(left, right, out=out)
        wide = m < min(n, _TALL)
        runs = self.cut(n if wide else m)

        def work(lane: int) -> None:
            part = slice(runs[lane].start, runs[lane].stop)
            if wide:
                # BLAS writes rows of the whole matrix: a strided target would be copied through a temporary.
                out[:, part] = left @ right[:, part]
            else:
                np.matmul(left[part], right, out=out[part])

        with self.active():
            self.lanewise(work)
        return out

    # ------------------------------------------------------------------------------------------------ gather, scatter
    def pick(self, table: Array, index: Array) -> Array:
        return table[np.arange(len(index)), index]

    def put(self, table: Array, index: Array, values: Array) -> Array:
        new = table.copy()
        new[np.arange(len(index)), index] = values
        return new

    def add_rows(self, table: Array, index: Array, rows: Array) -> Array:
        new = table.copy()
        np.add.at(new, index, rows)
        return new

    # ------------------------------------------------------------------------------------------------ convolution
    def prepare_convolution(self, shape: tuple[int, ...], weight: Array, window: Window) -> Any:
        return kernels.choose(shape, weight.shape, window)[0].prepare(weight, self.empty)

    def convolve(self, x: Array, weight: Array, bias: Array | None, window: Window, *, ready: Any = None) -> Array:
        height, width = window.output(x.shape[1], x.shape[2])
        y = self.empty((x.shape[0], height, width, weight.shape[3]))
        kernel, images = kernels.choose(x.shape, weight.shape, window)
        runs = self.cut(x.shape[0])
        with self.active():
            ready = kernel.prepare(weight, self.empty) if ready is None else ready

            def work(lane: int) -> None:
                for part in _parts(runs[lane], images):
                    kernel.forward(x[part], ready, bias, y[part], window, self._scratch[lane])

            self.lanewise(work)
        return y

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
        dx = self.empty(x.shape) if need_x else None
        kernel, images = kernels.choose(x.shape, weight.shape, window)
        runs = self.cut(x.shape[0])
        with self.active():
            ready = kernel.prepare(weight, self.empty) if need_x and ready is None else ready

            def work(lane: int) -> Array | None:
                scratch = self._scratch[lane]
                total = scratch.take("dweight", kernel.gradient_shape(weight), self.dtype) if need_weight else None
                for count, part in enumerate(_parts(runs[lane], images)):
                    back = None if dx is None else dx[part]
                    kernel.backward(x[part], ready, dy[part], back, total, window, scratch, add=count > 0)
                return total if runs[lane] else None

            totals = [total for total in self.lanewise(work) if total is not None]
            if not need_weight:
                return dx, None
            for total in totals[1:]:
                totals[0] += total
            dweight = self.empty(weight.shape)
            kernel.finish(totals[0], dweight)
            return dx, dweight


def _quietly(work: Callable[[int], Any], lane: int) -> Any:
    """Run without numpy's warnings: a run that diverges is told so once, by the trainer, with advice."""
    with np.errstate(over="ignore", invalid="ignore"):
        return work(lane)


def _parts(run: range, images: int) -> Iterator[slice]:
    for start in range(run.start, run.stop, images):
        yield slice(start, min(start + images, run.stop))


@cache
def _blas_threads() -> Any:
    # The controller knows the libraries that are loaded when it is made, and SciPy brings a BLAS of its own.
    import scipy.linalg.cython_blas  # noqa: F401
    import threadpoolctl  # type: ignore[import-untyped]

    return threadpoolctl.ThreadpoolController()
