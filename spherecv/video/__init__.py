"""Faces in motion: sources of frames, tracks of people through them, one template a track or a set."""

from spherecv.templates import SetTemplate
from spherecv.video.frames import FrameSource, VideoWarning, open_frames
from spherecv.video.sets import EmbeddedSet, embed_set
from spherecv.video.stream import FaceStream
from spherecv.video.tracker import FaceTracker
from spherecv.video.tracks import Frame, Track, TrackedFrame

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
