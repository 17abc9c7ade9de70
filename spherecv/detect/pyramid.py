"""Image pyramid: the scales at which the first net sees faces of its own size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

CELL = 12
"""Side of the square that the first net judges."""
STRIDE = 2
"""Distance of two such squares."""

_BAND_PIXELS = 48_000
"""Pixels of a scale that go through the first net at once. Its first layer makes ten maps of them: 2 MB, a core's
second-level cache. On 1152x648 that took 47 ms for 66 ms, OpenCV 5, one thread of a Xeon; smaller bands lose to their
overlap what they gain."""
_SHARED_PIXELS = 10_000
"""Pixels of a scale that are worth a thread of their own."""


def scales_of(height: int, width: int, min_size: float, factor: float) -> list[float]:
    """Scales at which faces of `min_size` and more become as large as the first net's square.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    min_size : float
        Side of the smallest face, in pixels.
    factor : float
        Ratio of each scale to the one before, within 0..1.

    Returns
    -------
    list of float
        From the largest down; empty for an image smaller than the smallest face.
    """
    first = CELL / min_size
    side = min(height, width) * first
    scales: list[float] = []
    while side >= CELL:
        scales.append(first * factor ** len(scales))
        side *= factor
    return scales


def resample(image: FloatArray, height: int, width: int, *, out: FloatArray | None = None) -> FloatArray:
    """Resize as `imResample(..., 'bilinear')` of Dollar's toolbox does, which MTCNN's MATLAB code calls.

    An axis that shrinks is averaged over the area of each new pixel, one that does not is interpolated: `INTER_AREA`
    and `INTER_LINEAR` of OpenCV, one axis at a time where they differ. (`INTER_LINEAR` for both, as many ports have it,
    skips pixels, and finds other faces.) In floating point, as there: 8-bit images would be rounded at each scale.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W, 3)
    height, width : int
    out : ndarray of float32, shape (height, width, 3), optional
        Where to write the result.

    Returns
    -------
    ndarray of float32, shape (height, width, 3)
    """
    import cv2

    shrinks = (height < image.shape[0], width < image.shape[1])
    if shrinks == (True, False):
        image = cv2.resize(image, (image.shape[1], height), interpolation=cv2.INTER_AREA)
    elif shrinks == (False, True):
        image = cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_AREA)
    method = cv2.INTER_AREA if all(shrinks) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), out, interpolation=method), np.float32)


def level_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of an image at a scale, rounded up."""
    return max(CELL, ceil(height * scale)), max(CELL, ceil(width * scale))


def bands(rows: int, columns: int, workers: int = 1) -> Iterator[tuple[int, int]]:
    """Cut a level into bands of rows that the first net can take one by one.

    Every band begins on an even row and overlaps the one before by what a square needs, so that the squares of all
    bands, one band below the other, are exactly those of the whole. All bands but the last have an even number of rows:
    with an odd one Caffe's pooling, which rounds up, would add a row of squares that is not there in the whole.

    Parameters
    ----------
    rows, columns : int
        Of the level.
    workers : int
        Threads that share the bands of a level that is large enough.

    Yields
    ------
    (start, stop) : tuple of int
    """
    squares = (rows - CELL + 1) // STRIDE + 1  # rounded up, as the pooling does
    pixels = rows * columns
    count = max(round(pixels / _BAND_PIXELS), min(workers, pixels // _SHARED_PIXELS))
    count = max(1, min(count, squares // 16))
    edges = [squares * i // count for i in range(count + 1)]
    for start, stop in pairwise(edges):
        yield start * STRIDE, min((stop - 1) * STRIDE + CELL, rows)
