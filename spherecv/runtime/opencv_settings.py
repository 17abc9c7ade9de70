"""OpenCV's settings of the whole process, the number of threads and the log level: the one place that sets them.

Code outside SphereCV sees these settings while a block of SphereCV's lasts, and its own again after the last.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


class _Setting:
    """A number that blocks of code hold, each at a value of its own; they may overlap and end in any order.

    The value is that of the youngest block under way. When the last ends, the value from before the first is back.
    """

    def __init__(self, read: Callable[[Any], int], write: Callable[[Any, int], None]) -> None:
        self._read, self._write = read, write
        self._lock = threading.Lock()
        self._before: int | None = None
        self._frozen = False
        self._held: list[list[int]] = []

    def forked(self) -> None:
        """Begin again without blocks in a child process, where the threads that were in them are not."""
        self._lock = threading.Lock()
        self._held = []  # `_before` stays: the next block to end brings it back

    @contextmanager
    def held(self, cv2: Any, choose: Callable[[int], int]) -> Iterator[None]:
        """Hold a value, chosen by the one there is."""
        with self._lock:
            if self._before is None:
                self._before = self._read(cv2)
            block = [choose(self._held[-1][0] if self._held else self._before)]
            self._held.append(block)
            self._set(cv2, block[0])
        try:
            yield
        finally:
            with self._lock:
                self._held = [other for other in self._held if other is not block]
                if self._held:
                    self._set(cv2, self._held[-1][0])
                elif self._before is not None:
                    self._set(cv2, self._before)
                    self._before = None

    def keep(self, cv2: Any, value: int) -> None:
        """Set a value for good; under blocks, from the last one's end on."""
        with self._lock:
            if self._held:
                self._before = value
            else:
                self._set(cv2, value)

    def freeze(self) -> None:
        """Leave the value as it is from now on."""
        self._frozen = True

    def _set(self, cv2: Any, value: int) -> None:
        if not self._frozen and self._read(cv2) != value:
            self._write(cv2, value)


_threads = _Setting(lambda cv2: int(cv2.getNumThreads()), lambda cv2, count: cv2.setNumThreads(count))
_log_level = _Setting(
    lambda cv2: int(cv2.utils.logging.getLogLevel()), lambda cv2, level: cv2.utils.logging.setLogLevel(level)
)


@contextmanager
def silent_opencv(cv2: Any) -> Iterator[None]:
    """Keep OpenCV's log silent inside the block, where what goes wrong is said in one line by us."""
    with _log_level.held(cv2, lambda _before: cv2.utils.logging.LOG_LEVEL_SILENT):
        yield


@contextmanager
def opencv_threads(cv2: Any, count: int) -> Iterator[None]:
    """Let OpenCV use so many threads inside the block."""
    with _threads.held(cv2, lambda _before: count):
        yield


def keep_opencv_threads(count: int) -> None:
    """Let OpenCV use so many threads from now on, in a process that is SphereCV's own."""
    import cv2

    _threads.keep(cv2, count)


class _Nets:
    """Nets under way: those with equal settings run side by side, one with another number of threads waits.

    Calls that come after it wait behind it, so that every call gets its turn.
    """

    def __init__(self) -> None:
        self._queue = threading.Lock()
        self._changed = threading.Condition()
        self._running: set[object] = set()
        self._count: int | None = None
        self._paused = False

    @contextmanager
    def running(self, cv2: Any, threads: int | None) -> Iterator[None]:
        """Run with so many threads (None: as many as the process has), and without OpenCV's log on stderr."""
        with self._queue, self._changed:
            self._changed.wait_for(lambda: not self._running or self._count == threads)
            self._running.add(call := object())
            self._count = threads
        try:
            counted = nullcontext() if threads is None else _threads.held(cv2, lambda _before: threads)
            with counted, _log_level.held(cv2, _quieter(cv2)):
                yield
        finally:
            with self._changed:
                self._running.discard(call)
                self._changed.notify_all()


    def pause(self) -> None:
        """Let no net run until `resume`, once those under way are done."""
        self._queue.acquire()
        self._paused = True
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def resume(self) -> None:
        """Let nets run again, if `pause` was not broken off before it began."""
        if self._paused:
            self._paused = False
            self._queue.release()


def _quieter(cv2: Any) -> Callable[[int], int]:
    """Silence warnings and errors, which come as exceptions too; a level above is of someone looking for something."""
    logging = cv2.utils.logging
    return lambda before: before if before > logging.LOG_LEVEL_WARNING else logging.LOG_LEVEL_SILENT


nets = _Nets()


def _forked() -> None:
    _threads.forked()
    if "cv2" in sys.modules:
        # Another number would make OpenCV wait for the threads of its pool, which are the parent's: for good.
        _threads.freeze()
    _log_level.forked()
    nets.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    # OpenCV's own threads and locks do not survive a fork in the middle of a net: it waits until none runs.
    os.register_at_fork(before=nets.pause, after_in_parent=nets.resume, after_in_child=_forked)
