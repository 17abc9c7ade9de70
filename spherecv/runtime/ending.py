"""End of processes: with the one that started them, and on SIGTERM as on Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C or SIGTERM ended."""
_SET_DEATH_SIGNAL = 1
_LOOK_EVERY = 1.0


def end_with_parent(parent: int) -> None:
    """End this process at once when its parent dies.

    On Linux the kernel does so, even while this process computes in C; elsewhere a thread that looks every second.

    Parameters
    ----------
    parent : int
        Its number. Where it is gone already, this process ends now. It must have started this one from its main
        thread: to the kernel the parent is that thread.
    """
    if sys.platform == "linux":
        _ask_kernel()
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_look, args=(parent,), name="spherecv-parent", daemon=True).start()


def _ask_kernel() -> None:
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, where nobody else handles it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        with suppress(ValueError):  # closed by another thread
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
