"""From an item to the image that the net sees, still in uint8."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import ImageError
from spherecv.images import load_image
from spherecv.recordio import SUFFIX, payload
from spherecv.train.data.augment import Augmentation
from spherecv.train.data.dataset import Item

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """How an image is brought to size.

    Attributes
    ----------
    height, width : int
        What the net sees.
    resize : (int, int)
        Height and width to which an image is scaled first; (0, 0): not at all.
    random_crop : bool
        Whether a larger image is cut at a random place, as Caffe's `crop_size` does in training; else in the middle.
    colour : bool
        False: one channel, of grey.
    augmentation : Augmentation
    """

    height: int
    width: int
    resize: tuple[int, int] = (0, 0)
    random_crop: bool = False
    colour: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a table that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> View:
        """Return the view of a table of settings."""
        rest = {**settings, "resize": tuple(settings["resize"])}
        return cls(**{**rest, "augmentation": Augmentation.from_dict(settings["augmentation"])})

    @property
    def channels(self) -> int:
        """3, or 1 for grey."""
        return 3 if self.colour else 1

    def read(self, item: Item, rng: np.random.Generator) -> Image:
        """Return an image as (height, width, channels).

        Raises
        ------
        ImageError
            The image is missing, broken or too small.
        """
        image = load_image(bytes_of(item) if item.size else item.path)
        if self.resize != (0, 0):
            import cv2

            image = np.asarray(cv2.resize(image, self.resize[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        image = self.augmentation(image, rng)
        spare = image.shape[0] - self.height, image.shape[1] - self.width
        if min(spare) < 0:
            raise ImageError(
                f"{item.path} is {image.shape[1]}x{image.shape[0]}, smaller than the net's {self.width}x{self.height}: "
                "align the faces first, or set new_height and new_width"
            )
        top, left = (int(rng.integers(0, s + 1)) if self.random_crop else s // 2 for s in spare)
        image = image[top : top + self.height, left : left + self.width]
        if not self.colour:
            # ITU-R 601, as OpenCV and Caffe weigh B, G and R.
            image = np.rint(image @ np.array([0.114, 0.587, 0.299]))[..., None].astype(np.uint8)
        return np.ascontiguousarray(image)


def bytes_of(item: Item) -> bytes:
    """Return the bytes of an image in a tar shard or a `.rec`."""
    try:
        with open(item.path, "rb") as shard:  # noqa: PTH123 - Path.open is this, one call deeper, per image
            shard.seek(item.offset)
            data = shard.read(item.size)
    except OSError as error:
        raise ImageError(f"{item.path} cannot be read: {error.strerror or error}") from None
    if len(data) != item.size:
        raise ImageError(f"{os.path.basename(item.path)} ends before image at byte {item.offset}: it is truncated")  # noqa: PTH119
    return payload(data) if item.path.endswith(SUFFIX) else data
