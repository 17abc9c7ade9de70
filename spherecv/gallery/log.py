"""Check of a SQLite write-ahead log, from whose first damaged page on SQLite passes over everything without a word.

The format is that of https://www.sqlite.org/fileformat2.html#walformat: a header of 32 bytes, then frames of 24 bytes
and a page, each with a checksum over everything before it.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

_HEADER, _FRAME = 32, 24
_MAGIC = 0x377F0682
"""With 1 added, where checksums take the words of a page in big-endian order."""


def is_cut(database: Path) -> bool:
    """Whether changes that were committed can be seen in the log of a database behind a place that is damaged.

    A commit that was under way when the machine stopped leaves damaged frames, too, but none that is complete behind
    them (but for a disk that writes in another order than it is told to).
    """
    path = database.with_name(database.name + "-wal")
    found = _broken_at(path)
    if found is None:
        return False
    time.sleep(0.05)  # another process may be writing it just now: the same must be found twice
    return _broken_at(path) == found


def _broken_at(path: Path) -> int | None:
    """Place of a damaged frame that has a committed one behind it; 0 for the header; None for a whole log."""
    try:
        with path.open("rb") as stream:
            return _read(stream)
    except OSError:
        return None


def _read(stream: IO[bytes]) -> int | None:
    head = stream.read(_HEADER)
    length = os.fstat(stream.fileno()).st_size
    if len(head) < _HEADER:
        return None
    magic, _, page, _, *salts, first, second = struct.unpack(">8I", head)
    frames = (length - _HEADER) // (_FRAME + page) if page else 0
    if magic & ~1 != _MAGIC or page & (page - 1) or not 512 <= page <= 65_536:
        return 0 if length > _HEADER else None
    sums = _Sums("<u4" if magic == _MAGIC else ">u4", page)
    state = sums.after(head[:24], (0, 0))
    if state != (first, second):
        return 0 if frames else None
    broken: int | None = None
    for number in range(frames):
        frame, content = stream.read(_FRAME), stream.read(page)
        if len(content) < page:
            break
        _, commit, *own, left, right = struct.unpack(">6I", frame)
        if broken is None:
            state = sums.after(content, sums.after(frame[:8], state))
            if own != salts or state != (left, right):
                broken = _HEADER + number * (_FRAME + page)
        if broken is not None and commit and own == salts:  # what an earlier log left there has other salts
            return broken
    return None


class _Sums:
    """Checksums of a log: two sums of 32 bits, each of which takes in every second word and the other sum.

    A step is linear in both sums and words, so that a page is one product with weights that are made once.
    """

    def __init__(self, order: str, page: int) -> None:
        self._order = order
        self._weights = {size: _weights(size // 8) for size in (8, 24, page)}

    def after(self, data: bytes, state: tuple[int, int]) -> tuple[int, int]:
        """Both sums after some bytes."""
        step, weights = self._weights[len(data)]
        words = np.frombuffer(data, self._order).astype(np.uint32)
        added = (words * weights).sum(axis=1, dtype=np.uint32)
        first, second = ((int(row[0]) * state[0] + int(row[1]) * state[1]) for row in step)
        return (first + int(added[0])) % 2**32, (second + int(added[1])) % 2**32


def _weights(pairs: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """What the sums before (2, 2), and each word (2, 2 * pairs), count in the two sums after so many pairs of words."""
    power = np.eye(2, dtype=np.uint32)
    weights = np.empty((2, 2 * pairs), np.uint32)
    step, taken = np.array([[1, 1], [1, 2]], np.uint32), np.array([[1, 0], [1, 1]], np.uint32)
    for pair in reversed(range(pairs)):
        weights[:, 2 * pair : 2 * pair + 2] = power @ taken
        power = power @ step
    return power, weights
