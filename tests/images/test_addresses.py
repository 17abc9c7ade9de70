from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from spherecv import addresses
from spherecv.addresses import LONGEST_SHOWN, brief, decode_base64, is_text_image
from spherecv.errors import ImageError
from spherecv.images import find_images, load_image, load_labelled, shown_source


def picture(orientation: int = 1) -> bytes:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(out, "JPEG", exif=exif)
    return out.getvalue()


class Site(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        where = {"/loop": "/loop", "/moved": "/a.jpg", "/disk": "file:///etc/passwd", "/ftp": "ftp://127.0.0.1/x"}
        self.send_response(302 if self.path in where else 200 if self.path.startswith("/a") else 404)
        if self.path in where:
            self.send_header("Location", where[self.path])
        self.end_headers()
        if self.path.startswith("/a"):
            self.wfile.write(picture(6))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("SPHERECV_OFFLINE", raising=False)
    server = HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["/a.jpg", "/a?size=large", "/moved"])
def test_an_address_is_the_image_that_lies_there_with_its_orientation(site: str, path: str) -> None:
    assert np.array_equal(load_image(site + path), load_image(picture(6)))
    assert load_image(site + path).shape == (60, 40, 3)


@pytest.mark.parametrize("path", ["/loop", "/disk", "/ftp", "/missing"])
def test_what_cannot_be_fetched_is_one_short_error(site: str, path: str) -> None:
    with pytest.raises(ImageError, match="cannot be fetched"):
        load_image(site + path)


def test_nothing_is_fetched_offline_or_beyond_the_limits(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "MAX_BYTES", 100)
    with pytest.raises(ImageError, match="longer than the limit of 100 bytes"):
        load_image(site + "/a.jpg")
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    with pytest.raises(ImageError, match="SPHERECV_OFFLINE forbids"):
        load_image(site + "/a.jpg")


def test_an_address_where_a_folder_is_asked_is_told(tmp_path) -> None:
    for given in ("http://host/people", Path("http://host/people"), Path("file:///people")):
        with pytest.raises(ImageError, match="is an address"):
            find_images(given)


def test_text_that_holds_an_image_is_one(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = picture()
    text = base64.b64encode(whole).decode()
    heads = ("data:image/jpeg;base64,", "DATA:;base64,", "data:image/jpeg;charset=utf-8;base64,")
    escaped = "data:image/jpeg;base64," + quote(text, safe="")
    for given in (text, base64.encodebytes(whole).decode(), escaped, *(head + text for head in heads)):
        assert is_text_image(given)
        assert np.array_equal(load_image(given), load_image(whole))
    assert len(load_labelled("data:image/jpeg;base64," + text).label) <= LONGEST_SHOWN


@pytest.mark.parametrize(
    "given",
    ["file:///etc/passwd", "ftp://x/y.jpg", "data:image/png;base64,##" + "x" * 9999, "data:image/png,a", "A" * 9999],
)
def test_other_text_is_refused_and_hardly_quoted(given: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(given)
    assert len(str(caught.value)) <= 200


def test_a_path_far_too_long_is_refused_and_hardly_quoted() -> None:
    with pytest.raises(ImageError) as caught:
        load_image("x.y" * 100_000)
    assert len(str(caught.value)) <= 200


def test_messages_hide_passwords_and_quote_little() -> None:
    assert brief("http://ann:secret@host/a.jpg") == "http://***@host/a.jpg"
    assert len(brief("x" * 10**6)) == LONGEST_SHOWN
    assert brief("data:;base64,AA\r\nAA") == "data:;base64,AA AA"
    assert shown_source("x" * 90) == "x" * 90  # a path is named in full


def test_base64_is_strict_but_for_line_breaks() -> None:
    assert decode_base64("YW\r\nJj\n") == b"abc"
    for wrong in ("YW-j", "YWJ", "data:text/plain,YWJj"):
        with pytest.raises(ValueError, match=r"data|padding|base64"):
            decode_base64(wrong)


def test_a_file_object_may_be_given_again() -> None:
    upload = io.BytesIO(picture())
    assert np.array_equal(load_image(upload), load_image(upload))


@pytest.mark.parametrize("cut", [2, 500])
def test_a_jpeg_that_breaks_off_is_filled_only_where_asked(cut: int, tmp_path) -> None:
    whole = picture()
    (tmp_path / "a.jpg").write_bytes(whole[:-cut])
    for source in (whole[:-cut], tmp_path / "a.jpg", io.BytesIO(whole[:-cut])):
        with pytest.raises(ImageError, match=r"take what is there, grey .*: truncated=True, --truncated or"):
            load_image(source)
        filled = load_image(source, truncated=True)
        assert np.array_equal(filled[:8], load_image(whole)[:8])
    assert (tmp_path / "a.jpg").read_bytes() == whole[:-cut]
