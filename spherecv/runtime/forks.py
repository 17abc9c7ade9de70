"""Locks, and whatever else threads hold, that are free in a forked child, where those threads do not exist."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What begins again in a child process."""

    def forked(self) -> None:
        """Forget what other threads of the parent hold."""


class ForkLock:
    """A lock of this process and, free again, of every child that is forked from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def forked(self) -> None:
        """Begin again in a child process."""
        self._lock = threading.Lock()


_renewed: WeakSet[Forked] = WeakSet()


def renew(one: Forked) -> None:
    """Have something begin again in every child process, as long as it lives."""
    _renewed.add(one)


def _forked() -> None:
    for one in list(_renewed):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
