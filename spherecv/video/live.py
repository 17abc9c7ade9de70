"""Live sources: the newest frame, without a queue, and reconnection after a loss."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from spherecv.errors import VideoError
from spherecv.video.capture import Capture
from spherecv.video.tracks import Frame, Image

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Seconds between attempts to reach a lost source: doubled from the first to the longest."""
_LOOK_UP = 0.25
_GOODBYE = 2.0
_MOST_NOTICES = 100


class Notice(NamedTuple):
    """The source was lost, or is back.

    Attributes
    ----------
    kind : {"lost", "back"}
    text : str
    at : str
        ISO 8601, UTC.
    """

    kind: str
    text: str
    at: str


class LiveFrames:
    """Frames of a camera or a stream, as they come.

    A thread reads as fast as the source delivers and keeps the newest frame only, so that a slow caller misses
    frames instead of falling behind. A source that ends is opened again, at growing intervals.

    Parameters
    ----------
    open_source : callable
        Opens the source; raises `VideoError` where that fails. Called once here, and again after a loss.
    label : str
        What to call it in messages.
    give_up : float, optional
        Seconds without a frame after which it is an error; by default never.
    first_wait : float
        Seconds before the first attempt to open it again; each later pause is twice as long, up to 30 s, until a frame
        comes: a source that can be opened and sends nothing is as lost as before.

    Attributes
    ----------
    label : str
    rate : float or None
    live : bool
        True.
    length : None
        Nobody knows.

    Raises
    ------
    VideoError
        It cannot be opened now; later, from the iteration, that it was lost for longer than `give_up`.
    """

    live = True
    length: int | None = None

    def __init__(
        self,
        open_source: Callable[[], Capture],
        label: str,
        *,
        give_up: float | None = None,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        self.label = label
        self._open = open_source
        self._give_up = give_up
        self._first_wait = first_wait
        capture = open_source()
        self.rate = capture.rate
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._newest: tuple[int, float, str, Image] | None = None
        self._failure: VideoError | None = None
        self._notices: deque[Notice] = deque(maxlen=_MOST_NOTICES)
        self._read = self._given = 0
        self._start: float | None = None
        self._lost: float | None = None
        self._pause = first_wait
        self._thread = threading.Thread(target=self._run, args=(capture,), name=f"frames of {label}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that came and were not taken."""
        return max(0, self._read - self._given - (self._newest is not None))

    @property
    def closed(self) -> bool:
        """Whether it was let go of."""
        return self._stop.is_set()

    def __iter__(self) -> LiveFrames:
        return self

    def __next__(self) -> Frame:
        frame = self.wait(None)
        if frame is None:
            raise StopIteration
        return frame

    def wait(self, seconds: float | None) -> Frame | None:
        """Wait for the next frame.

        Parameters
        ----------
        seconds : float or None
            How long at most; None waits until there is one, or the source is closed.

        Returns
        -------
        Frame or None
            None where none came in time.

        Raises
        ------
        VideoError
            The source was lost for longer than `give_up`.
        """
        end = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            while self._newest is None or self._stop.is_set():
                if self._failure is not None:
                    raise self._failure
                left = _LOOK_UP if end is None else min(_LOOK_UP, end - time.monotonic())
                if self._stop.is_set() or left <= 0:
                    return None
                self._changed.wait(left)  # in short pieces, so that Ctrl-C is heard everywhere
            index, moment, at, image = self._newest
            self._newest = None
            self._given += 1
        return Frame(index, moment, image, at)

    def notices(self) -> list[Notice]:
        """Take what happened to the source since the last call."""
        with self._changed:
            taken = list(self._notices)
            self._notices.clear()
        return taken

    def close(self) -> None:
        """Release the source; a caller that waits for a frame gets none."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_GOODBYE)

    def _run(self, first: Capture) -> None:
        capture: Capture | None = first
        while capture is not None and not self._stop.is_set():
            try:
                while not self._stop.is_set() and (image := capture.read()) is not None:
                    self._take(image)
            except VideoError as error:
                self._fail(error)
                return
            except Exception as fault:  # a waiting caller gets it, whatever it is
                self._fail(VideoError(f"{self.label} cannot be read: {type(fault).__name__}: {fault}"))
                return
            finally:
                capture.release()
            capture = None if self._stop.is_set() else self._again()

    def _take(self, image: Image) -> None:
        now = time.monotonic()
        with self._changed:
            self._start = now if self._start is None else self._start
            if self._lost is not None:
                self._tell("back", f"{self.label} is back after {now - self._lost:.1f} s")
                self._lost, self._pause = None, self._first_wait
            self._newest = (self._read, now - self._start, _clock(), image)
            self._read += 1
            self._changed.notify_all()

    def _again(self) -> Capture | None:
        """Open the source again, however often it takes."""
        if self._lost is None:
            self._lost = time.monotonic()
            self._tell("lost", f"{self.label} was lost: trying to reach it again")
            why = "it ended"
        else:
            why = "it can be opened, but sends nothing"
        while not self._given_up(self._lost, why):
            if self._stop.wait(self._pause):
                return None
            self._pause = min(LONGEST_WAIT, 2 * self._pause)
            try:
                return self._open()
            except VideoError as error:
                why = str(error)
            except Exception as fault:  # as when reading
                self._fail(VideoError(f"{self.label} cannot be opened: {type(fault).__name__}: {fault}"))
                return None
        return None

    def _given_up(self, lost: float, why: str) -> bool:
        """Say that it is over, where that is so; else see to it that the next attempt is not too late for that."""
        if self._give_up is None:
            return False
        gone = time.monotonic() - lost
        if gone >= self._give_up:
            self._fail(VideoError(f"{self.label} was lost and not found again in {gone:.0f} s: {why}"))
            return True
        self._pause = min(self._pause, self._give_up - gone)
        return False

    def _fail(self, error: VideoError) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _tell(self, kind: str, text: str) -> None:
        with self._changed:
            self._notices.append(Notice(kind, text, _clock()))
            self._changed.notify_all()


def _clock() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
