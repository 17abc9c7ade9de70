"""The three stages of MTCNN, each over all images of a batch.

Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", 2016, as the
authors' MATLAB code runs it (`detect_face.m` of MTCNNv1), which fixes what the paper leaves open: how scales are
rounded, where coordinates count from, which overlaps are suppressed, what is padded and what is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spherecv.detect.boxes import moved, non_maximum, squared
from spherecv.detect.crops import as_net_input, cut, floating
from spherecv.detect.nets import NetPool, Outputs
from spherecv.detect.proposals import PIXELS_AT_ONCE, Proposer

FloatArray = NDArray[np.float32]
Image = NDArray[np.uint8] | FloatArray

_OVERLAP = 0.7
_SMALL, _LARGE = 24, 48
_CROPS = {_SMALL: 256, _LARGE: 64}
"""Crops that go through a net at once: 14 MB and 17 MB in its first layer."""
_FEWEST = {_SMALL: 7, _LARGE: 3}
"""Crops that are worth a call of a net of their own."""
_MIRRORED = np.array([1, 0, 2, 4, 3])
"""Which landmark of a mirrored face is which of the face."""


class Nets(NamedTuple):
    """The three nets of the cascade."""

    pnet: NetPool
    rnet: NetPool
    onet: NetPool


class Found(NamedTuple):
    """Faces of one image: corners included, counted from 1, as in MATLAB."""

    boxes: FloatArray
    scores: FloatArray
    landmarks: FloatArray


@dataclass(frozen=True)
class Cascade:
    """The stages in a row.

    Attributes
    ----------
    nets : Nets
    thresholds : tuple of float
        Least score in each stage, 0..1.
    factor, progressive
        See `Proposer`.
    workers : int
        How many calls of `map` run side by side.
    map : callable
        Like the built-in.
    """

    nets: Nets
    thresholds: tuple[float, float, float]
    factor: float
    progressive: bool
    workers: int = 1
    map: Callable[..., Iterable[Any]] = map

    def run(self, images: Sequence[Image], min_sizes: Sequence[float]) -> list[Found]:
        """Find the faces of each image.

        Parameters
        ----------
        images : sequence of ndarray of uint8, shape (H, W, 3)
            BGR, of any sizes.
        min_sizes : sequence of float
            Side of the smallest face, in pixels, for each image.

        Returns
        -------
        list of Found
        """
        if sum(image.shape[0] * image.shape[1] for image in images) <= PIXELS_AT_ONCE:
            images = list(self.map(floating, images))  # once, for the scales of the first stage and all crops
        proposer = Proposer(self.nets.pnet, self.thresholds[0], self.factor, self.progressive, self.map, self.workers)
        return self._decided(images, self._refined(images, proposer.propose(images, min_sizes)))

    def _refined(self, images: Sequence[Image], proposed: Sequence[FloatArray]) -> list[FloatArray]:
        boxes, owners = _in_a_row(proposed)
        outputs = self._seen(self.nets.rnet, images, boxes, owners, _SMALL)
        passed = outputs.scores[:, 1] > self.thresholds[1]
        refined = []
        for image in range(len(images)):
            mine = np.flatnonzero(passed & (owners == image))
            mine = mine[non_maximum(boxes[mine], outputs.scores[mine, 1], _OVERLAP)]
            refined.append(np.trunc(squared(moved(boxes[mine], outputs.offsets[mine], inclusive=True))))
        return refined

    def _decided(self, images: Sequence[Image], refined: Sequence[FloatArray]) -> list[Found]:
        boxes, owners = _in_a_row(refined)
        outputs = self._seen(self.nets.onet, images, boxes, owners, _LARGE)
        passed = outputs.scores[:, 1] > self.thresholds[2]
        final = moved(boxes, outputs.offsets, inclusive=True)
        picks = []
        for image in range(len(images)):
            mine = np.flatnonzero(passed & (owners == image))
            picks.append(mine[non_maximum(final[mine], outputs.scores[mine, 1], _OVERLAP, of_smaller=True)])
        every = np.concatenate([np.empty(0, np.intp), *picks])
        # MTCNNv1 takes the mean of the landmarks found in a face and in its mirror image.
        mirrored = self._seen(self.nets.onet, images, boxes[every], owners[every], _LARGE, mirrored=True).points
        points = (outputs.points[every] + _mirrored_back(mirrored)) / 2
        landmarks = _placed(points, boxes[every])
        ends = np.cumsum([len(pick) for pick in picks])
        return [
            Found(final[pick], outputs.scores[pick, 1], landmarks[end - len(pick) : end])
            for pick, end in zip(picks, ends.tolist(), strict=True)
        ]

    def _seen(
        self,
        net: NetPool,
        images: Sequence[Image],
        boxes: FloatArray,
        owners: NDArray[np.intp],
        size: int,
        *,
        mirrored: bool = False,
    ) -> Outputs:
        """What a net says of boxes, of whichever images, shared out between the workers."""

        def pictures(part: NDArray[np.intp]) -> FloatArray:
            crops = cut(images, owners[part], boxes[part], size)
            return as_net_input(crops[:, :, ::-1] if mirrored else crops)

        def look(part: NDArray[Any]) -> Outputs:
            return net.run(part if part.ndim > 1 else pictures(part))

        # The largest, over which OpenCV takes longest, are cut by the thread that gives them to the net, and all others
        # here meanwhile: their cuts are so short that threads would wait for each other.
        order = np.argsort(boxes[:, 0] - boxes[:, 2], kind="stable")
        pieces = min(3 * self.workers, len(boxes) // _FEWEST[size]) if self.workers > 1 else 1
        count = max(pieces, -(-len(boxes) // _CROPS[size]), 1)
        parts = np.array_split(order, count) if len(boxes) else []
        outputs = Outputs(*(np.empty((len(boxes), n), np.float32) for n in (2, 4, 10 if size == _LARGE else 0)))
        spread = self.map if len(parts) > 1 else map
        given: Iterable[NDArray[Any]] = chain(parts[:1], map(pictures, parts[1:]))
        for part, seen in zip(parts, spread(look, given), strict=True):
            for whole, some in zip(outputs, seen, strict=True):
                whole[part] = some
        return outputs


def landmarks_in(
    onet: NetPool, images: Sequence[Image], boxes: FloatArray, owners: NDArray[np.intp]
) -> FloatArray:
    """Find the landmarks of faces that another detector found, with the third net.

    Each box is squared about its centre, and the landmarks are the means of those found in it and in its mirror image,
    as in the cascade. A second look, at the box that the third net makes of the first one, is what is answered: other
    detectors cut faces otherwise than the net was trained on.

    Parameters
    ----------
    onet : NetPool
    images : sequence of ndarray of uint8, shape (H, W, 3)
    boxes : ndarray of float32, shape (N, 4)
        The edges, `x1, y1, x2, y2` in pixels, as in `Detections`.
    owners : ndarray of int, shape (N,)
        Which image each box belongs to.

    Returns
    -------
    ndarray of float32, shape (N, 5, 2)
        As in `Detections`.
    """
    square: FloatArray = np.trunc(squared(boxes + np.array((1, 1, 0, 0), np.float32)))
    landmarks: list[FloatArray] = [np.empty((0, 5, 2), np.float32)]
    for start in range(0, len(boxes), _CROPS[_LARGE]):
        part = slice(start, start + _CROPS[_LARGE])
        first = onet.run(as_net_input(cut(images, owners[part], square[part], _LARGE)))
        closer = np.trunc(squared(moved(square[part], first.offsets, inclusive=True)))
        crops = cut(images, owners[part], closer, _LARGE)
        points = onet.run(as_net_input(crops)).points
        mirrored = onet.run(as_net_input(crops[:, :, ::-1])).points
        points = np.asarray((points + _mirrored_back(mirrored)) / 2, np.float32)
        landmarks.append(_placed(points, closer) - np.float32(1))
    return np.concatenate(landmarks)


def _in_a_row(boxes: Sequence[FloatArray]) -> tuple[FloatArray, NDArray[np.intp]]:
    owners = np.repeat(np.arange(len(boxes)), [len(some) for some in boxes])
    return np.concatenate([np.empty((0, 4), np.float32), *boxes]), owners


def _mirrored_back(points: FloatArray) -> FloatArray:
    return np.hstack([1 - points[:, :5][:, _MIRRORED], points[:, 5:][:, _MIRRORED]])


def _placed(points: FloatArray, boxes: FloatArray) -> FloatArray:
    """Landmarks in pixels, from fractions of the box that the net was shown; counted from 1."""
    one = np.float32(1)
    extent = boxes[:, 2:] - boxes[:, :2] + one
    xy = np.stack([points[:, :5], points[:, 5:]], axis=2)
    return np.asarray(xy * extent[:, None] + boxes[:, None, :2] - one, np.float32)
