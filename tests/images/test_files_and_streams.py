"""Where a picture's bytes may come from: any name, any stream; and what is remembered of it."""

from __future__ import annotations

import gc
import io
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import ImageError
from spherecv.images import LabelledImage, load_both, load_image, load_labelled

NAMES = ["Gesicht ä ö ü.png", "顔 写真.png", "лицо.png", "😀.png", "a'b\"c.png", " .png", "%20#?.png", "x" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_works(tmp_path: Path, name: str, png, bgr) -> None:
    path = tmp_path / name
    path.write_bytes(png)
    np.testing.assert_array_equal(load_image(path), bgr)
    np.testing.assert_array_equal(load_image(str(path)), bgr)


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no text exist on Linux only")
def test_a_name_that_is_no_text_works(tmp_path: Path, png, bgr) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(png)

    class BytesPath:
        def __fspath__(self) -> bytes:
            return path

    np.testing.assert_array_equal(load_image(os.fsdecode(path)), bgr)
    np.testing.assert_array_equal(load_image(BytesPath()), bgr)


def test_bytes_and_streams(tmp_path: Path, png, bgr) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png)
    for source in (png, bytearray(png), memoryview(png), io.BytesIO(png)):
        np.testing.assert_array_equal(load_image(source), bgr)
    with path.open("rb") as stream:
        np.testing.assert_array_equal(load_image(stream), bgr)


def test_a_stream_that_gives_a_little_at_a_time_and_cannot_seek(png, bgr) -> None:
    class Trickle(io.RawIOBase):
        left = png

        def read(self, size: int = -1) -> bytes:
            chunk, self.left = self.left[:7], self.left[7:]
            return chunk

    np.testing.assert_array_equal(load_image(Trickle()), bgr)


def test_a_pipe_works(tmp_path: Path, png, bgr) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(png,))
    writer.start()
    np.testing.assert_array_equal(load_image(path), bgr)
    writer.join()


def test_files_are_closed(tmp_path: Path, png, refusal) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(png)
    bad.write_bytes(png[:60])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        load_image(good)
        refusal(bad)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_labelled_images_remember_their_path(tmp_path: Path, png, bgr) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png)
    labelled = load_labelled(path)
    assert labelled.label == str(path)
    np.testing.assert_array_equal(labelled.image, bgr)
    assert load_labelled(labelled) is labelled
    without = load_labelled(bgr)
    assert isinstance(without, LabelledImage)
    assert (without.image is bgr, without.label) == (True, "the image given")


def test_two_files_are_loaded_side_by_side_and_streams_one_after_the_other(tmp_path, png, bgr, monkeypatch) -> None:
    path, threads, real = tmp_path / "a.png", set(), load_labelled
    path.write_bytes(png)

    def seen(source):
        threads.add(threading.get_ident())
        return real(source)

    monkeypatch.setattr("spherecv.images.load_labelled", seen)
    for first, second, count in ((path, str(path), 2), (png, path, 2), (io.BytesIO(png), path, 1), (bgr, bgr, 1)):
        threads.clear()
        loaded = load_both(first, second)
        assert len(threads) == count
        for image in loaded:
            np.testing.assert_array_equal(image.image, bgr)
    with pytest.raises(ImageError, match=r"first\.png: no such file"):
        load_both(tmp_path / "first.png", tmp_path / "second.png")
    with pytest.raises(ImageError, match=r"second\.png: no such file"):
        load_both(path, tmp_path / "second.png")
