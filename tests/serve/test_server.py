"""A process that serves: killed in the middle of its work, stopped in the middle of its work."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.gallery import FaceGallery, Origin
from spherecv.serve import ApiKeys, run
from spherecv.serve.keys import new_key
from spherecv.serve.server import check_open

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(gallery: Path, seconds: float = 0.0):
    """The address of a service in a process of its own, and the process."""
    command = [sys.executable, str(Path(__file__).with_name("colour_server.py")), str(gallery), str(seconds)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_kill_loses_nothing_that_was_answered(tmp_path, tools) -> None:
    chance = random.Random(7)
    place = tmp_path / "people.db"
    answered: set[str] = set()
    asked: set[str] = set()
    for kill in range(3):
        with started(place) as (address, process):
            enough = threading.Event()

            def enrol(number: int, kill: int = kill, address: str = address, enough=enough) -> None:
                with httpx.Client(base_url=address, timeout=tools.patience, trust_env=False) as client:
                    for count in range(10_000):
                        name = f"{kill}-{number}-{count}"
                        colour = (40 + kill * 40, number * 60, 200)
                        asked.add(name)
                        try:
                            sent = client.post(
                                "/v1/gallery", files={"img": tools.picture(colour)}, data={"identity": name}
                            )
                        except httpx.HTTPError:
                            return
                        assert sent.status_code == 201
                        answered.add(name)
                        if count == 2:
                            enough.set()

            threads = [threading.Thread(target=enrol, args=(number,)) for number in range(3)]
            for thread in threads:
                thread.start()
            assert enough.wait(tools.patience)
            time.sleep(chance.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join()
        connection = sqlite3.connect(place)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        with FaceGallery.open(place, model=Origin("colour", "colour-1")) as gallery:
            held = {person.name: person.faces for person in gallery.identities()}
        assert answered <= set(held) <= asked
        assert set(held.values()) == {1}
    assert len(answered) >= 9


def test_a_stop_finishes_what_was_let_in(tmp_path, tools) -> None:
    with started(tmp_path / "people.db", seconds=0.2) as (address, process):
        answers: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=address, timeout=tools.patience, trust_env=False) as client:
                answers.append(client.post("/v1/embed", files={"img": tools.red}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        with httpx.Client(base_url=address, timeout=tools.patience, trust_env=False) as client:
            waited = time.monotonic() + tools.patience
            while "spherecv_inside_requests 10.0" not in client.get("/metrics").text and not answers:
                assert time.monotonic() < waited
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(tools.patience) in (0, -signal.SIGTERM)
        assert answers == [200] * 10
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/healthz", trust_env=False)


def test_open_to_others_with_keys_only() -> None:
    keys = ApiKeys({"a": new_key("a")[1].rpartition(":")[2]})
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_open(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.7", "faces.example", ""):
        check_open(host, keys)
        with pytest.raises(InvalidArgumentError, match="--keys"):
            check_open(host, None)


def test_a_taken_port_is_told(staged) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InvalidArgumentError, match="cannot listen"):
        run(staged.make(), port=taken.getsockname()[1])
