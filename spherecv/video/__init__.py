"""Faces in motion: sources of frames, tracks of people through them, one template a track, decisions over frames."""

from spherecv.templates import SetTemplate
from spherecv.video.events import Event, EventLog
from spherecv.video.evidence import Decision, Evidence, Rates
from spherecv.video.frames import FrameSource, VideoWarning, open_frames
from spherecv.video.recording import VideoFile
from spherecv.video.sets import EmbeddedSet, embed_set
from spherecv.video.stream import FaceStream
from spherecv.video.tracker import FaceTracker
from spherecv.video.tracks import Frame, Track, TrackedFrame
from spherecv.video.watch import FaceWatcher, Seen

__all__ = [
    "Decision",
    "EmbeddedSet",
    "Event",
    "EventLog",
    "Evidence",
    "FaceStream",
    "FaceTracker",
    "FaceWatcher",
    "Frame",
    "FrameSource",
    "Rates",
    "Seen",
    "SetTemplate",
    "Track",
    "TrackedFrame",
    "VideoFile",
    "VideoWarning",
    "embed_set",
    "open_frames",
]
