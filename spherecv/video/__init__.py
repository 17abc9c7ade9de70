"""Faces in motion: sources of frames, tracks of people through them, one template a track or a set."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherecv.templates import SetTemplate
    from spherecv.video.frames import FrameSource, VideoWarning, open_frames
    from spherecv.video.sets import EmbeddedSet, embed_set
    from spherecv.video.stream import FaceStream
    from spherecv.video.tracker import FaceTracker
    from spherecv.video.tracks import Frame, Track, TrackedFrame

_HOME = {
    "EmbeddedSet": "video.sets",
    "FaceStream": "video.stream",
    "FaceTracker": "video.tracker",
    "Frame": "video.tracks",
    "FrameSource": "video.frames",
    "SetTemplate": "templates",
    "Track": "video.tracks",
    "TrackedFrame": "video.tracks",
    "VideoWarning": "video.frames",
    "embed_set": "video.sets",
    "open_frames": "video.frames",
}

__all__ = [
    "EmbeddedSet",
    "FaceStream",
    "FaceTracker",
    "Frame",
    "FrameSource",
    "SetTemplate",
    "Track",
    "TrackedFrame",
    "VideoWarning",
    "embed_set",
    "open_frames",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"spherecv.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
