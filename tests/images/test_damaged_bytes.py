"""Any bytes at all give a picture or an ImageError."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spherecv.errors import ImageError
from spherecv.images import load_image

KINDS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "TGA", "JPEG2000", "ICO", "PCX", "SGI")
MAGICS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"RIFF", b"BM", b"P6 "]


@pytest.fixture(scope="session")
def whole(bgr, encoded) -> dict[str, bytes]:
    """A small picture in every format."""
    return {kind: encoded(Image.fromarray(bgr[:20, :24]), kind) for kind in KINDS}


def check_outcome(data: bytes) -> None:
    """Either a picture of the right form, or an ImageError of one line; anything else goes through and fails."""
    message = ""
    try:
        loaded = load_image(data, max_pixels=1_000_000)
    except ImageError as error:
        message = str(error)
    else:
        assert (loaded.dtype, loaded.ndim, loaded.shape[2]) == (np.uint8, 3, 3)
    assert "\n" not in message


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_damaged_bytes_give_a_picture_or_an_image_error(whole, kind: str, data: st.DataObject) -> None:
    raw = bytearray(whole[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(raw) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if what == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del raw[place : place + data.draw(st.integers(1, 40))]
        elif what == "insert":
            raw[place:place] = data.draw(st.binary(max_size=16))
        else:
            raw += raw[place : place + 64]
        if not raw:
            break
    check_outcome(bytes(raw))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MAGICS), st.binary())
def test_arbitrary_bytes_give_a_picture_or_an_image_error(magic: bytes, rest: bytes) -> None:
    check_outcome(magic + rest)
