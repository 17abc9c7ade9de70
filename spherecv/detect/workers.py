"""Threads that stand by to share the work of a call."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sized
from functools import partial
from queue import SimpleQueue
from typing import Any

from spherecv.runtime.forks import renew


class Workers:
    """So many threads, the caller's among them, that work through a list side by side.

    The others are started when they are first needed, and wait between calls: to start one costs 0.2 ms, and a call of
    the executor of `concurrent.futures` for a short list 0.1 ms more than this. They end with the object. Calls may lie
    within each other, and come from any number of threads.

    Parameters
    ----------
    count : int
        With one, nothing but the caller's own thread.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._starting = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] | None = None
        renew(self)

    def forked(self) -> None:
        """Begin again in a child process, where only the forking thread lives on."""
        self._starting = threading.Lock()
        self._jobs = None

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        """Like the built-in; with more than one thread the answers come when the last is there.

        The others work from the first item on, as soon as that is made, and the caller, once all items are made, from
        the last: a thread takes its time to wake. An error is the first item's that has one; it comes, as an interrupt
        does, when no thread is at work for the call any more.
        """
        if self.count == 1 or (isinstance(items, Sized) and len(items) < 2):
            return map(work, items)
        queue, jobs = self._standing_by(), list[_Job]()
        try:
            for item in items:
                jobs.append(_Job(work, item))
                queue.put(jobs[-1])
            for job in reversed(jobs):
                job.do()
            return [job.answer() for job in jobs]
        except BaseException:
            for job in jobs:
                job.give_up()
            raise

    def _standing_by(self) -> SimpleQueue[_Job | None]:
        with self._starting:
            if self._jobs is None:
                self._jobs = SimpleQueue()
                weakref.finalize(self, _end, self._jobs, self.count - 1)
                for _ in range(self.count - 1):
                    threading.Thread(target=_work, args=(self._jobs,), name="spherecv-detect", daemon=True).start()
            return self._jobs


class _Job:
    """One item, for whichever thread comes first."""

    def __init__(self, work: Callable[[Any], Any], item: Any) -> None:
        self._work = partial(work, item)
        self._free = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()
        self._is_lent = False
        self._answer: Any = None
        self._error: BaseException | None = None

    def do(self, *, lent: bool = False) -> None:
        """Work on it, unless another thread does or did; `lent` by a thread other than the caller's."""
        if not self._free.acquire(blocking=False):
            return
        self._is_lent = lent
        try:
            self._answer = self._work()
        except BaseException as error:
            if not (lent or isinstance(error, Exception)):
                raise  # at once: the caller was interrupted
            self._error = error
        finally:
            del self._work  # a queue may hold this for a while yet
            self._done.release()

    def answer(self) -> Any:
        """Wait until it is done."""
        with self._done:
            if self._error is None:
                return self._answer
            error, self._error = self._error, None  # which holds this by its traceback
        try:
            raise error
        finally:
            del error

    def give_up(self) -> None:
        """Let nobody begin it, wait for another thread that did, and let go of its error."""
        if not self._free.acquire(blocking=False) and self._is_lent:
            self._done.acquire()
        self._error = None


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.do(lent=True)
        del job


def _end(jobs: SimpleQueue[_Job | None], count: int) -> None:
    for _ in range(count):
        jobs.put(None)
