"""Faces that lie on their side or stand on their head, told by the third net of MTCNN."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spherecv.detect.base import Detections
from spherecv.detect.crops import as_net_input, cut
from spherecv.detect.nets import NetPool

Image = NDArray[np.uint8]
FloatArray = NDArray[np.float32]

_CERTAIN = 0.998
"""Score from which a face is upright: of lying faces that the cascade takes for upright ones few reach it."""
_AROUND = 1.1
_SIDE = 48
_SAME = 0.3
"""Overlap (intersection over union) from which the face of the turned image is the one that was asked about."""


def with_turns(onet: NetPool, find: Callable[[Image], Detections], image: Image, found: Detections) -> Detections:
    """Look again at the largest face where it is not certain, in all four turns, and turn the image where it lies.

    Parameters
    ----------
    onet : NetPool
    find : callable
        Finds upright faces.
    image : ndarray of uint8, shape (H, W, 3)
    found : Detections
        What `find` says of the image.

    Returns
    -------
    Detections
        `found`, or the faces of the turned image in the coordinates of the image as it came; their landmarks keep the
        order of a face, so that alignment sets them upright.
    """
    if not len(found.scores):
        return found
    largest = int(np.argmax(np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)))
    if found.scores[largest] >= _CERTAIN:
        return found
    box = found.boxes[largest]
    quarter = _turn_of(onet, image, box)
    if not quarter:
        return found
    upright = find(np.ascontiguousarray(np.rot90(image, -quarter)))
    turned = _turned_back(upright, quarter, image.shape[0], image.shape[1])
    same = [_overlap(box, other) >= _SAME for other in turned.boxes]
    better = bool(np.any(turned.scores[same] > found.scores[largest]))
    return turned if better else found


def _turn_of(onet: NetPool, image: Image, box: FloatArray) -> int:
    """Quarter turns, counter-clockwise, by which a face is turned, as the net scores its crop in each."""
    middle, half = (box[:2] + box[2:]) / 2, _AROUND * float(np.max(box[2:] - box[:2])) / 2
    square = np.concatenate([middle - half + 1, middle + half]).round()[None].astype(np.float32)
    crop = cut([image], np.zeros(1, np.intp), square, _SIDE)[0]
    scores = onet.run(as_net_input(np.stack([np.rot90(crop, -turn) for turn in range(4)]))).scores[:, 1]
    return int(np.argmax(scores))


def _turned_back(found: Detections, quarter: int, height: int, width: int) -> Detections:
    """From the coordinates of `rot90(image, -quarter)` to those of the image, of shape (height, width)."""
    first, second = (_points_back(found.boxes[:, part], quarter, height, width) for part in (slice(2), slice(2, 4)))
    boxes = np.hstack([np.minimum(first, second), np.maximum(first, second)])
    # Landmarks count from the middle of the first pixel, boxes from its edge.
    landmarks = _points_back(found.landmarks + 0.5, quarter, height, width) - 0.5
    return Detections(boxes.astype(np.float32), found.scores, landmarks.astype(np.float32))


def _points_back(points: FloatArray, quarter: int, height: int, width: int) -> FloatArray:
    x, y = points[..., 0], points[..., 1]
    moved = {1: (y, height - x), 2: (width - x, height - y), 3: (width - y, x)}[quarter]
    return np.stack(moved, axis=-1)


def _overlap(a: FloatArray, b: FloatArray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)
