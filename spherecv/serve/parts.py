"""Structure of image files, counted before any decoder takes them.

The size in a header bounds the memory of decoding, but not its time. A JPEG may send its pixels in any number of scans,
each of which costs a pass over the whole image for some forty bytes of file, and both JPEG and PNG may put any number
of empty parts in front of the first pixel, which Pillow walks through in Python.
"""

from __future__ import annotations

import re

MOST_SCANS = 64
"""Progressive images come in about ten."""
MOST_SEGMENTS = 1_000
"""Of a JPEG: colour profiles and depth maps come in pieces of 64 kB."""
MOST_CHUNKS = 10_000
"""Of a PNG: encoders write pixels in pieces of 8 kB or more."""

# 0xFF begins a marker, but before 0 (a byte of pixels), itself (filling), 1 and 0xD0..0xD7 (marks without content).
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")
_START_OF_SCAN, _END = b"\xda", b"\xd9"


def too_intricate(data: bytes, kind: str) -> str | None:
    """Say what there is too much of in an image's file.

    Parameters
    ----------
    data : bytes
        The file.
    kind : {"JPEG", "PNG", "WEBP"}
        WebP has nothing of the kind.

    Returns
    -------
    str or None
        Such as `more than 64 scans`; None where there is nothing to say against it.
    """
    if kind == "JPEG":
        return _of_jpeg(data)
    return _of_png(data) if kind == "PNG" else None


def _of_jpeg(data: bytes) -> str | None:
    segments = scans = 0
    place = 2
    while found := _MARKER.search(data, place):
        place = found.end()
        if found[1] == _END:
            break
        segments += 1
        scans += found[1] == _START_OF_SCAN
        if scans > MOST_SCANS:
            return f"more than {MOST_SCANS} scans"
        if segments > MOST_SEGMENTS:
            return f"more than {MOST_SEGMENTS:,} segments"
        place += int.from_bytes(data[place : place + 2], "big")
    return None


def _of_png(data: bytes) -> str | None:
    chunks, place = 0, 8
    while place + 12 <= len(data):
        chunks += 1
        if chunks > MOST_CHUNKS:
            return f"more than {MOST_CHUNKS:,} chunks"
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return None
