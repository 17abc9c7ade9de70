"""Pictures that are too large are refused by their header, before anything is decoded."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from spherecv.errors import InvalidArgumentError
from spherecv.images import _pillows_limit, load_image


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_header(width: int, height: int) -> bytes:
    """A whole small JPEG whose frame header claims another size."""
    data = bytearray(cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1])
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("header", [png_header, jpeg_header])
def test_a_header_of_60000_by_60000_is_refused_before_decoding(tmp_path: Path, header) -> None:
    path = tmp_path / "huge"
    path.write_bytes(header(60_000, 60_000))
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"  # the picture would take 10 GiB
        "from spherecv import load_image, SphereCVError\n"
        "try: load_image(sys.argv[1])\n"
        "except SphereCVError as error: print(error)\n"
    )
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, env=env)
    assert "larger than the limit of 89,478,485 pixels" in run.stdout
    assert not run.stderr


@pytest.mark.parametrize("header", [png_header, jpeg_header])
@pytest.mark.parametrize("warn", ["ignore", "error"])
def test_a_header_just_above_the_limit(header, warn, refusal) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(warn)
        assert "larger than the limit of 89,478,485 pixels" in refusal(header(10_000, 9_000))


def test_the_limit_is_the_callers(png, bgr, rgb, refusal) -> None:
    for make in (lambda: png, lambda: bgr, lambda: Image.fromarray(rgb), lambda: io.BytesIO(png)):
        assert load_image(make(), max_pixels=2400).shape == bgr.shape
        assert "60x40, larger than the limit of 2,399 pixels" in refusal(make(), max_pixels=2399)


def test_a_limit_above_pillows_own_holds_and_pillows_stays(refusal, tmp_path: Path) -> None:
    assert "60000x60000, larger than the limit of 3,000,000,000 pixels" in refusal(
        png_header(60_000, 60_000), max_pixels=3_000_000_000
    )
    before = Image.MAX_IMAGE_PIXELS
    large = tmp_path / "large.png"
    Image.new("1", (15_000, 12_000), 1).save(large)  # 180 megapixels: beyond what Pillow refuses
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(large, max_pixels=200_000_000).shape == (12_000, 15_000, 3)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_environment_raises_or_lowers_the_limit(png, refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_MAX_PIXELS", "2399")
    said = refusal(png)
    assert "limit of 2,399 pixels" in said
    assert "SPHERECV_MAX_PIXELS" in said
    assert load_image(png, max_pixels=2400).shape == (40, 60, 3)
    monkeypatch.setenv("SPHERECV_MAX_PIXELS", "lots")
    with pytest.raises(InvalidArgumentError, match="whole number of pixels, but is 'lots'"):
        load_image(png)


def test_a_jpeg_that_breaks_off_is_taken_where_that_is_asked_for(
    rgb, refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()
    assert "truncated" in refusal(whole[:-2])
    assert load_image(whole[:-2], truncated=True).shape == (64, 64, 3)
    monkeypatch.setenv("SPHERECV_TRUNCATED", "1")
    assert (load_image(whole[:-2]) == load_image(whole)).all()
    assert "truncated" in refusal(whole[:-2], truncated=False)


def test_a_limit_that_another_thread_raised_for_a_while_is_not_relied_on() -> None:
    """Else it fell while the second image was being decoded, and Pillow refused that."""
    inside, over, seen = threading.Event(), threading.Event(), []

    def second() -> None:
        with _pillows_limit(10**9):
            inside.set()
            assert over.wait(30)
            seen.append(Image.MAX_IMAGE_PIXELS)

    thread = threading.Thread(target=second)
    with _pillows_limit(10**9):
        thread.start()
        inside.wait(0.3)
    over.set()
    thread.join(30)
    assert seen == [10**9]
