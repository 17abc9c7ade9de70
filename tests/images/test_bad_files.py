"""What is no picture, or not a whole one, or not to be read: one line that says so."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import InvalidArgumentError


def test_a_missing_file(tmp_path: Path, refusal) -> None:
    assert refusal(tmp_path / "gone.jpg") == f"{tmp_path / 'gone.jpg'}: no such file"
    assert refusal(tmp_path / "no" / "such" / "folder.jpg").endswith("no such file")


def test_a_folder(tmp_path: Path, refusal) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is a folder, not an image"
    assert refusal("") == "a path is empty: name an image"


def test_names_that_cannot_be(tmp_path: Path, refusal) -> None:
    assert "cannot be read" in refusal("a\0b.jpg")
    assert "cannot be read" in refusal("x." * 2500)
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be read" in refusal(tmp_path / "file" / "below.jpg")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    assert refusal(tmp_path / "a.jpg") == f"{tmp_path / 'a.jpg'} cannot be read: Permission denied"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_text_named_as_a_picture(tmp_path: Path, suffix: str, refusal) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_text("this is not a picture, whatever its name says\n" * 100)
    assert refusal(path) == f"{path} is not an image in a known format"


@pytest.mark.parametrize("source", [b"", bytearray(), io.BytesIO()])
def test_nothing_at_all(source: object, refusal) -> None:
    assert refusal(source).endswith("is empty (0 bytes)")


def test_an_empty_file(tmp_path: Path, refusal) -> None:
    (tmp_path / "e.jpg").write_bytes(b"")
    assert refusal(tmp_path / "e.jpg") == f"{tmp_path / 'e.jpg'} is empty (0 bytes)"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "TGA"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files(kind: str, share: float, encoded, refusal) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert "broken image" in refusal(data[: int(len(data) * share)])


def test_a_truncated_photograph(data_dir: Path, tmp_path: Path, refusal) -> None:
    whole = (data_dir / "deepface-pairs" / "img2.jpg").read_bytes()
    path = tmp_path / "half.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(path).startswith(f"{path} is a broken image: image file is truncated")


def test_a_postscript_file_is_never_run(monkeypatch: pytest.MonkeyPatch, rgb, encoded, refusal) -> None:
    data = encoded(Image.fromarray(rgb), "EPS")
    assert data.startswith(b"%!PS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", pytest.fail)
    assert refusal(data) == "the bytes given is not an image in a known format"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without end")
def test_a_device_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch, refusal) -> None:
    monkeypatch.setattr("spherecv.images._MAX_BYTES", 1 << 24)
    assert refusal("/dev/zero") == "/dev/zero is longer than the limit of 16,777,216 bytes"


def test_streams_that_are_no_binary_files(refusal) -> None:
    assert "binary mode" in refusal(io.StringIO("text"), InvalidArgumentError)
    closed = io.BytesIO(b"x")
    closed.close()
    assert "cannot be read: I/O operation on closed file" in refusal(closed)

    class Broken(io.RawIOBase):
        name = "the camera"

        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    assert refusal(Broken()).startswith("the camera cannot be read: ")
