"""A process that serves: killed in the middle of its work, stopped in the middle of its work."""

from __future__ import annotations

import json
import platform
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
from spherecv.serve import ApiKeys, ServiceSettings, create_app, run
from spherecv.serve.keys import new_key
from spherecv.serve.server import check_certificate, check_open, make_server

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(gallery: Path, *gate: Path):
    """The address of a service in a process of its own, and the process."""
    command = [sys.executable, str(Path(__file__).with_name("colour_server.py")), str(gallery), *map(str, gate)]
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


def lets_in(address: str) -> bool:
    try:
        httpx.get(f"{address}/healthz", trust_env=False, timeout=60)
    except httpx.ConnectError:
        return False
    except httpx.TransportError:  # it came in between
        return True
    return True


def test_a_stop_finishes_what_was_let_in(tmp_path, tools) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with started(tmp_path / "people.db", gate) as (address, process):
        answers: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=address, timeout=tools.patience, trust_env=False) as client:
                answers.append(client.post("/v1/embed", files={"img": tools.red}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        with httpx.Client(base_url=address, timeout=tools.patience, trust_env=False) as client:
            waited = time.monotonic() + tools.patience
            while "spherecv_inside_requests 10.0" not in client.get("/metrics").text:
                assert time.monotonic() < waited
                time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        while lets_in(address):
            assert time.monotonic() < waited
        assert not answers
        gate.unlink()
        for thread in threads:
            thread.join()
        assert process.wait(tools.patience) in (0, -signal.SIGTERM)
        assert answers == [200] * 10


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


@pytest.fixture(scope="module")
def pems(tmp_path_factory) -> Path:
    """A certificate and its key, the same key under a passphrase, and the key of another."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("pems")
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    since = dt.datetime(2020, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, since, since.replace(year=2046))
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    plain, locked = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")
    for file, owner, cover in (("key", key, plain), ("locked", key, locked), ("other", other, plain)):
        (folder / f"{file}.pem").write_bytes(owner.private_bytes(*form, cover))
    (folder / "text.pem").write_text("no certificate")
    return folder


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        (None, "key", "needs its certificate"),
        ("none", "key", "No such file"),
        ("cert", "none", "No such file"),
        ("text", "key", "not in PEM"),
        ("cert", None, "not in PEM"),
        ("cert", "other", "do not belong together"),
        ("cert", "locked", "passphrase"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_one_sentence(pems, certificate, key, words) -> None:
    files = [None if name is None else pems / f"{name}.pem" for name in (certificate, key)]
    with pytest.raises(InvalidArgumentError, match=words) as refusal:
        check_certificate(*files)
    assert "\n" not in str(refusal.value)


def test_https_is_spoken(pems, staged) -> None:
    import ssl

    check_certificate(None, None)
    told: list[str] = []
    listening = threading.Event()
    server = []

    def serve() -> None:
        server.append(made := make_server(
            create_app(staged.make()), ServiceSettings(), host="127.0.0.1", port=0,
            ssl_certfile=pems / "cert.pem", ssl_keyfile=pems / "key.pem",
        ))  # fmt: skip
        made.ready = lambda address: (told.append(address), listening.set())
        made.run()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert listening.wait(60)
    trusted = ssl.create_default_context(cafile=pems / "cert.pem")
    trusted.check_hostname = False
    try:
        with httpx.Client(verify=trusted, trust_env=False, timeout=60) as client:
            assert client.get(f"{told[0]}/healthz", headers={"host": "localhost"}).status_code == 200
    finally:
        server[0].should_exit = True
        thread.join()


def test_the_log_is_json_whatever_libraries_warn_of() -> None:
    child = subprocess.run(
        [sys.executable, "-c", WARNED], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    (line,) = child.stderr.splitlines()
    assert "ours\n{forged}" in json.loads(line)["event"]


WARNED = """
import io, struct, warnings
from PIL import Image
from spherecv.serve.server import _log_to_stderr
from spherecv.serve.uploads import checked_upload

# Tags that each claim more than there is: Pillow warns of every one.
tags = b"".join(struct.pack("<HHLL", 1000 + number, 7, 60_000, 8) for number in range(500))
stream = io.BytesIO()
exif = b"Exif\\0\\0II*\\0" + struct.pack("<LH", 8, 500) + tags + bytes(4)
Image.new("RGB", (16, 16)).save(stream, "JPEG", exif=exif)
_log_to_stderr()
checked_upload(stream.getvalue(), "img", 1000).decode_image()
warnings.warn("ours\\n{forged}")
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_a_large_block_is_given_back_when_it_is_freed() -> None:
    """glibc keeps up to 32 MB a thread by itself, once a block of that size was freed."""
    code = """
import numpy as np
from pathlib import Path
from spherecv.serve.server import give_memory_back
assert give_memory_back()
def resident():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024
np.ones(20 << 20, np.uint8)
before = resident()
blocks = [np.ones(12 << 20, np.uint8) for _ in range(4)]
last = np.ones(64 << 10, np.uint8)
del blocks
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 6 << 20
