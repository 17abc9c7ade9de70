"""Reading of files that SQLite has open in this process, without taking its locks away.

Locks of POSIX belong to a process and a file: closing any descriptor of a file ends all locks that the process holds on
it, those of SQLite too (https://www.sqlite.org/howtocorrupt.html, 2.2). The next process that closes the gallery would
take it for unused, and take away the log that this one goes on writing to. So what is opened here stays open until
nobody in this process uses the file any more.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NamedTuple


class _Use(NamedTuple):
    users: int
    descriptor: int | None


_lock = threading.Lock()
_uses: dict[tuple[int, int], _Use] = {}
"""By device and inode; an entry lives as long as one of its users."""


class FileInUse:
    """One user of a file, to be made while SQLite has it open and released after SQLite has closed it.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        state = path.stat()
        self._key: tuple[int, int] | None = (state.st_dev, state.st_ino)
        with _lock:
            use = _uses.get(self._key, _Use(0, None))
            _uses[self._key] = use._replace(users=use.users + 1)

    def read(self, size: int, place: int) -> bytes:
        """Read bytes from a place on; fewer at the end of the file."""
        with _lock:
            if self._key is None:
                raise ValueError(f"{self._path} was released")
            use = _uses[self._key]
            descriptor = use.descriptor
            if descriptor is None:
                descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                _uses[self._key] = use._replace(descriptor=descriptor)
            os.lseek(descriptor, place, os.SEEK_SET)
            return os.read(descriptor, size)

    def release(self) -> None:
        """Let go of the file; the last user closes it."""
        with _lock:
            if self._key is None:
                return
            use = _uses.pop(self._key)
            if use.users > 1:
                _uses[self._key] = use._replace(users=use.users - 1)
            elif use.descriptor is not None:
                os.close(use.descriptor)
            self._key = None
