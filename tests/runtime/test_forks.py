from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import cv2
import pytest

from spherecv.runtime.forks import ForkLock
from spherecv.runtime.opencv_settings import nets

pytestmark = [
    pytest.mark.runtime,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def ends_well(work: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether a forked child gets through some work in time."""
    child = os.fork()
    if not child:
        failed = 1
        try:
            work()
            failed = 0
        finally:
            os._exit(failed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def held(lock: ForkLock, release: threading.Event) -> threading.Thread:
    taken = threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(20)
    return thread


def test_a_lock_that_another_thread_held_is_free_in_the_child_alone() -> None:
    lock, release = ForkLock(), threading.Event()
    thread = held(lock, release)
    try:
        assert ends_well(lock.__enter__)
        waiting = threading.Thread(target=lock.__enter__, daemon=True)
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()  # here it is held as before
    finally:
        release.set()
        thread.join()
        waiting.join(20)
    assert not waiting.is_alive()


def test_a_fork_waits_for_the_nets_under_way() -> None:
    running, done = threading.Event(), threading.Event()

    def run() -> None:
        with nets.running(cv2, None):
            running.set()
            time.sleep(0.2)
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(20)

    def child() -> None:
        assert done.is_set()
        with nets.running(cv2, 1):
            pass

    assert ends_well(child)
    assert done.is_set()
    thread.join()
    with nets.running(cv2, 1):  # and the parent goes on
        pass
