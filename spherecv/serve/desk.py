"""Admission control: concurrent requests, bytes in memory, and time limits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TypeVar

from spherecv.serve.pool import DEADLINE
from spherecv.serve.problems import Problem
from spherecv.serve.settings import ServiceSettings

_T = TypeVar("_T")
_LONGEST_WAIT = 60
_WAITED = 0.5
"""Share of the time limit that may be spent waiting: the rest is for the request's own work, and for a machine that
gets slower meanwhile."""


class Desk:
    """Takes requests in, or says when to come again. Belongs to one event loop.

    Parameters
    ----------
    settings : ServiceSettings
    backlog : callable
        Seconds of work that wait, as the last requests went.

    Attributes
    ----------
    inside : int
        Requests at work or waiting for it.
    held : int
        Bytes of bodies in memory.
    """

    def __init__(self, settings: ServiceSettings, backlog: Callable[[], float]) -> None:
        self._settings = settings
        self._backlog = backlog
        # A thread for each request that was let in: nearly all of them wait for a worker of the pool.
        self._threads = ThreadPoolExecutor(settings.queue, thread_name_prefix="spherecv-request")
        self.inside = 0
        self.held = 0

    def check(self) -> None:
        """Raise `Problem` (429) where no request can be let in: the queue is full, or would not be done in time."""
        if self.inside >= self._settings.queue:
            raise self._busy(f"{self.inside} requests are waiting already")
        if self._backlog() > _WAITED * self._settings.time_limit:
            raise self._busy("what waits would leave too little of the time limit")

    def hold(self, size: int) -> None:
        """Count bytes that a body brings; raises `Problem` (429) where they are too many for the memory set aside."""
        if self.held + size > self._settings.max_held:
            raise self._busy("the images that wait already fill the memory set aside for them")
        self.held += size

    def release(self, size: int) -> None:
        """Count bytes that are let go."""
        self.held -= size

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do a request's work in a thread, within its time; raises `Problem` (429) where the queue is full."""
        self.check()
        self.inside += 1
        deadline = monotonic() + self._settings.time_limit

        def timed() -> _T:
            DEADLINE.set(deadline)
            return work()

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, timed)
        finally:
            self.inside -= 1

    async def close(self) -> None:
        """Wait for what was let in."""
        await asyncio.to_thread(self._threads.shutdown)

    def _busy(self, why: str) -> Problem:
        seconds = min(max(1, math.ceil(self._backlog())), _LONGEST_WAIT)
        return Problem("busy", f"{why}: try again in {seconds} s", headers={"Retry-After": str(seconds)})
