"""Quality of a detected face for recognition."""

from __future__ import annotations

from math import ceil, floor, prod

import numpy as np
from numpy.typing import NDArray

from spherecv.records import Face

FULL_SIZE = 112.0
"""Side of a face in pixels from which more pixels add nothing: the side of the nets' crops."""
HALF_SHARPNESS = 100.0
"""Variance of the Laplacian, on a 64x64 grey face, that counts as half sharp: Pech-Pacheco et al. 2000 use this
measure, and 100 is the customary border between blurred and sharp."""
_PATCH = 64


def face_quality(image: NDArray[np.uint8], face: Face) -> float:
    """Rate a face between 0 (useless) and 1 (large, sharp, frontal, certain).

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        The BGR image that the face was found in.
    face : Face
        Box and score, and landmarks where the detector gives them.

    Returns
    -------
    float
        The geometric mean of `size = min(1, shorter side / 112)`, `sharpness = v / (v + 100)` with v the variance of
        the Laplacian of the face at 64x64, `frontalness` (see `frontalness`), and the detector's score.
    """
    size = min(1.0, min(face.width, face.height) / FULL_SIZE)
    factors = [size, _sharpness(image, face), face.score]
    if face.landmarks is not None and len(face.landmarks) == 5:
        factors.append(frontalness(face.landmarks))
    return float(prod(factors) ** (1.0 / len(factors)))


def frontalness(landmarks: NDArray[np.float32]) -> float:
    """Rate the turn of a head, 0 (profile) to 1 (frontal), from its five landmarks.

    Parameters
    ----------
    landmarks : ndarray of float32, shape (5, 2)
        In pixels, in the order of `Face.landmarks`.

    Returns
    -------
    float
        `max(0, 1 - 2 |t|)`, where t is the offset of the nose from the line through the midpoints of the eyes and of
        the mouth, in units of the distance between the eyes; 0 where eyes or mouth coincide.
    """
    # As complex numbers of Python's, x + iy: arrays of two numbers take ten times as long.
    left, right, nose, mouth_left, mouth_right = (complex(x, y) for x, y in np.asarray(landmarks).tolist())
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    axis, span = mouth - eyes, abs(right - left)
    length = abs(axis)
    if length == 0 or span == 0:
        return 0.0
    offset = abs((axis.conjugate() * (nose - eyes)).imag) / length / span
    return max(0.0, 1.0 - 2.0 * offset)


def _sharpness(image: NDArray[np.uint8], face: Face) -> float:
    import cv2

    height, width = image.shape[:2]
    left, top, right, bottom = np.asarray(face.box).tolist()
    x1, y1 = floor(min(max(left, 0), width)), floor(min(max(top, 0), height))
    x2, y2 = ceil(min(max(right, 0), width)), ceil(min(max(bottom, 0), height))
    if x2 - x1 < 2 or y2 - y1 < 2:
        return 0.0
    patch = image[y1:y2, x1:x2]
    shrinks = min(patch.shape[:2]) > _PATCH
    patch = cv2.resize(patch, (_PATCH, _PATCH), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    variance = float(cv2.Laplacian(cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var())
    return variance / (variance + HALF_SHARPNESS)
