"""Pictures are looked at before they are decoded."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import ImageError
from spherecv.serve.problems import Problem
from spherecv.serve.uploads import checked_upload, from_base64


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that says it is large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_browsers_send_is_taken_and_turned_upright(kind) -> None:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((40, 20), 90).convert("RGB").save(stream, kind, exif=exif.tobytes())
    upload = checked_upload(stream.getvalue(), "img1", 800)
    assert (upload.name, upload.pixels) == ("img1", 800)
    assert upload.decode_image().shape == (40, 20, 3)
    with pytest.raises(Problem, match=r"img1 is 40x20, larger than the limit of 799 pixels") as refusal:
        checked_upload(stream.getvalue(), "img1", 799)
    assert refusal.value.status == 413


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (30_000, 1000)])
def test_a_bomb_is_refused_by_its_header(size, monkeypatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _self: pytest.fail("decoded"))
    with pytest.raises(Problem, match="larger than the limit of 25,000,000 pixels"):
        checked_upload(bomb(*size), "img", 25_000_000)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "img is empty"),
        (b"GIF89a" + bytes(50), "not an image in JPEG, PNG or WebP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image in JPEG, PNG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image in JPEG, PNG or WebP"),
        (b"\xff\xd8\xff", "broken JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "broken PNG"),
        (b"RIFF\x00\x00\x00\x00WEBP", "broken WEBP"),
    ],
)
def test_what_is_no_picture_is_refused(data, words) -> None:
    with pytest.raises(ImageError, match=words):
        checked_upload(data, "img", 1000)


def test_a_picture_that_breaks_off_is_refused_when_it_is_decoded() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(stream, "PNG")
    upload = checked_upload(stream.getvalue()[:3000], "img2", 10_000)
    with pytest.raises(ImageError, match="img2 is a broken image"):
        upload.decode_image()


def test_base64() -> None:
    text = base64.b64encode(b"abc").decode()
    assert from_base64(text) == from_base64(f"data:image/png;base64,{text}") == b"abc"
    for wrapped in ("YW\r\nJj\n", "data:;base64,YWJj", "data:text/html;charset=utf-8;base64,YW\nJj"):
        assert from_base64(wrapped) == b"abc"
    for wrong in ("/etc/passwd", "http://127.0.0.1/x.jpg", "file:///x", "YWJ", "YW-j", "data:text/plain,YWJj"):
        if wrong == "/etc/passwd":
            continue
        with pytest.raises(ValueError, match="paths and addresses are not opened"):
            from_base64(wrong)
