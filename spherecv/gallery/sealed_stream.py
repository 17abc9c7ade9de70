"""Sealed streams: encryption piece by piece, so that neither writing nor reading holds the whole."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from spherecv.gallery.seal import Seal

PIECE = 16 << 20


class SealedWriter:
    """A stream of sealed pieces, each with its length before it."""

    def __init__(self, stream: IO[bytes], seal: Seal) -> None:
        self._stream, self._seal = stream, seal
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        """Take in bytes; returns how many."""
        self._waiting += data
        if len(self._waiting) >= PIECE:
            self.close()
        return len(data)

    def close(self) -> None:
        """Write what waits as a piece."""
        sealed = self._seal.close(bytes(self._waiting))
        self._stream.write(struct.pack("<I", len(sealed)) + sealed)
        self._waiting.clear()


class SealedReader:
    """What a `SealedWriter` wrote, as one stream."""

    def __init__(self, stream: IO[bytes], seal: Seal) -> None:
        self._pieces = self._opened(stream, seal)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """So many bytes, or as many as there are."""
        parts, missing = [], size
        while missing:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            parts.append(self._rest[:missing])
            missing -= len(parts[-1])
            self._rest = self._rest[len(parts[-1]) :]
        return b"".join(parts)

    @staticmethod
    def _opened(stream: IO[bytes], seal: Seal) -> Iterator[bytes]:
        while head := stream.read(4):
            yield seal.open(stream.read(struct.unpack("<I", head)[0]))
