from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spherecv.errors import StorageError
from spherecv.watch import Event, EventLog


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_events_are_appended_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    with EventLog(path) as log:
        log.write(Event("decided", 7, 0.28, None, {"track": 1, "identity": "Ædel\n\udc80"}))
        assert lines(path)[0]["track"] == 1  # readable while it is written
    with EventLog(path) as log:
        log.write(Event("stop", at="2026-01-01T00:00:00+00:00"))
    first, second = lines(path)
    assert first == {
        "event": "decided",
        "frame": 7,
        "time": 0.28,
        "at": None,
        "track": 1,
        "identity": "Ædel\n\udc80",
    }
    assert second["event"] == "stop"


def test_no_name_breaks_its_line(tmp_path: Path) -> None:
    name = "An\x85n \u2028\u2029\x9b31m\x7f Ünal"
    with EventLog(tmp_path / "log.jsonl") as log:
        log.write(Event("decided", details={"identity": name}))
    (line,) = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["identity"] == name
    assert "Ünal" in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_a_log_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with EventLog(tmp_path / "pipe") as log:
        log.write(Event("start"))
        assert json.loads(os.read(reader, 4096))["event"] == "start"
    os.close(reader)


def test_a_line_left_unfinished_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "start"}\n{"event": "dec')
    with EventLog(path) as log:
        log.write(Event("start"))
    kept = path.read_bytes().split(b"\n")
    assert json.loads(kept[0])["event"] == json.loads(kept[2])["event"] == "start"


def test_what_was_logged_outlives_a_kill(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom spherecv.watch import Event, EventLog\n"
        "log = EventLog(sys.argv[1])\n"
        "for number in range(10**9):\n    log.write(Event('decided', number))\n    print(number, flush=True)\n"
    )
    path = tmp_path / "log.jsonl"
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    told = [int(child.stdout.readline()) for _ in range(50)][-1]
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    kept = lines(path)
    assert len(kept) > told
    assert [event["frame"] for event in kept] == list(range(len(kept)))


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "log.jsonl"):
        with pytest.raises(StorageError, match="cannot be written"):
            EventLog(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_an_error() -> None:
    with EventLog("/dev/full") as log, pytest.raises(StorageError, match="No space"):
        log.write(Event("start"))
