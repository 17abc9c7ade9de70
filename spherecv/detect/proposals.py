"""First stage of MTCNN: a small net over every window of every scale of every image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from spherecv.detect.boxes import moved, non_maximum, squared
from spherecv.detect.crops import floating
from spherecv.detect.nets import NetPool
from spherecv.detect.pyramid import CELL, STRIDE, bands, level_size, resample, scales_of

FloatArray = NDArray[np.float32]
Image = NDArray[np.uint8] | FloatArray
T = TypeVar("T")

_OVERLAP_IN_SCALE = 0.5
_OVERLAP = 0.7
PIXELS_AT_ONCE = 8_000_000
"""Pixels that are floating point at one time, or two where one image or one scale alone has more: 96 MB each."""

_FEW = 256
"""Boxes up to which those of all scales are compared in one go, which costs less than a call for each scale."""


class _Task(NamedTuple):
    """Scales of one image that are made one after the other."""

    image: int
    scales: tuple[float, ...]
    pixels: int


class _Level(NamedTuple):
    """One scale of one image."""

    image: int
    scale: float


class _Squares(NamedTuple):
    """Squares that may hold a face: their places in the net's map, scores and offsets."""

    x: NDArray[np.intp]
    y: NDArray[np.intp]
    scores: FloatArray
    offsets: FloatArray


