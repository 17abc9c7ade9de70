"""Alignment: the similarity transform from five landmarks to the canonical crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.checks import check_choice
from spherecv.errors import InvalidArgumentError
from spherecv.records import Face
from spherecv.zoo.recipe import TEMPLATES, Alignment

_SIZES = {"sphereface": (112, 96), "arcface": (112, 112)}


class FaceAligner:
    """Cut faces out of images so that their landmarks lie where a recogniser expects them.

    Parameters
    ----------
    template : {"sphereface", "arcface"} or array_like of float, shape (5, 2)
        Where the landmarks shall lie in the crop, `x, y` in pixels.
    size : tuple of int, optional
        Height and width of the crop. Known for the named templates, (112, 96) and (112, 112).
    alignment : {"cp2tform", "umeyama", "box"}
        `cp2tform` fits the template, less the 1 that MATLAB counts from, to the landmarks, and inverts, so that the
        residual is in the image: what the SphereFace authors ran. `umeyama` fits the landmarks to the template as it
        is, so that the residual is in the crop: what 112x112 embedders were trained behind (Umeyama 1991, with
        reflections left out). `box` cuts out the box and resizes it: what FaceNet's nets were trained behind.
    margin : int
        Of `box`: pixels of the image that the box is made wider and higher by, half of them on each side, as far as the
        image reaches.

    Examples
    --------
    >>> import numpy as np
    >>> from spherecv import Face, FaceAligner
    >>> image = np.zeros((200, 200, 3), np.uint8)
    >>> points = [[70, 90], [120, 90], [95, 120], [75, 150], [115, 150]]
    >>> FaceAligner().align(image, [Face(box=(50, 50, 150, 180), landmarks=points)]).shape
    (1, 112, 96, 3)
    """

    def __init__(
        self,
        template: str | ArrayLike = "sphereface",
        *,
        size: tuple[int, int] | None = None,
        alignment: Alignment = "cp2tform",
        margin: int = 0,
    ) -> None:
        if isinstance(template, str):
            check_choice("template", template, TEMPLATES)
            points = np.array(TEMPLATES[template])
            size = size or _SIZES[template]
        else:
            points = np.asarray(template, dtype=np.float64)
            if points.shape != (5, 2):
                raise InvalidArgumentError(f"template must have shape (5, 2), but got {points.shape}")
            if size is None:
                raise InvalidArgumentError("a template of your own needs the size of the crop: size=(height, width)")
        check_choice("alignment", alignment, get_args(Alignment))
        if min(size) < 1:
            raise InvalidArgumentError(f"size must be positive, but got {size}")
        self.template = points
        self.size = size
        self.alignment = alignment
        self.margin = margin

    def transform(self, landmarks: ArrayLike) -> NDArray[np.float64]:
        """Find the similarity transform from the image to the crop.

        Parameters
        ----------
        landmarks : array_like of float, shape (5, 2) or (2, 2)
            `x, y` in pixels of the image; two points are the eyes, image-left first.

        Returns
        -------
        ndarray of float64, shape (2, 3)
            Scale, rotation and shift; never a reflection.

        Raises
        ------
        InvalidArgumentError
            Another shape, values that are not finite, or points that all coincide.
        """
        if self.alignment == "box":
            raise InvalidArgumentError("a crop by its box has no transform from landmarks")
        points = np.asarray(landmarks, dtype=np.float64)
        if points.shape not in ((5, 2), (2, 2)) or not np.isfinite(points).all():
            raise InvalidArgumentError(
                f"landmarks must be finite, of shape (5, 2) or (2, 2), but got {points.tolist()}"
            )
        goal = self.template[: len(points)]
        if self.alignment == "umeyama":
            return _fit_similarity(points, goal)
        return _inverted(_fit_similarity(goal - 1.0, points))

    def align(self, image: NDArray[np.uint8], faces: Sequence[Face]) -> NDArray[np.uint8]:
        """Cut out the faces of one image.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
        faces : sequence of Face
            With landmarks: five, or the two eyes; for `box` alignment without any.

        Returns
        -------
        ndarray of uint8, shape (N, height, width, 3)
            Sampled bilinearly, black beyond the image's border; boxes end at the border.

        Raises
        ------
        InvalidArgumentError
            A face has no landmarks, or the image is not an array `(H, W, 3)` of uint8; `load_image` makes one.
        """
        import cv2

        if not isinstance(image, np.ndarray):
            raise InvalidArgumentError(
                f"image must be an array, as load_image gives one, but got {type(image).__name__}"
            )
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InvalidArgumentError(f"image must be uint8 of shape (H, W, 3), but got {image.dtype} {image.shape}")
        if not isinstance(faces, Sequence) or not all(isinstance(face, Face) for face in faces):
            raise InvalidArgumentError("faces must be a list of Face, as FaceDetector.detect gives one")
        height, width = self.size
        crops = np.empty((len(faces), height, width, 3), np.uint8)
        for crop, face in zip(crops, faces, strict=True):
            if self.alignment == "box":
                crop[:] = self._by_box(image, face)
                continue
            if face.landmarks is None:
                raise InvalidArgumentError("a face without landmarks cannot be aligned: use a detector that finds them")
            cv2.warpAffine(image, self.transform(face.landmarks), (width, height), dst=crop, flags=cv2.INTER_LINEAR)
        return crops


    def _by_box(self, image: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        """Cut out a box as FaceNet's `align_dataset_mtcnn.py` does: whole pixels, and Pillow's filter for resizing."""
        from PIL import Image

        rows, columns = image.shape[:2]
        x1, y1, x2, y2 = (float(side) for side in face.box)
        half = self.margin / 2
        left, top = (min(int(max(low - half, 0)), limit - 1) for low, limit in ((x1, columns), (y1, rows)))
        right, bottom = (int(min(high + half, limit)) for high, limit in ((x2, columns), (y2, rows)))
        part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
        height, width = self.size
        return np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR))


def _fit_similarity(source: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares over x' = a x - b y + s, y' = b x + a y + t: the best similarity that is no reflection."""
    source_mean, goal_mean = source.mean(axis=0), goal.mean(axis=0)
    centred, wanted = source - source_mean, goal - goal_mean
    spread = np.square(centred).sum()
    if spread == 0:
        raise InvalidArgumentError(f"landmarks must not all coincide, but got {source.tolist()}")
    a = (centred * wanted).sum() / spread
    b = (centred[:, 0] * wanted[:, 1] - centred[:, 1] * wanted[:, 0]).sum() / spread
    linear = np.array([[a, -b], [b, a]])
    return np.column_stack([linear, goal_mean - linear @ source_mean])


def _inverted(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    determinant = np.linalg.det(transform[:, :2])
    if determinant == 0:
        raise InvalidArgumentError("landmarks must not all coincide")
    inverse = np.linalg.inv(transform[:, :2])
    return np.column_stack([inverse, -inverse @ transform[:, 2]])
