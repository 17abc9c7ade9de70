"""Session: a video watched from its first frame to its last, into a log, a file, a window and a callback."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spherecv.video.frames import FrameSource
from spherecv.video.tracks import RATE
from spherecv.watch.events import Event, EventLog
from spherecv.watch.picture import draw_seen
from spherecv.watch.recording import VideoFile
from spherecv.watch.watcher import FaceWatcher, Seen
from spherecv.watch.window import Window

_LOOK_UP = 0.5
_MOST_REPEATS = 2.0
"""Seconds at most that a frame is repeated in the video where the source dropped some."""


@dataclass
class Session:
    """One video, watched.

    Attributes
    ----------
    watcher : FaceWatcher
    frames : FrameSource
    log : EventLog, optional
    video : VideoFile, optional
    window : Window, optional
    listener : callable, optional
        Called with every event.
    progress : callable, optional
        Called with the number of frames done, and about how many there are, or 0.
    """

    watcher: FaceWatcher
    frames: FrameSource
    log: EventLog | None = None
    video: VideoFile | None = None
    window: Window | None = None
    listener: Callable[[Event], None] | None = None
    progress: Callable[[int, int], None] | None = None
    watched: int = 0
    seconds: float = 0.0
    _last: int = -1
    _stopped: bool = False

    def stop(self) -> None:
        """End the run after the frame under way, as an interruption; from any thread, or a signal's handler."""
        self._stopped = True

    def run(self, *, limit: int | None = None, about: dict[str, Any] | None = None) -> bool:
        """Watch until the video ends, the window is closed, or somebody interrupts.

        Whatever ends it, the last tracks are decided about and logged, and the end is.

        Parameters
        ----------
        limit : int, optional
            Frames after which to stop.
        about : dict, optional
            What to log with the start.

        Returns
        -------
        bool
            False where it was interrupted: by `stop`, or by Ctrl-C, which may cut the frame under way short.

        Raises
        ------
        SphereCVError
            The source was lost for good, or something cannot be written; after the end was logged.
        """
        start = time.perf_counter()
        reason = "failed"
        try:
            self._report(Event("start", at=_clock(), details={"source": self.frames.label, **(about or {})}))
            reason = self._watch(limit)
        except KeyboardInterrupt:
            reason = "interrupted"
        finally:
            self.seconds = time.perf_counter() - start
            self._finish(reason)
        return reason != "interrupted"

    def _watch(self, limit: int | None) -> str:
        while limit is None or self.watched < limit:
            if self._stopped:
                return "interrupted"
            frame = self.frames.wait(_LOOK_UP)
            if frame is None and (not self.frames.live or self.frames.closed):
                return "end"
            for event in self.watcher.notice(self.frames.notices()):
                self._report(event)
            if frame is not None and not self._show(self.watcher.update(frame)):
                return "closed"
        return "limit"

    def _show(self, seen: Seen) -> bool:
        self.watched += 1
        for event in seen.events:
            self._report(event)
        if self.progress is not None:
            self.progress(self.watched, self.frames.length or 0)
        if seen.tracked is None or (self.video is None and self.window is None):
            return True
        drawn = draw_seen(seen)
        if self.video is not None:
            index = seen.tracked.frame.index
            gap = index - self._last if self._last >= 0 else 1
            self._last = index
            self.video.write(drawn, max(1, min(gap, round(_MOST_REPEATS * (self.frames.rate or RATE)))))
        return self.window is None or self.window.show(drawn)

    def _finish(self, reason: str) -> None:
        events = [*self.watcher.notice(self.frames.notices()), *self.watcher.finish().events]
        details = {"reason": reason, "frames": self.watched, "dropped": self.frames.dropped}
        events.append(Event("stop", at=_clock(), details={**details, "seconds": round(self.seconds, 3)}))
        self._report(*events)

    def _report(self, *events: Event) -> None:
        """Write to the log first: a listener may be gone, as the reader of a pipe, and the log must have its end."""
        if self.log is not None:
            for event in events:
                self.log.write(event)
        if self.listener is not None:
            for event in events:
                self.listener(event)


def _clock() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
