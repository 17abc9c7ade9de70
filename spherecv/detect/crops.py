"""Square crops of candidate boxes, resized to a net's input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spherecv.detect.pyramid import resample

FloatArray = NDArray[np.float32]
Image = NDArray[np.uint8] | FloatArray


def floating(image: Image) -> FloatArray:
    """The image in floating point, 0..255; itself where it is already."""
    return image.astype(np.float32, copy=False)


def cut(images: Sequence[Image], owners: NDArray[np.intp], boxes: FloatArray, size: int) -> FloatArray:
    """Cut boxes out of images; what lies outside the image is black.

    Parameters
    ----------
    images : sequence of ndarray of uint8 or float32, shape (H, W, 3)
    owners : ndarray of int, shape (N,)
        Which image each box belongs to.
    boxes : ndarray of float32, shape (N, 4)
        Whole numbers, corners included, counted from 1.
    size : int
        Side of the pieces.

    Returns
    -------
    ndarray of float32, shape (N, size, size, 3)
        0..255.
    """
    crops = np.empty((len(boxes), size, size, 3), np.float32)
    # One resize for each box, since they differ in size; OpenCV takes 5 us for a small one.
    for crop, owner, box in zip(crops, owners.tolist(), boxes.astype(np.int64).tolist(), strict=True):
        resample(_patch(images[owner], *box), size, size, out=crop)
    return crops


def _patch(image: Image, x1: int, y1: int, x2: int, y2: int) -> FloatArray:
    height, width = image.shape[:2]
    left, top, right, bottom = max(x1, 1), max(y1, 1), min(x2, width), min(y2, height)
    inside = image[top - 1 : max(bottom, 0), left - 1 : max(right, 0)]
    if (left, top, right, bottom) == (x1, y1, x2, y2) and inside.size:
        return floating(inside)
    patch = np.zeros((max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1), 3), np.float32)
    if inside.size:
        patch[top - y1 : bottom - y1 + 1, left - x1 : right - x1 + 1] = inside
    return patch


def as_net_input(images: FloatArray) -> FloatArray:
    """Bring images into the form that the three nets were trained on.

    MATLAB stores columns first, so Caffe saw every image transposed: x runs along the rows of the net's input.

    Parameters
    ----------
    images : ndarray of float32, shape (N, H, W, 3)
        BGR, 0..255.

    Returns
    -------
    ndarray of float32, shape (N, 3, W, H)
        RGB, `(x - 127.5) / 128`, C-contiguous.
    """
    planes = np.empty((len(images), 3, images.shape[2], images.shape[1]), np.float32)
    np.subtract(images[..., ::-1].transpose(0, 3, 2, 1), np.float32(127.5), out=planes)
    planes *= np.float32(1 / 128)
    return planes