@dataclass(frozen=True)
class Proposer:
    """The first stage.

    Attributes
    ----------
    net : NetPool
    threshold : float
        Least score, 0..1.
    factor : float
        Ratio of each scale to the one before.
    progressive : bool
        Whether each scale is made from the one before (`fastresize` of the MATLAB code) and not from the image.
    map : callable
        Like the built-in, and allowed to run things side by side.
    workers : int
        How many at a time.
    """

    net: NetPool
    threshold: float
    factor: float
    progressive: bool
    map: Callable[..., Iterable[Any]]
    workers: int = 1

    def propose(self, images: Sequence[Image], min_sizes: Sequence[float]) -> list[FloatArray]:
        """Find the squares that may hold a face.

        Parameters
        ----------
        images : sequence of ndarray of uint8 or float32, shape (H, W, 3)
            BGR, 0..255.
        min_sizes : sequence of float
            Side of the smallest face, for each image.

        Returns
        -------
        list of ndarray of float32, shape (N, 4)
            For each image: whole numbers, corners included, counted from 1.
        """
        found: list[list[tuple[_Squares, float]]] = [[] for _ in images]
        for group in _shared_out(range(len(images)), lambda i: images[i].shape[0] * images[i].shape[1]):
            sources = dict(zip(group, self.map(floating, [images[i] for i in group]), strict=True))
            tasks = [task for i in group for task in self._tasks(i, images[i].shape[:2], min_sizes[i])]
            for some in _shared_out(tasks, lambda task: task.pixels):
                for level, squares in self._scanned(sources, some):
                    if len(squares.scores):
                        found[level.image].append((squares, level.scale))
        return [_merged(scales) for scales in found]

    def _tasks(self, image: int, size: tuple[int, ...], min_size: float) -> Iterator[_Task]:
        scales = scales_of(size[0], size[1], min_size, self.factor)
        pixels = [prod(level_size(size[0], size[1], scale)) for scale in scales]
        if self.progressive and scales:
            yield _Task(image, tuple(scales), sum(pixels))
        elif scales:
            yield from (_Task(image, (scale,), count) for scale, count in zip(scales, pixels, strict=True))

    def _scanned(self, sources: Mapping[int, FloatArray], tasks: Sequence[_Task]) -> Iterator[tuple[_Level, _Squares]]:
        """Scan the levels of some images, each while the next one is being made."""
        order: list[_Level] = []

        def parts() -> Iterator[tuple[FloatArray, int]]:
            for task in tasks:
                for level, planes in _levels(sources[task.image], task):
                    rows, columns = planes.shape[1:]
                    for start, stop in bands(rows, columns, self.workers):
                        order.append(level)
                        yield planes[None, :, start:stop], start

        scanned = zip(self.map(self._scan, parts()), order, strict=False)  # which grows with what is scanned
        for level, bits in groupby(scanned, key=itemgetter(1)):
            yield level, _Squares(*(np.concatenate(column) for column in zip(*(bit for bit, _ in bits), strict=True)))

    def _scan(self, part: tuple[FloatArray, int]) -> _Squares:
        planes, start = part
        outputs = self.net.run(np.ascontiguousarray(planes))
        scores = outputs.scores[0, 1]
        x, y = np.nonzero(scores >= self.threshold)
        return _Squares(x + start // STRIDE, y, scores[x, y], outputs.offsets[0][:, x, y].T)


def _levels(source: FloatArray, task: _Task) -> Iterator[tuple[_Level, FloatArray]]:
    """Make the scales of a task one by one, as the net takes them: `(3, W, H)`."""
    import cv2

    height, width = source.shape[:2]
    for scale in task.scales:
        rows, columns = level_size(height, width, scale)
        source = resample(source, rows, columns)
        planes = np.empty((3, columns, rows), np.float32)
        cv2.split(cv2.transpose(source), [planes[2], planes[1], planes[0]])
        planes -= np.float32(127.5)
        planes *= np.float32(1 / 128)
        yield _Level(task.image, scale), planes


def _corners(scales: Sequence[tuple[_Squares, float]]) -> FloatArray:
    """Squares of all scales, in pixels of the image."""
    x, y = (np.concatenate([getattr(squares, axis) for squares, _ in scales]) * STRIDE for axis in "xy")
    scale = np.repeat([scale for _, scale in scales], [len(squares.x) for squares, _ in scales])
    # In double precision, as in MATLAB, where only the result becomes single.
    corners = np.stack([x + 1, y + 1, x + CELL, y + CELL], axis=1) / scale[:, None]
    return np.asarray(np.trunc(corners), np.float32)


def _merged(scales: Sequence[tuple[_Squares, float]]) -> FloatArray:
    """Boxes of all scales of an image, without those that a better one covers, moved and made square."""
    if not scales:
        return np.empty((0, 4), np.float32)
    corners = _corners(scales)
    scores = np.concatenate([squares.scores for squares, _ in scales])
    offsets = np.concatenate([squares.offsets for squares, _ in scales])
    best = _best_of_scales(corners, scores, [len(squares.scores) for squares, _ in scales])
    best = best[non_maximum(corners[best], scores[best], _OVERLAP)]
    return np.trunc(squared(moved(corners[best], offsets[best], inclusive=False)))


def _best_of_scales(corners: FloatArray, scores: FloatArray, counts: Sequence[int]) -> NDArray[np.intp]:
    """Suppress boxes within each scale alone; scale by scale, the best first."""
    if len(scores) > _FEW:
        ends = np.cumsum(counts).tolist()
        parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        kept = [part.start + non_maximum(corners[part], scores[part], _OVERLAP_IN_SCALE) for part in parts]
        return np.concatenate(kept)
    scale = np.repeat(np.arange(len(counts)), counts)
    # Set so far apart that no two scales overlap: whole numbers, exact in single precision.
    apart = (scale * (np.ceil(corners.max()) - np.floor(corners.min()) + 2)).astype(np.float32)
    best = non_maximum(corners + apart[:, None], scores, _OVERLAP_IN_SCALE)
    return best[np.argsort(scale[best], kind="stable")]


def _shared_out(items: Iterable[T], pixels: Callable[[T], int]) -> Iterator[list[T]]:
    """Divide things into lists of at most so many pixels, or of one thing."""
    some: list[T] = []
    total = 0
    for item in items:
        if some and total + pixels(item) > PIXELS_AT_ONCE:
            yield some
            some, total = [], 0
        some.append(item)
        total += pixels(item)
    if some:
        yield some
