"""Variations of an image. Each is off by default: the authors of SphereFace used the mirror only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """How much an image may be varied. Numbers are largest amounts, or (`mirror` apart) probabilities in 0..1.

    Attributes
    ----------
    mirror : bool
        Turn half of the images left to right.
    shift : float
        Pixels, in both directions: what a detector's jitter does.
    zoom : float
        Relative change of size: 0.05 gives 0.95 to 1.05.
    rotate : float
        Degrees.
    light : float
        Relative change of brightness and of contrast.
    colour : float
        Relative change of each channel by itself.
    grey, blur, low_resolution, jpeg, occlusion : float
        Probability that colours go, that the image is blurred (sigma 0.5 to 2 pixels), shrunk to 1/4..3/4 and back,
        compressed as JPEG of quality 20 to 80, that a rectangle of up to a ninth of it is filled with grey.
    """

    mirror: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    rotate: float = 0.0
    light: float = 0.0
    colour: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    low_resolution: float = 0.0
    jpeg: float = 0.0
    occlusion: float = 0.0

    def __post_init__(self) -> None:
        for name in ("grey", "blur", "low_resolution", "jpeg", "occlusion"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidArgumentError(f"{name} is a probability in 0..1, but got {getattr(self, name)}")
        for name in ("shift", "zoom", "rotate", "light", "colour"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidArgumentError(f"{name} must be at least 0, but got {getattr(self, name)}")

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Augmentation:
        """Return the augmentation of a table of settings; a name that is none of ours is an error."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise InvalidArgumentError(f"unknown augmentation {unknown[0]!r}: known are {', '.join(known)}")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a table."""
        return asdict(self)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Return a variation of an image.

        Parameters
        ----------
        image : ndarray of uint8 (height, width, 3)
        rng : numpy Generator
        """
        if self.mirror and rng.random() < 0.5:
            image = image[:, ::-1]
        if self.shift or self.zoom or self.rotate:
            image = self._move(image, rng)
        if self.occlusion and rng.random() < self.occlusion:
            image = _cover(image, rng)
        if self.light or self.colour:
            image = self._tint(image, rng)
        if self.grey and rng.random() < self.grey:
            image = _grey(image)
        if self.blur and rng.random() < self.blur:
            image = _blur(image, rng.uniform(0.5, 2.0))
        if self.low_resolution and rng.random() < self.low_resolution:
            image = _shrink(image, rng.uniform(0.25, 0.75))
        if self.jpeg and rng.random() < self.jpeg:
            image = _compress(image, int(rng.integers(20, 81)))
        return np.ascontiguousarray(image)

    def _move(self, image: Image, rng: np.random.Generator) -> Image:
        import cv2

        height, width = image.shape[:2]
        angle = math.radians(rng.uniform(-self.rotate, self.rotate))
        scale = 1.0 + rng.uniform(-self.zoom, self.zoom)
        dx, dy = rng.uniform(-self.shift, self.shift, 2)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        cx, cy = (width - 1) / 2, (height - 1) / 2
        matrix = np.array([[cos, -sin, cx + dx - cos * cx + sin * cy], [sin, cos, cy + dy - sin * cx - cos * cy]])
        moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, dtype=np.uint8)

    def _tint(self, image: Image, rng: np.random.Generator) -> Image:
        import cv2

        gain = 1.0 + rng.uniform(-self.light, self.light)
        offset = 255.0 * rng.uniform(-self.light, self.light) / 2
        factors = gain * (1.0 + rng.uniform(-self.colour, self.colour, 3))
        levels = np.arange(256)[:, None]
        table = np.clip(np.rint((levels - 127.5) * factors + 127.5 + offset), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(np.ascontiguousarray(image), table[None]), dtype=np.uint8)


def _cover(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    down, across = (int(side * rng.uniform(0.1, 1 / 3)) for side in (height, width))
    top, left = int(rng.integers(0, height - down + 1)), int(rng.integers(0, width - across + 1))
    covered = image.copy()
    covered[top : top + down, left : left + across] = int(rng.integers(0, 256))
    return covered


def _grey(image: Image) -> Image:
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2GRAY)
    return np.repeat(np.asarray(grey, dtype=np.uint8)[..., None], 3, axis=-1)


def _blur(image: Image, sigma: float) -> Image:
    import cv2

    return np.asarray(cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma), dtype=np.uint8)


def _shrink(image: Image, factor: float) -> Image:
    import cv2

    height, width = image.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    shrunk = cv2.resize(np.ascontiguousarray(image), small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _compress(image: Image, quality: int) -> Image:
    import cv2

    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
