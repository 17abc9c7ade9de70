"""Locks that are free in a forked child, where the threads that held them do not exist."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from weakref import WeakSet


class ForkLock:
    """A lock of this process and, free again, of every child that is forked from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def forked(self) -> None:
        """Begin again in a child process."""
        self._lock = threading.Lock()


_locks: WeakSet[ForkLock] = WeakSet()


def _forked() -> None:
    for lock in list(_locks):
        lock.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
