"""Several processes that want the same file, and one that is killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from spherecv.errors import DownloadError
from spherecv.zoo import download as module
from spherecv.zoo.download import download

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
        for start in range(0, len(site.payload), len(site.payload) // 8):
            request.wfile.write(site.payload[start : start + len(site.payload) // 8])
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
    half = len(site.payload) // 2
    arrived = threading.Event()
    release = threading.Event()

    def halts(request) -> None:
        if request.offset():
            request.serve()
            return
        request.start(Content_Length=len(site.payload))
        request.wfile.write(site.payload[:half])
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
    assert 0 < kept <= half
    download(file, target)
    assert target.read_bytes() == site.payload
    assert site.asked[-1][1] == f"bytes={kept}-"


def test_waiting_for_another_process_ends_some_day(site, target, monkeypatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.2)
    target.parent.mkdir(parents=True)
    with FileLock(target.with_name(".weights.bin.lock")), pytest.raises(DownloadError, match="another process"):
        download(site.file(lambda r: r.serve()), target)
