"""Servers that misbehave, fall silent, or send elsewhere."""

from __future__ import annotations

import threading
import time

import pytest

from spherecv.errors import DownloadError
from spherecv.zoo import download as module
from spherecv.zoo.download import download


def _announces_more(request) -> None:
    request.start(Content_Length=1 << 40)
    request.wfile.write(b"x" * 1000)


def _sends_without_end(request) -> None:
    request.start()
    try:
        while True:
            request.wfile.write(b"x" * 65536)
    except OSError:
        pass


def _announces_less(request) -> None:
    request.start(Content_Length=7)
    request.wfile.write(b"x" * 7)


def _compresses(request) -> None:
    request.start(Content_Length=1 << 20, Content_Encoding="gzip")
    request.wfile.write(b"x" * 7)


def _is_not_http(request) -> None:
    request.wfile.write(b"\x1b[2J\0 hello\r\n\r\n")


def _endless_header(request) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000)


def _ends_early(request) -> None:
    request.start()
    request.wfile.write(b"x" * 7)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (_announces_more, "offers 1,099,511,627,776 bytes, not 1,048,576"),
        (_sends_without_end, "sends more than 1,048,576 bytes"),
        (_announces_less, "offers 7 bytes, not 1,048,576"),
        (_compresses, "sends gzip where plain bytes were asked for"),
        (_is_not_http, "?[2J? hello"),
        (_endless_header, "got more than 65536 bytes when reading header line"),
        (_ends_early, "broke off after"),
    ],
)
def test_servers_that_misbehave_are_refused(site, target, server, words) -> None:
    with pytest.raises(DownloadError) as caught:
        download(site.file(server), target)
    assert words in str(caught.value)
    assert not target.exists()
    part = target.with_name("weights.bin.part")
    assert not part.exists() or part.stat().st_size < len(site.payload)


def test_a_silent_server_is_given_up(site, target, monkeypatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    release = threading.Event()

    def says_nothing(request) -> None:
        release.wait(10)

    def falls_silent(request) -> None:
        request.start(Content_Length=1 << 20)
        request.wfile.write(b"x" * 1000)
        release.wait(10)

    with pytest.raises(DownloadError, match=r"no answer for 0.2 seconds.*broke off after 1,000 .*no answer for 0.2"):
        download(site.file(says_nothing, falls_silent), target)
    release.set()


def test_a_server_that_drips_is_given_up(site, target, monkeypatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)

    def drips(request) -> None:
        request.start(Content_Length=1 << 20)
        try:
            for _ in range(200):
                request.wfile.write(b"x")
                request.wfile.flush()
                time.sleep(0.02)
        except OSError:
            pass

    with pytest.raises(DownloadError, match="stalled after"):
        download(site.file(drips), target)


def test_redirects_are_followed_on_http(site, target) -> None:
    goal = site.page(lambda r: r.serve())
    download(site.file(lambda r: r.start(302, Location=goal, Content_Length=0)), target)
    assert target.read_bytes() == site.payload


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "gopher://x/"])
def test_redirects_to_another_kind_of_address_are_refused(site, target, left_behind, scheme) -> None:
    with pytest.raises(DownloadError, match=r"redirect|Redirect"):
        download(site.file(lambda r: r.start(302, Location=scheme, Content_Length=0)), target)
    assert left_behind() == set()


def test_redirects_never_leave_tls() -> None:
    import urllib.request

    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(module._RefusedError, match="redirects from https to http"):
        module._CarefulRedirects().redirect_request(request, None, 302, "Found", {}, "http://example.org/a")


def test_a_redirect_in_circles_ends(site, target) -> None:
    def again(request) -> None:
        request.start(302, Location=request.path, Content_Length=0)

    with pytest.raises(DownloadError, match="HTTP 302"):
        download(site.file(again), target)


def test_only_http_is_opened(target) -> None:
    with pytest.raises(module._RefusedError):
        module._open("file:///etc/passwd", 0)
