"""Policy for images without a face, and the centre crop."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice

NoFacePolicy = Literal["skip", "center", "fail"]
NO_FACE_POLICIES: tuple[NoFacePolicy, ...] = get_args(NoFacePolicy)
"""Leave the image out and say so; take the middle of it; or end the work."""

CENTER_SHARE = 0.58
"""Height of the middle part over the image's shorter side. LFW's images are 2.2 times the face box of Viola and Jones
(Huang et al. 2007), and the crops of the templates are about 1.27 of that box: 1.27 / 2.2."""


def check_policy(name: str) -> NoFacePolicy:
    """Return a policy's name, or raise `InvalidArgumentError`."""
    return check_choice("no_face", name, NO_FACE_POLICIES)


def center_crop(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut out the middle of an image, as if a face of an LFW image's size were there.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    size : tuple of int
        Height and width of the crop, whose ratio is kept.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    import cv2

    height, width = size
    share = CENTER_SHARE * min(image.shape[:2]) / height
    rows, columns = max(1, round(share * height)), max(1, round(share * width))
    top, left = (image.shape[0] - rows) // 2, max(0, (image.shape[1] - columns) // 2)
    part = image[top : top + rows, left : left + columns]
    shrinks = part.shape[0] > height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), dtype=np.uint8)
