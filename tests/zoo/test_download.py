"""A file comes whole: in one go, resumed, from one mirror or another."""

from __future__ import annotations

import pytest

from spherecv.errors import DownloadError, HashMismatchError
from spherecv.zoo.download import download

HALF = 1 << 19


def test_a_download_is_whole_and_leaves_nothing_else(site, target, left_behind) -> None:
    seen: list[int] = []
    download(site.file(lambda r: r.serve()), target, progress=seen.append)
    assert target.read_bytes() == site.payload
    assert left_behind() == {"weights.bin", ".weights.bin.verified"}
    assert seen == sorted(seen)
    assert seen[-1] == len(site.payload)


def test_a_file_that_is_there_is_not_fetched_again(site, target) -> None:
    file = site.file(lambda r: r.serve())
    download(file, target)
    download(file, target)
    assert len(site.asked) == 1


def test_a_broken_file_is_replaced(site, target) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"\0" * len(site.payload))
    download(site.file(lambda r: r.serve()), target)
    assert target.read_bytes() == site.payload


def test_a_connection_that_breaks_off_is_picked_up_by_range(site, target) -> None:
    download(site.file(lambda r: r.serve(stop_after=300_000)), target)
    assert target.read_bytes() == site.payload
    assert [asked for _, asked in site.asked] == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_the_next_run_goes_on_where_the_last_one_stopped(site, target, left_behind) -> None:
    def once(request) -> None:
        request.serve(stop_after=HALF if not request.offset() else 0)

    with pytest.raises(DownloadError, match="broke off after 524,288 of 1,048,576 bytes"):
        download(site.file(once), target)
    assert left_behind() == {"weights.bin.part"}
    site.asked.clear()
    download(site.file(lambda r: r.serve()), target)
    assert target.read_bytes() == site.payload
    assert [asked for _, asked in site.asked] == [f"bytes={HALF}-"]
    assert left_behind() == {"weights.bin", ".weights.bin.verified"}


def test_a_part_that_is_already_whole_needs_no_network(site, target) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").write_bytes(site.payload)
    download(site.file(lambda r: r.serve()), target)
    assert target.read_bytes() == site.payload
    assert not site.asked


def _ignores_range(request) -> None:
    request.start(Content_Length=1 << 20)
    request.wfile.write(bytes(range(256)) * 4096)


def _refuses_range(request) -> None:
    if request.offset():
        request.start(416, Content_Length=0)
    else:
        request.serve()


def _sends_another_range(request) -> None:
    if request.offset():
        request.start(206, Content_Length=10, Content_Range="bytes 0-9/1048576")
        request.wfile.write(b"0123456789")
    else:
        request.serve()


def _of_another_size(request) -> None:
    if request.offset():
        request.start(206, Content_Length=HALF, Content_Range=f"bytes {HALF}-{2 * HALF - 1}/{4 * HALF}")
        request.wfile.write(b"x" * HALF)
    else:
        request.serve()


@pytest.mark.parametrize("server", [_ignores_range, _refuses_range, _sends_another_range, _of_another_size])
def test_resuming_survives_servers_that_cannot(site, target, server) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").write_bytes(site.payload[:HALF])
    download(site.file(server), target)
    assert target.read_bytes() == site.payload
    assert len(site.asked) == (1 if server is _ignores_range else 2)


@pytest.mark.parametrize("stale", [b"x" * HALF, b"x" * (3 * HALF), b"x" * (2 * HALF)])
def test_a_part_of_something_else_is_thrown_away(site, target, stale) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").write_bytes(stale)
    download(site.file(lambda r: r.serve()), target)
    assert target.read_bytes() == site.payload


def test_mirrors_are_tried_in_turn_and_go_on_from_each_other(site, target) -> None:
    def gone(request) -> None:
        request.start(404, Content_Length=0)

    def half(request) -> None:
        request.serve(stop_after=HALF if not request.offset() else 0)

    file = site.file(gone, half, lambda r: r.serve(), lambda r: r.serve())
    download(file, target)
    assert target.read_bytes() == site.payload
    assert [path for path, _ in site.asked] == ["/0.bin", "/1.bin", "/1.bin", "/2.bin"]
    assert site.asked[-1] == ("/2.bin", f"bytes={HALF}-")


def test_the_error_says_how_each_mirror_failed_and_what_to_do(site, target, left_behind) -> None:
    def gone(request) -> None:
        request.start(404, Content_Length=0)

    def lies(request) -> None:
        request.serve(b"\0" * len(site.payload))

    nobody = "http://127.0.0.1:9/none.bin"
    with pytest.raises(DownloadError) as caught:
        download(site.file(gone, lies, nobody, "http://no-such-host.invalid/x.bin"), target, by_hand="put it there")
    message = str(caught.value)
    assert not isinstance(caught.value, HashMismatchError)
    assert "\n" not in message
    assert message.startswith("weights.bin could not be downloaded (")
    assert "/0.bin: HTTP 404 Not Found" in message
    assert "/1.bin: has SHA256 30e14955ebf1..., not fbbab289f7f9..." in message
    assert f"{nobody}: Connection refused" in message
    assert "no-such-host.invalid/x.bin: " in message
    assert message.endswith(": put it there")
    assert left_behind() == set()


def test_a_wrong_hash_everywhere_is_a_mismatch_and_nothing_is_left(site, target, left_behind) -> None:
    with pytest.raises(HashMismatchError, match="has SHA256"):
        download(site.file(lambda r: r.serve(b"\0" * len(site.payload))), target)
    assert left_behind() == set()


def test_every_digest_counts(site, target) -> None:
    file = site.file(lambda r: r.serve())
    object.__setattr__(file, "digests", (file.digests[0], ("sha384", "0" * 96)))
    with pytest.raises(HashMismatchError, match="has SHA384"):
        download(file, target)
