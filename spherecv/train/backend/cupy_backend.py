# ruff: noqa: D102 - these methods are documented where their interface is
"""The GPU: the same code as on the CPU, over CuPy's namespace. Written without a GPU at hand; see the tests marked gpu.

A convolution is, tap by tap, a product of matrices on cuBLAS; elementwise work is CuPy's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import DeviceError
from spherecv.train.backend.base import Array, Backend


def gpu_count() -> int:
    """Return how many GPUs CuPy can use here; 0 without CuPy or without a driver."""
    try:
        import cupy
    except ImportError:
        return 0
    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


class CupyBackend(Backend):
    """Arrays on one GPU.

    Parameters
    ----------
    index : int
        Which GPU.
    dtype : {"float32", "float64"}

    Raises
    ------
    DeviceError
        There is no such GPU, or no CuPy.
    """

    device = "cuda"

    def __init__(self, index: int = 0, dtype: str = "float32") -> None:
        try:
            import array_api_compat.cupy as xp
            import cupy
        except ImportError:
            raise DeviceError(
                'device="cuda" needs CuPy: pip install "spherecv[cuda]", or train with device="cpu"'
            ) from None
        found = gpu_count()
        if index >= found:
            raise DeviceError(f'device="cuda" asks for GPU {index}, but {found} are there: use device="cpu"')
        super().__init__(xp, dtype)
        self._cupy = cupy
        self._device = cupy.cuda.Device(index)
        self._device.use()
        self.index = index

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        return np.asarray(self._cupy.asnumpy(array))

    def asarray(self, values: npt.ArrayLike) -> Array:
        with self._device:
            return self._cupy.asarray(np.asarray(values, dtype=self.dtype_name))

    def asindex(self, values: npt.ArrayLike) -> Array:
        with self._device:
            return self._cupy.asarray(np.asarray(values, dtype=np.int64))

    @contextmanager
    def active(self) -> Iterator[None]:
        with self._device:
            yield

    def add_rows(self, table: Array, index: Array, rows: Array) -> Array:
        import cupyx

        new = table.copy()
        cupyx.scatter_add(new, index, rows)
        return new

    def pick(self, table: Array, index: Array) -> Array:
        return table[self._cupy.arange(len(index)), index]

    def put(self, table: Array, index: Array, values: Array) -> Array:
        new = table.copy()
        new[self._cupy.arange(len(index)), index] = values
        return new
