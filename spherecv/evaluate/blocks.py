"""All-against-all cosine similarities in blocks: what is kept of them is small, the matrix never is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError

Rows = NDArray[np.float32]

BLOCK_BYTES = 64 << 20
"""Similarities computed at once, 64 MB: large enough for a matrix product at full speed, small beside any memory."""

_PART_VALUES = 1 << 19
"""Values looked through at once, 2 MB."""


def unit_rows(rows: NDArray[np.floating]) -> Rows:
    """Copy of rows in float32, scaled to length 1; zero rows stay zero.

    Raises
    ------
    InvalidArgumentError
        Not `(N, D)`, or values that are not finite.
    """
    array = np.array(rows, dtype=np.float32, order="C")
    if array.ndim != 2:
        raise InvalidArgumentError(f"embeddings must have shape (N, D), but got {array.shape}")
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    if not np.isfinite(lengths).all():
        raise InvalidArgumentError(f"embeddings must be finite, but {int((~np.isfinite(lengths)).sum())} rows are not")
    array /= np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]
    return array


def similarity_blocks(
    probes: Rows, others: NDArray[np.floating], *, normalized: bool = False, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[slice, Rows]]:
    """Go through the cosine similarities of some rows to many.

    Parameters
    ----------
    probes : ndarray of float32, shape (P, D)
        Of length 1: see `unit_rows`.
    others : ndarray of float, shape (N, D)
        May be memory-mapped: read once, block by block.
    normalized : bool
        Whether the others are of length 1 already, which saves scaling them.
    block_bytes : int

    Yields
    ------
    slice, ndarray of float32, shape (P, B)
        Which of the others, and their similarities, C-contiguous. The array is used again two blocks later.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, or values that are not finite.
    """
    if probes.ndim != 2 or others.ndim != 2 or probes.shape[1] != others.shape[1]:
        raise InvalidArgumentError(f"embeddings must have equally many columns: {probes.shape} and {others.shape}")
    step = max(1, min(len(others), block_bytes // (4 * max(len(probes), 1))))
    parts = [slice(start, min(start + step, len(others))) for start in range(0, len(others), step)]
    buffers = np.empty((2, len(probes) * step), np.float32)

    def block_of(number: int) -> Rows:
        rows = np.asarray(others[parts[number]], dtype=np.float32)
        lengths = None if normalized else _lengths(rows)
        block = buffers[number % 2, : len(probes) * len(rows)].reshape(len(probes), len(rows))
        np.matmul(probes, rows.T, out=block)
        if lengths is not None:
            # After the product: cheaper than a scaled copy of the rows where there are fewer probes than columns.
            block /= lengths
        return block

    # The next product runs while this one is looked at: looking keeps one core busy, a product all of them.
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(block_of, 0) if parts else None
        for number, part in enumerate(parts):
            block = coming.result() if coming is not None else block_of(number)
            coming = worker.submit(block_of, number + 1) if number + 1 < len(parts) else None
            yield part, block


def _lengths(rows: Rows) -> Rows:
    """Lengths of rows, 1 for zero rows."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float32))
    if not np.isfinite(lengths).all():
        raise InvalidArgumentError("embeddings must be finite, and of a length that float32 can hold")
    return np.where(lengths > 0, lengths, np.float32(1))


def candidates(
    block: Rows, bounds: Callable[[], Rows], *, inclusive: bool = True
) -> Iterator[tuple[Rows, NDArray[np.intp], NDArray[np.intp]]]:
    """Pick out the few similarities of a block that reach a bound, a part that fits the cache at a time.

    Parameters
    ----------
    block : ndarray of float32, shape (P, B)
        C-contiguous.
    bounds : callable
        Gives the bound of each row, shape (P,); asked before each part, since what was found may have raised it.
    inclusive : bool
        Whether a value equal to its bound counts.

    Yields
    ------
    values, rows, columns : ndarray, each of shape (found,)
    """
    width = block.shape[1]
    step = max(1, _PART_VALUES // max(width, 1))
    for start in range(0, len(block), step):
        part, limit = block[start : start + step], bounds()[start : start + step, None]
        flat = np.flatnonzero(part >= limit if inclusive else part > limit)
        if len(flat):
            rows, columns = np.divmod(flat, width)
            yield part.reshape(-1)[flat], rows + start, columns


class Highest:
    """The largest of a stream of values that does not fit in memory, each with two numbers that say where it was.

    Parameters
    ----------
    count : int
        How many to keep. Up to three times as many are held on the way.

    Attributes
    ----------
    floor : float32
        Values that do not exceed it need not be offered any more.
    """

    def __init__(self, count: int) -> None:
        self.floor = np.float32(-np.inf)
        self._count = count
        self._parts: list[tuple[Rows, NDArray[np.int32], NDArray[np.int32]]] = []
        self._held = 0

    def offer(self, values: Rows, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        """Take in some values, and what says where each was."""
        above = values > self.floor
        if not above.all():
            values, rows, columns = values[above], rows[above], columns[above]
        if not len(values):
            return
        self._parts.append((values, rows.astype(np.int32), columns.astype(np.int32)))
        self._held += len(values)
        if self._held >= 2 * self._count:
            self._shrink()

    def result(self) -> tuple[Rows, NDArray[np.int32], NDArray[np.int32]]:
        """Values in descending order, and what says where they were, each of shape (count or fewer,)."""
        self._shrink()
        if not self._parts:
            empty = np.empty(0, np.int32)
            return np.empty(0, np.float32), empty, empty
        values, rows, columns = self._parts[0]
        order = np.argsort(-values, kind="stable")
        return values[order], rows[order], columns[order]

    def _shrink(self) -> None:
        if not self._parts:
            return
        values, rows, columns = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        if len(values) > self._count:
            best = np.argpartition(values, len(values) - self._count)[len(values) - self._count :]
            values, rows, columns = values[best], rows[best], columns[best]
        if len(values) == self._count and self._count:
            # A value equal to the least that is kept changes nothing, so only larger ones are looked at from here on.
            self.floor = values.min()
        self._parts = [(values, rows, columns)]
        self._held = len(values)
