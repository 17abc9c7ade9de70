"""What SphereCV answers with: frozen, validated records that know how to show themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from PIL.Image import Image

FloatArray = NDArray[np.float32]
ImageArray = NDArray[np.uint8]


def _checked(name: str, value: Any, *shapes: tuple[int, ...]) -> FloatArray:
    array = np.array(value, dtype=np.float32)
    if array.shape not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise InvalidArgumentError(f"{name} must have shape {wanted}, but got {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidArgumentError(f"{name} must be finite, but got {array.tolist()}")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one image.

    Attributes
    ----------
    box : ndarray of float32, shape (4,)
        `x1, y1, x2, y2` in pixels of the image; may reach past its border. Read-only.
    score : float
        The detector's confidence, 0..1.
    landmarks : ndarray of float32, shape (5, 2) or (2, 2), or None
        `x, y` in pixels, in the order image-left eye, image-right eye, nose, image-left mouth corner, image-right
        mouth corner; or the eyes alone. Read-only.
    quality : float or None
        How far this face can be trusted for recognition, 0..1; see `spherecv.quality.face_quality`.

    Raises
    ------
    InvalidArgumentError
        A shape, range or value that no face can have.
    """

    box: FloatArray
    score: float = 1.0
    landmarks: FloatArray | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        box = _checked("box", self.box, (4,))
        if box[2] <= box[0] or box[3] <= box[1]:
            raise InvalidArgumentError(f"box must have x1 < x2 and y1 < y2, but got {box.tolist()}")
        object.__setattr__(self, "box", box)
        if self.landmarks is not None:
            object.__setattr__(self, "landmarks", _checked("landmarks", self.landmarks, (5, 2), (2, 2)))
        for name in ("score", "quality"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise InvalidArgumentError(f"{name} must be within 0..1, but got {value}")

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return float(self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return float(self.box[3] - self.box[1])

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, `x, y` in pixels."""
        return float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2

    def to_dict(self) -> dict[str, Any]:
        """The face as plain Python values, ready for JSON."""
        return {
            "box": [round(float(v), 2) for v in self.box],
            "score": round(float(self.score), 6),
            "landmarks": None if self.landmarks is None else [[round(float(v), 2) for v in p] for p in self.landmarks],
            "quality": None if self.quality is None else round(float(self.quality), 4),
        }
