"""C += A^T B through BLAS itself: NumPy's matmul can only overwrite, and adding afterwards reads C once more."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

_Call = Any


def _routine(name: str) -> _Call:
    """Return BLAS's gemm from SciPy's public table of Cython BLAS functions; calling it releases the GIL."""
    import scipy.linalg.cython_blas as table

    capsule = table.__pyx_capi__[name]
    api = ctypes.pythonapi
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(pointer_of(capsule, name_of(capsule)))


_ROUTINES: dict[str, _Call] = {}
_NO, _YES = ctypes.c_char(b"N"), ctypes.c_char(b"T")


class Accumulator:
    """The product of matrices with fixed sizes, added to what is there or replacing it.

    For row-major A (rows x m), B (rows x n) it gives C (m x n) = A^T B. Row-major C = A^T B is column-major
    C^T = B^T A, so the operands change places.

    Parameters
    ----------
    m, n, rows : int
        The sizes of C, and the length of the sums.
    dtype : {float32, float64}
    """

    def __init__(self, m: int, n: int, rows: int, dtype: npt.DTypeLike) -> None:
        name = "sgemm" if np.dtype(dtype) == np.float32 else "dgemm"
        if name not in _ROUTINES:
            _ROUTINES[name] = _routine(name)
        real = ctypes.c_float if name == "sgemm" else ctypes.c_double
        self._call = _ROUTINES[name]
        self._sizes = (ctypes.c_int * 6)(n, m, rows, n, m, n)
        self._scalars = (real * 2)(1.0, 0.0)
        sizes, one = ctypes.addressof(self._sizes), ctypes.addressof(self._scalars)
        word = ctypes.sizeof(ctypes.c_int)
        self._head = (
            ctypes.addressof(_NO),
            ctypes.addressof(_YES),
            sizes,
            sizes + word,
            sizes + 2 * word,
            one,
        )
        self._ld = (sizes + 3 * word, sizes + 4 * word, sizes + 5 * word)
        self._beta = {True: one, False: one + ctypes.sizeof(real)}
        self._shapes = ((rows, m), (rows, n), (m, n))
        self._dtype = np.dtype(dtype)

    def __call__(self, a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any], *, add: bool) -> None:
        """Write the product into `c`, or add it."""
        self.each(a[None], b[None], c[None], add=add)

    def each(self, a: npt.NDArray[Any], b: npt.NDArray[Any], c: npt.NDArray[Any], *, add: bool) -> None:
        """Do so for every matrix of three stacks. BLAS trusts pointers, so shapes and layout are checked here."""
        count = len(c)
        for array, shape in zip((a, b, c), self._shapes, strict=True):
            if array.shape != (count, *shape) or array.dtype != self._dtype or not array.flags.c_contiguous:
                raise ValueError(f"BLAS needs contiguous {self._dtype} arrays of shape {shape}, not {array.shape}")
        call, head, (ldb, lda, ldc), beta = self._call, self._head, self._ld, self._beta[add]
        at_a, at_b, at_c = (stack.ctypes.data for stack in (a, b, c))
        for _ in range(count):
            call(*head, at_b, ldb, at_a, lda, beta, at_c, ldc)
            at_a, at_b, at_c = at_a + a.strides[0], at_b + b.strides[0], at_c + c.strides[0]
