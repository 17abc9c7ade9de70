from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spherecv.errors import DownloadError, HashMismatchError, StorageError
from spherecv.zoo import download as module
from spherecv.zoo.download import download

HALF = 1 << 19


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "toy" / "weights.bin"


def left_behind(target: Path) -> set[str]:
    """What lies in the folder besides the lock."""
    return {path.name for path in target.parent.iterdir()} - {f".{target.name}.lock"}


def test_a_download_is_whole_and_leaves_nothing_else(site, target) -> None:
    seen: list[int] = []
    download(site.file(lambda r: r.serve()), target, progress=seen.append)
    assert target.read_bytes() == site.payload
    assert left_behind(target) == {"weights.bin", ".weights.bin.verified"}
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


def test_the_next_run_goes_on_where_the_last_one_stopped(site, target) -> None:
    def once(request) -> None:
        request.serve(stop_after=HALF if not request.offset() else 0)

    with pytest.raises(DownloadError, match="broke off after 524,288 of 1,048,576 bytes"):
        download(site.file(once), target)
    assert left_behind(target) == {"weights.bin.part"}
    site.asked.clear()
    download(site.file(lambda r: r.serve()), target)
    assert target.read_bytes() == site.payload
    assert [asked for _, asked in site.asked] == [f"bytes={HALF}-"]
    assert left_behind(target) == {"weights.bin", ".weights.bin.verified"}


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


def test_the_error_says_how_each_mirror_failed_and_what_to_do(site, target) -> None:
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
    assert left_behind(target) == set()


def test_a_wrong_hash_everywhere_is_a_mismatch_and_nothing_is_left(site, target) -> None:
    with pytest.raises(HashMismatchError, match="has SHA256"):
        download(site.file(lambda r: r.serve(b"\0" * len(site.payload))), target)
    assert left_behind(target) == set()


def test_every_digest_counts(site, target) -> None:
    file = site.file(lambda r: r.serve())
    object.__setattr__(file, "digests", (file.digests[0], ("sha384", "0" * 96)))
    with pytest.raises(HashMismatchError, match="has SHA384"):
        download(file, target)


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
def test_redirects_to_another_kind_of_address_are_refused(site, target, scheme) -> None:
    with pytest.raises(DownloadError, match=r"redirect|Redirect"):
        download(site.file(lambda r: r.start(302, Location=scheme, Content_Length=0)), target)
    assert left_behind(target) == set()


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk that is always full")
def test_a_full_disk_is_one_clear_error(site, target) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device\): free space there, or set SPHERECV_CACHE"):
        download(site.file(lambda r: r.serve()), target)
    assert left_behind(target) == set()


def test_too_little_space_is_seen_before_anything_is_written(site, target, monkeypatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(StorageError, match="has 1,000 bytes free, and 1,048,576 are needed"):
        download(site.file(lambda r: r.serve()), target)
    assert left_behind(target) == set()


def test_a_part_that_cannot_be_removed_ends_the_download(site, target, monkeypatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").write_bytes(b"x" * HALF)
    monkeypatch.setattr(Path, "unlink", refuse)  # another user's file, in a folder with the sticky bit
    with pytest.raises(StorageError, match=r"weights.bin.part cannot be written \(Operation not permitted\)"):
        download(site.file(lambda r: r.serve()), target)


def test_a_file_system_without_locks_is_one_clear_error(site, target, monkeypatch) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(StorageError, match="is on a file system without locks: set SPHERECV_CACHE"):
        download(site.file(lambda r: r.serve()), target)


def test_a_cache_below_a_file_is_one_clear_error(site, tmp_path) -> None:
    (tmp_path / "plain").write_text("not a folder")
    with pytest.raises(StorageError, match=r"plain.* cannot be written .*set SPHERECV_CACHE to another one"):
        download(site.file(lambda r: r.serve()), tmp_path / "plain" / "toy" / "weights.bin")
    assert not site.asked


def test_a_read_only_cache_is_one_clear_error(site, target, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # As root no folder is read-only, so the system call is made to say so.
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=r"Read-only file system\): make the folder writable, or set SPHERECV_CACHE"):
        download(site.file(lambda r: r.serve()), target)


_CHILD = """
import sys
from pathlib import Path
from spherecv.zoo.download import download
from spherecv.zoo.model import ModelFile
url, digest, size, path = sys.argv[1:]
digests = (("sha256", digest),)
file = ModelFile(role="onnx", name="weights.bin", origin="download", urls=(url,), size=int(size), digests=digests)
print("ready", flush=True)
sys.stdin.readline()
download(file, Path(path))
print(Path(path).stat().st_size)
"""


def _child(site, file, target) -> subprocess.Popen[str]:
    arguments = [file.urls[0], dict(file.digests)["sha256"], str(file.size), str(target)]
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", _CHILD, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_two_processes_at_once_download_once(site, target) -> None:
    def slowly(request) -> None:
        request.start(Content_Length=len(site.payload))
        for start in range(0, len(site.payload), HALF // 4):
            request.wfile.write(site.payload[start : start + HALF // 4])
            time.sleep(0.05)

    file = site.file(slowly)
    children = [_child(site, file, target) for _ in range(3)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate(timeout=30) for child in children]
    assert [out.strip() for out, _ in answers] == [str(len(site.payload))] * 3, answers
    assert len(site.asked) == 1
    assert target.read_bytes() == site.payload


def test_a_killed_download_is_picked_up_by_the_next_process(site, target) -> None:
    arrived = threading.Event()
    release = threading.Event()

    def halts(request) -> None:
        if request.offset():
            request.serve()
            return
        request.start(Content_Length=len(site.payload))
        request.wfile.write(site.payload[:HALF])
        request.wfile.flush()
        arrived.set()
        release.wait(20)

    file = site.file(halts)
    child = _child(site, file, target)
    child.stdin.write("go\n")
    child.stdin.flush()
    assert arrived.wait(20)
    part = target.with_name("weights.bin.part")
    deadline = time.monotonic() + 10
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    release.set()
    kept = part.stat().st_size
    assert 0 < kept <= HALF
    download(file, target)
    assert target.read_bytes() == site.payload
    assert site.asked[-1][1] == f"bytes={kept}-"


def test_waiting_for_another_process_ends_some_day(site, target, monkeypatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.2)
    target.parent.mkdir(parents=True)
    with FileLock(target.with_name(".weights.bin.lock")), pytest.raises(DownloadError, match="another process"):
        download(site.file(lambda r: r.serve()), target)
