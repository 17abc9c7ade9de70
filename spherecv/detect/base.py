"""Interface between `FaceDetector` and its kinds."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import shown
from spherecv.errors import InvalidArgumentError


class Detections(NamedTuple):
    """Faces of one image, in no order.

    Attributes
    ----------
    boxes : ndarray of float32, shape (N, 4)
        `x1, y1, x2, y2` in pixels: the edges of the box, so that `image[y1:y2, x1:x2]` is what it holds.
    scores : ndarray of float32, shape (N,)
        0..1.
    landmarks : ndarray of float32, shape (N, 5, 2)
        `x, y` in pixels, where whole numbers are the middles of pixels, in the order of `spherecv.Face`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def valid(self) -> Detections:
        """Leave out what is no face whatever its score: not finite, or with a side of no length."""
        finite = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.landmarks).all(axis=(1, 2))
        good = finite & np.isfinite(self.scores) & (self.boxes[:, 2:] > self.boxes[:, :2]).all(axis=1)
        return Detections(self.boxes[good], np.clip(self.scores[good], 0, 1), self.landmarks[good])


class Kind(Protocol):
    """A way to find faces.

    Attributes
    ----------
    name : str
        The kind, and whatever about it differs from its default: what thresholds and results are labelled with.
    """

    name: str

    def find(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Find the faces of each image.

        Parameters
        ----------
        images : sequence of ndarray of uint8, shape (H, W, 3)
            BGR, of any sizes.
        """


def detector_name(kind: str, **given: object) -> str:
    """Name a detector by its kind and what differs from the kind's defaults, as `"mtcnn preset=sphereface"`."""
    return " ".join([kind, *(f"{name}={value}" for name, value in given.items() if value is not None)])


def precision_in_name(precision: str) -> str | None:
    """The part of a detector's name that its precision is: none for float32, which "auto" is too."""
    return None if precision in ("float32", "auto") else precision


def check_score(name: str, value: float) -> float:
    """Check a least score.

    Raises
    ------
    InvalidArgumentError
        It is not a number within 0..1.
    """
    return check_number(name, value, 0.0, 1.0)


def check_number(name: str, value: float, low: float, high: float = float("inf")) -> float:
    """Check a number that a user gave.

    Raises
    ------
    InvalidArgumentError
        It is not a number, or not within `low..high`; the message says what is.
    """
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else float("nan")
    except OverflowError:  # a whole number beyond every float
        number = float("inf")
    if not isfinite(number) or not low <= number <= high:
        bounds = f"from {low:g}" if high == float("inf") else f"within {low:g}..{high:g}"
        raise InvalidArgumentError(f"{name} must be a number {bounds}, but got {shown(value)}")
    return number
