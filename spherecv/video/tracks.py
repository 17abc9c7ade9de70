"""Frames of a video, and the tracks of faces through them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.records import EmbeddedFace, Face

Image = NDArray[np.uint8]

RATE = 25.0
"""Frames a second of sources that do not say: folders and lists of images."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a video.

    Attributes
    ----------
    index : int
        Its number in the source, from 0. Numbers are missing where a live source had to drop frames.
    time : float
        Seconds since the source's first frame.
    image : ndarray of uint8, shape (H, W, 3)
        BGR.
    at : str or None
        Wall-clock time of a live source, ISO 8601 in UTC.
    """

    index: int
    time: float
    image: Image = field(repr=False)
    at: str | None = None


@dataclass(frozen=True, eq=False)
class Track:
    """One person through a video, up to a frame: a snapshot that does not change.

    Attributes
    ----------
    id : int
        From 1, in the order of appearance.
    face : Face
        Where they are in this frame.
    detected : bool
        Whether the face was found in this frame, or only followed into it.
    first, last : (int, float)
        Index and seconds of the first and of the last frame in which the face was found.
    faces : int
        Faces found of them that went into the template or were weighed for it.
    template : ndarray of float32, shape (D,), or None
        The mean embedding of the best of those faces, weighted by quality; read-only. None while there is none.
    frames : tuple of int
        The frames whose faces the template stands on, the best face's first.
    best : EmbeddedFace or None
        The best face so far, with its crop, in the frame `frames[0]`.
    """

    id: int
    face: Face
    detected: bool
    first: tuple[int, float]
    last: tuple[int, float]
    faces: int
    template: NDArray[np.float32] | None = field(default=None, repr=False)
    frames: tuple[int, ...] = field(default=(), repr=False)
    best: EmbeddedFace | None = field(default=None, repr=False)

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The track as plain Python values, ready for JSON; without embeddings and pixels."""
        return {
            "track": self.id,
            "detected": self.detected,
            "face": self.face.to_dict(),
            "first_frame": self.first[0],
            "last_frame": self.last[0],
            "first_time": round(self.first[1], 3),
            "last_time": round(self.last[1], 3),
            "faces": self.faces,
            "best_frame": self.frames[0] if self.frames else None,
        }


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame with the tracks in it.

    Attributes
    ----------
    frame : Frame
    tracks : tuple of Track
        Whose face is in this frame, found or followed.
    ended : tuple of Track
        Those that were given up at this frame: not found for too long.
    """

    frame: Frame
    tracks: tuple[Track, ...]
    ended: tuple[Track, ...] = ()

    __repr__ = brief
