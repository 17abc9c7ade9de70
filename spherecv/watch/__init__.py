"""Who is in a video: decisions about its tracks over frames, an event log, a video with names."""

from spherecv.watch.events import Event, EventLog
from spherecv.watch.evidence import Decision, Evidence, Rates
from spherecv.watch.recording import VideoFile
from spherecv.watch.session import Session
from spherecv.watch.watcher import FaceWatcher, Seen

__all__ = ["Decision", "Event", "EventLog", "Evidence", "FaceWatcher", "Rates", "Seen", "Session", "VideoFile"]
