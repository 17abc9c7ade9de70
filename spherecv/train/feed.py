"""What a net is fed with: batches, and how pixels and labels of one become the net's inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spherecv.train.backend.base import Array, Backend
from spherecv.train.data.loader import Batch


class Batches(Protocol):
    """What a trainer draws from: a `Loader`, or anything alike."""

    next_number: int

    def next(self) -> Batch:
        """Return the next batch."""

    def seek(self, number: int) -> None:
        """Go to a batch."""


@dataclass(frozen=True)
class Pixels:
    """How uint8 pixels become the net's numbers: (pixel - mean) * scale, mean per channel or one for all."""

    mean: tuple[float, ...] = (127.5,)
    scale: float = 1.0 / 128.0

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return (images, height, width, channels) as float32."""
        values = images.astype(np.float32)
        values -= np.asarray(self.mean, dtype=np.float32)
        values *= np.float32(self.scale)
        return values


@dataclass
class Feed:
    """How a batch is given to a net and to its loss.

    Attributes
    ----------
    pixels : Pixels
    data, label : str
        The names of the net's inputs; empty for a net that makes its own data.
    target : callable, optional
        ``target(batch)`` returns what the loss compares with; the labels by default.
    crop : callable, optional
        ``crop(images)`` returns the part of the loader's images that the net sees; all of them by default.
    """

    pixels: Pixels = field(default_factory=Pixels)
    data: str = "data"
    label: str = "label"
    target: Callable[[Batch], npt.NDArray[Any]] | None = None
    crop: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]] | None = None

    def inputs(self, batch: Batch, backend: Backend, *, labels: bool = True) -> dict[str, Array]:
        """Return what a net is given of a batch; nothing where the feed names no input."""
        if not self.data:
            return {}
        images = batch.images if self.crop is None else self.crop(batch.images)
        given = {self.data: backend.asarray(self.pixels(images))}
        return {**given, self.label: backend.asindex(batch.labels)} if labels else given


class NoBatches:
    """Batches of nothing, for a net that makes its own data (DummyData)."""

    def __init__(self) -> None:
        self.next_number = 0

    def next(self) -> Batch:
        """Return the next batch."""
        self.next_number += 1
        none = np.zeros(0, np.int64)
        return Batch(self.next_number - 1, np.zeros((0, 1, 1, 3), np.uint8), none, none, ())

    def seek(self, number: int) -> None:
        """Go to a batch."""
        self.next_number = number
