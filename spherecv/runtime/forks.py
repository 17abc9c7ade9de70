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


class Gate:
    """Calls of a library that a fork waits for: in the child its locks would stay held, by threads that are not there.

    A block under the gate is a call under way; blocks of one thread must not lie within each other.
    """

    def __init__(self) -> None:
        self._begin_again()
        renew(self)

    def _begin_again(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._forking = 0

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._under_way += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let no call begin until `open`, and wait for those under way."""
        with self._changed:
            self._forking += 1
            self._changed.wait_for(lambda: not self._under_way)

    def open(self) -> None:
        """Let calls begin again, if `close` was not broken off before it began."""
        with self._changed:
            self._forking = max(0, self._forking - 1)
            self._changed.notify_all()

    def forked(self) -> None:
        """Begin again in a child process, without calls."""
        self._begin_again()


_renewed: WeakSet[Forked] = WeakSet()


def renew(one: Forked) -> None:
    """Have something begin again in every child process, as long as it lives."""
    _renewed.add(one)


def _forked() -> None:
    for one in list(_renewed):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
