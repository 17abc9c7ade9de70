"""Buffers that are used again. Fresh memory costs a page fault per page, which here is a tenth of a training step."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def _references(buffers: list[npt.NDArray[np.uint8]], place: int) -> int:
    """Count the references to a buffer in a list, as every caller of this function sees them."""
    return sys.getrefcount(buffers[place])


# References to a buffer that nobody uses. Pythons differ in whether a call counts as one, so this one is asked.
_IDLE = _references([np.empty(1, dtype=np.uint8)], 0)


class BufferPool:
    """Hands out arrays over buffers that no array uses any more.

    Every array handed out, and every view of it, keeps its buffer's reference count up; a buffer whose count is down
    to the pool's own is free. Nothing has to be given back, and nothing can be given back too early.
    """

    def __init__(self) -> None:
        self._buffers: list[npt.NDArray[np.uint8]] = []

    def take(self, shape: Sequence[int], dtype: Any) -> npt.NDArray[Any]:
        """Return an array with arbitrary content, over the smallest free buffer that holds it, or a new one."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        best: npt.NDArray[np.uint8] | None = None
        best_size = 2 * size + 1
        for place in range(len(self._buffers)):
            nbytes = self._buffers[place].nbytes
            # `best` holds one more reference to the buffer it names, but that one is not looked at again.
            if size <= nbytes < best_size and _references(self._buffers, place) <= _IDLE:
                best, best_size = self._buffers[place], nbytes
        if best is None:
            best = np.empty(max(size, 1), dtype=np.uint8)
            self._buffers.append(best)
        array: npt.NDArray[Any] = best[:size].view(dtype).reshape(tuple(shape))
        return array

    def clear(self) -> None:
        """Forget all buffers; those in use live on with their arrays."""
        self._buffers.clear()


class Scratch:
    """Named working arrays of one lane, each as large as its largest use so far."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Any], npt.NDArray[Any]] = {}

    def take(self, name: str, shape: Sequence[int], dtype: Any) -> npt.NDArray[Any]:
        """Return the array of a name, in a shape, with arbitrary content."""
        size = math.prod(shape)
        held = self._held.get((name, dtype))
        if held is None or held.size < size:
            held = self._held[name, dtype] = np.empty(size, dtype=dtype)
        return held[:size].reshape(tuple(shape))
