"""Arithmetic on boxes, as MTCNN's MATLAB code does it: corners included, single precision.

A box here is `x1, y1, x2, y2` with both corners *inside* it and pixels counted from 1, so that its width is
`x2 - x1 + 1`. Single precision, because what is rounded to whole pixels afterwards must round as it did there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.intp]

_BLOCK = 256
"""Boxes compared with each other at a time: 65,536 overlaps, which stay in the cache."""
_BETTER = np.triu(np.ones((_BLOCK, _BLOCK), bool), 1)
"""Which of such a block, the best first, is better than which: made once, for it takes as long as the overlaps."""
_REST = 16_384
"""Boxes that such a block is compared with at a time: 16 MB of overlaps."""


def non_maximum(boxes: FloatArray, scores: FloatArray, limit: float, *, of_smaller: bool = False) -> IntArray:
    """Pick the boxes that no better one overlaps by more than `limit`.

    Parameters
    ----------
    boxes : ndarray of float32, shape (N, 4)
        Corners included.
    scores : ndarray of float32, shape (N,)
        Of equal scores the later box is the better, as MATLAB's `sort` has it.
    limit : float
        Largest overlap, 0..1: the intersection over the union, or over the smaller box.
    of_smaller : bool
        Whether over the smaller box.

    Returns
    -------
    ndarray of int, shape (K,)
        Indices, the best first.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    if len(order) < 2:
        return order
    boxes = boxes[order]
    left, kept = np.arange(len(order)), []
    while left.size:
        head, left = left[:_BLOCK], left[_BLOCK:]
        clashes = _overlaps(boxes[head], boxes[head], of_smaller) > limit
        clashes &= _BETTER[: len(head), : len(head)]
        head = head[_survivors(clashes)]
        kept.append(head)
        parts = [left[start : start + _REST] for start in range(0, len(left), _REST)]
        clear = [part[~(_overlaps(boxes[head], boxes[part], of_smaller) > limit).any(axis=0)] for part in parts]
        left = np.concatenate([left[:0], *clear])
    return order[np.concatenate(kept)]


def _survivors(clashes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Solve "alive unless a better one that is alive clashes": each round settles one more link of every chain."""
    alive: NDArray[np.bool_] = np.logical_not(clashes.any(axis=0))
    while True:
        settled: NDArray[np.bool_] = np.logical_not(clashes[alive].any(axis=0))
        if np.array_equal(settled, alive):
            return alive
        alive = settled


def _overlaps(a: FloatArray, b: FloatArray, of_smaller: bool) -> FloatArray:
    one = np.float32(1)
    width = np.minimum(a[:, None, 2], b[:, 2]) - np.maximum(a[:, None, 0], b[:, 0]) + one
    height = np.minimum(a[:, None, 3], b[:, 3]) - np.maximum(a[:, None, 1], b[:, 1]) + one
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a, area_b = _areas(a)[:, None], _areas(b)
    return np.asarray(shared / (np.minimum(area_a, area_b) if of_smaller else area_a + area_b - shared), np.float32)


def _areas(boxes: FloatArray) -> FloatArray:
    extent = boxes[:, 2:] - boxes[:, :2] + np.float32(1)
    return np.asarray(extent[:, 0] * extent[:, 1], np.float32)


def moved(boxes: FloatArray, offsets: FloatArray, *, inclusive: bool) -> FloatArray:
    """Move the corners by what a net regressed, in units of the box.

    Parameters
    ----------
    boxes, offsets : ndarray of float32, shape (N, 4)
    inclusive : bool
        Whether the unit is `x2 - x1 + 1`, as after the second and third net, or `x2 - x1`, as after the first.

    Returns
    -------
    ndarray of float32, shape (N, 4)
    """
    extent = boxes[:, 2:] - boxes[:, :2] + np.float32(inclusive)
    return np.asarray(boxes + offsets * np.tile(extent, 2), np.float32)


def squared(boxes: FloatArray) -> FloatArray:
    """Grow the shorter sides, about the centre, to the longer ones.

    Parameters
    ----------
    boxes : ndarray of float32, shape (N, 4)

    Returns
    -------
    ndarray of float32, shape (N, 4)
    """
    half = np.float32(0.5)
    extent = boxes[:, 2:] - boxes[:, :2]
    side = extent.max(axis=1, keepdims=True, initial=-np.inf)
    corner = boxes[:, :2] + extent * half - side * half
    return np.asarray(np.hstack([corner, corner + side]), np.float32)
