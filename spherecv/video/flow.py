"""Optical flow: faces followed from frame to frame, at a tenth of the cost of detection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.records import Face

Image = NDArray[np.uint8]

_LONGEST_SIDE = 640
"""Larger frames are made smaller before the flow is measured: faces large enough to be found move no less."""
_GRID = 6
_WINDOW = (15, 15)
_LEAST_POINTS = 8
_RETURN = 1.0
"""Pixels that a point may be off after it was followed there and back (Kalal et al. 2010, forward-backward error)."""
_GROWTH = 1.25
"""Most that a face grows or shrinks between two frames."""


class Flow:
    """Follows faces through a video, frame by frame."""

    def __init__(self) -> None:
        self._last: Image | None = None
        self._scale = 1.0

    def start(self, image: Image) -> None:
        """Take a frame to follow from."""
        self._last, self._scale = _grey(image)

    def forget(self) -> None:
        """Have no frame to follow from: nothing is followed to the next one."""
        self._last = None

    def follow(self, image: Image, faces: Sequence[Face]) -> list[Face | None]:
        """Find where faces of the last frame are in this one, which becomes the last.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
            BGR.
        faces : sequence of Face
            As they were in the frame before.

        Returns
        -------
        list of Face or None
            Moved, grown and turned; their quality is not known. None for those that were lost.
        """
        import cv2

        before = self._last
        self.start(image)
        after = self._last
        if before is None or after is None or before.shape != after.shape or not faces:
            return [None] * len(faces)
        points = np.concatenate([_points(face) for face in faces]).astype(np.float32) * np.float32(self._scale)
        place: Any = None  # OpenCV is to make the array, which its type hints do not know of
        there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points[:, None], place, winSize=_WINDOW, maxLevel=3)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, place, winSize=_WINDOW, maxLevel=3)
        there, back = there[:, 0], back[:, 0]
        good = (found[:, 0] == 1) & (returned[:, 0] == 1) & (np.abs(back - points).max(axis=1) < _RETURN)
        moved = []
        for number, face in enumerate(faces):
            part = slice(number * _GRID**2, (number + 1) * _GRID**2)
            held = good[part]
            moved.append(_moved(face, points[part][held] / self._scale, there[part][held] / self._scale))
        return moved


def _grey(image: Image) -> tuple[Image, float]:
    import cv2

    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if scale < 1.0:
        # An image that is hardly more than a line would lose its other side altogether.
        thin = None if scale * min(grey.shape) >= 1 else [max(1, round(scale * side)) for side in grey.shape[::-1]]
        grey = cv2.resize(grey, thin, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8), scale


def _points(face: Face) -> NDArray[np.float64]:
    """A grid over the middle of the face, without background."""
    x1, y1, x2, y2 = (float(value) for value in face.box)
    steps = np.linspace(0.2, 0.8, _GRID)
    x, y = np.meshgrid(x1 + (x2 - x1) * steps, y1 + (y2 - y1) * steps)
    return np.column_stack([x.ravel(), y.ravel()])


def _moved(face: Face, before: NDArray[np.float32], after: NDArray[np.float32]) -> Face | None:
    import cv2

    if len(before) < _LEAST_POINTS:
        return None
    transform, agree = cv2.estimateAffinePartial2D(before, after, method=cv2.RANSAC, ransacReprojThreshold=2.0)
    if transform is None or int(agree.sum()) < _LEAST_POINTS:
        return None
    growth = float(np.hypot(transform[0, 0], transform[1, 0]))
    if not 1 / _GROWTH <= growth <= _GROWTH:
        return None
    middle = transform[:, :2] @ np.array(face.center) + transform[:, 2]
    half = np.array((face.width, face.height)) * growth / 2
    landmarks = None if face.landmarks is None else face.landmarks @ transform[:, :2].T + transform[:, 2]
    return Face(np.concatenate([middle - half, middle + half]), face.score, landmarks)
