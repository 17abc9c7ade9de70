"""Where arrays live and who computes on them: NumPy on the CPU, CuPy on the GPU, or any array-API namespace.

`open_backend` gives one. Layers and losses do their arithmetic through the array's own namespace; what needs more
(convolution, scatter, work in blocks) is a method of the backend.
"""

from __future__ import annotations

import importlib.util

from spherecv.errors import InvalidArgumentError, MissingDependencyError
from spherecv.train.backend.base import Array, Backend

__all__ = ["Array", "Backend", "open_backend"]


def check_installed() -> None:
    """Raise `MissingDependencyError` where the `train` extra is missing: before work that it would waste."""
    for package in ("array_api_compat", "threadpoolctl"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, "train", "training")


def open_backend(device: str = "cpu", *, threads: int | None = None, dtype: str = "float32", index: int = 0) -> Backend:
    """Return the backend of a device.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}
        ``"auto"`` takes the GPU where there is one. ``"cuda"`` without a GPU is an error, never a silent CPU run.
    threads : int, optional
        CPU threads; the machine's cores by default.
    dtype : {"float32", "float64"}
        The type of weights and activations.
    index : int
        Which GPU.

    Raises
    ------
    DeviceError
        No GPU, or no working CuPy.
    MissingDependencyError
        The `train` extra is not installed.
    """
    if device not in ("cpu", "cuda", "auto"):
        raise InvalidArgumentError(f'device must be "cpu", "cuda" or "auto", but got {device!r}')
    if dtype not in ("float32", "float64"):
        raise InvalidArgumentError(f'dtype must be "float32" or "float64", but got {dtype!r}')
    check_installed()
    if device != "cpu":
        from spherecv.train.backend import cupy_backend

        if device == "cuda" or cupy_backend.gpu_count() > 0:
            return cupy_backend.CupyBackend(index=index, dtype=dtype)
    from spherecv.train.backend.numpy_backend import NumpyBackend

    return NumpyBackend(threads=threads, dtype=dtype)
