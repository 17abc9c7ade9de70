"""Files whose decoding would take hours are told by their parts, and those that cameras and programs write are not."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import ImageError
from spherecv.serve.parts import MOST_CHUNKS, MOST_SCANS, MOST_SEGMENTS, too_intricate
from spherecv.serve.uploads import checked_upload

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))


def file_of(kind: str, **how) -> bytes:
    stream = io.BytesIO()
    NOISE.save(stream, kind, **how)
    return stream.getvalue()


def with_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan, which refines the last bits, is sent over and over."""
    data = file_of("JPEG", progressive=True)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    return data[:-2] + data[scans[-1] : -2] * (count - len(scans)) + b"\xff\xd9"


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_blocks": 1}),
        ("JPEG", {"comment": b"\xff\xda" * 1000, "icc_profile": bytes(range(256)) * 1000}),
        ("JPEG", {"exif": b"Exif\0\0" + file_of("JPEG", progressive=True)}),
        ("PNG", {}),
        ("WEBP", {}),
    ],
)
def test_what_programs_write_is_taken(kind, how) -> None:
    data = file_of(kind, **how) + b"\xff\xda" * 1000  # phones put a film behind the picture
    assert too_intricate(data, kind) is None
    assert too_intricate(data[: len(data) // 2], kind) is None  # whoever decodes it will say that it breaks off


def test_scans_are_counted() -> None:
    good = with_scans(MOST_SCANS)
    assert checked_upload(good, "img", 10_000).decode_image().shape == (96, 96, 3)
    with pytest.raises(ImageError, match="img is a JPEG of more than 64 scans"):
        checked_upload(with_scans(MOST_SCANS + 1), "img", 10_000)


def test_empty_parts_are_counted() -> None:
    jpeg, png = file_of("JPEG"), file_of("PNG")
    for count, much in ((MOST_SEGMENTS - 50, None), (MOST_SEGMENTS, "more than 1,000 segments")):
        assert too_intricate(jpeg[:2] + b"\xff\xfe\x00\x02" * count + jpeg[2:], "JPEG") == much
    for count, much in ((MOST_CHUNKS - 50, None), (MOST_CHUNKS, "more than 10,000 chunks")):
        assert too_intricate(png[:33] + chunk(b"abCd") * count + png[33:], "PNG") == much


def test_nonsense_ends() -> None:
    for data in (b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 99, b"\xff\xd8" + b"\xff\xfe\x00\x00" * 9, b""):
        assert too_intricate(data, "JPEG") is None
    assert too_intricate(b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG") is None
