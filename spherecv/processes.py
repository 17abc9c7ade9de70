"""Process pool: work in bounded batches, errors by their class, workers that end with their parent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from spherecv.errors import BackendError, SphereCVError
from spherecv.runtime.ending import end_with_parent, terminated_as_interrupted
from spherecv.runtime.opencv_settings import keep_opencv_threads, opencv_threads

T = TypeVar("T")
R = TypeVar("R")
Open = Callable[[], Callable[[T], R]]

_GRACE = 5.0
"""Seconds that an item under way gets when the work is broken off: an image is finished, a shard of thousands not."""


def run_in_processes(
    open_worker: Open[T, R], items: Iterable[T], processes: int, *, threads: int
) -> Generator[tuple[T, R], None, None]:
    """Work on items, side by side.

    Items are taken as they are needed, two for each process, so that memory does not grow with their number. Ctrl-C and
    SIGTERM end the work with `KeyboardInterrupt` once the items under way are done, but after five seconds at most;
    closing the generator (`contextlib.closing`) does so too, without an error.

    Parameters
    ----------
    open_worker : callable
        Makes the function that works on one item. It is called once in each process, when there is an item, and has to
        travel there by pickle, as items and results do.
    items : iterable
    processes : int
        1 works in this process. More are started afresh, so a script needs `if __name__ == "__main__":`.
    threads : int
        Of OpenCV in each process: processes share the cores, and more threads would wait for each other.

    Yields
    ------
    item, result
        In the order of their completion.

    Raises
    ------
    SphereCVError
        What the worker raised, as what it is.
    BackendError
        A process died.
    """
    with terminated_as_interrupted():
        yield from (_here if processes == 1 else _spread)(open_worker, items, processes, threads)


def _here(open_worker: Open[T, R], items: Iterable[T], _processes: int, threads: int) -> Iterator[tuple[T, R]]:
    import cv2

    work: Callable[[T], R] | None = None
    with opencv_threads(cv2, threads):
        for item in items:
            work = work or open_worker()
            yield item, work(item)


def _spread(open_worker: Open[T, R], items: Iterable[T], processes: int, threads: int) -> Iterator[tuple[T, R]]:
    # Fresh processes: a fork would copy the locks of OpenCV's and BLAS' threads, and CUDA contexts, as they are.
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else None
    begin = (watched, parent, open_worker, threads)
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=begin)
    running: dict[Future[Any], T] = {}
    try:
        for item in items:
            running[pool.submit(_do, item)] = item
            if len(running) >= 2 * processes:
                yield from _collected(running)
        while running:
            yield from _collected(running)
    except BrokenProcessPool:
        raise BackendError(
            "a worker process died, perhaps for want of memory, or this script lacks `if __name__ == '__main__':`; "
            "what is finished is kept: run again, with fewer processes"
        ) from None
    except (KeyboardInterrupt, GeneratorExit):
        held.close()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        held.close()
        watched.close()


def _collected(running: dict[Future[Any], T]) -> Iterator[tuple[T, Any]]:
    """Wait for one item at least, and give all that are done."""
    done = wait(running, return_when=FIRST_COMPLETED).done
    for future in sorted(done, key=lambda future: future.exception() is not None):  # what is done is not lost
        yield running.pop(future), future.result()


_work: Callable[[Any], Any] | SphereCVError | None = None


def _start(watched: Connection, parent: int | None, open_worker: Open[Any, Any], threads: int) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and lets items be finished
    if parent is not None:
        end_with_parent(parent)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    keep_opencv_threads(threads)
    try:
        _work = open_worker()
    except SphereCVError as error:  # raised here, it would break the pool without its name
        _work = error


def _do(item: Any) -> Any:
    if not callable(_work):
        raise _work or SphereCVError("the process was not started by run_in_processes")
    return _work(item)


def _end_with(watched: Connection) -> None:
    """End this process soon after the parent has closed its end of the pipe, at once if it died: nothing is sent."""
    parent = os.getppid()
    with suppress(EOFError, OSError):
        watched.recv_bytes()
    until = time.monotonic() + _GRACE
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.05)
    os._exit(1)
