"""The service for half an hour while things go wrong: what it acknowledged is there, and its memory is flat.

Clients enrol, rename, remove, identify, verify and list, at a low rate; beside them, uploads are broken, clients send
slowly or leave half way, another process enrols into the same gallery and is killed again and again, and the disk under
the gallery is full for a while. In the first part the service itself is killed (SIGKILL) and started again. Usage:

    python benchmarks/reliability/soak.py [PHOTOS] [--minutes 30] [--seed 0] [--rate 4]

PHOTOS is a folder of faces; without it, sample portraits (extra `demo`). Fails where an answer is a 5xx (507 while the
disk is full excepted), where somebody acknowledged is missing, somebody removed is back, or anything in the gallery is
damaged at the end, or where the memory of the service grows by more than 5 % between the first and the last quarter of
the time after its last start.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
from disk_full import fill, small_disk

_HEADERS = {"Content-Type": "application/json"}
_MOST = 150
"""People of the clients, and of the neighbour, from which on as many are removed as are enrolled."""
_KILLED_UNTIL, _WARM = 0.4, 0.1
"""Shares of the time: until then the service is killed; so long after its last start its memory is looked at."""
_FULL = ((0.12, 0.16), (0.3, 0.34), (0.5, 0.55), (0.65, 0.7), (0.85, 0.9))
_BACK = 60.0
"""Seconds that a killed service may take to come back."""
_GROWTH, _JUDGED_FROM = 0.05, 5.0
"""Growth of the memory that is too much, in runs of so many minutes."""


class Reply(NamedTuple):
    """Status and content; status 0 where the connection broke."""

    status: int
    content: Any


class Service:
    """`spherecv serve` on a gallery, killed and started again where that is asked for."""

    def __init__(self, gallery: Path, scratch: Path) -> None:
        self._gallery, self._scratch = gallery, scratch
        self.address: tuple[str, int] | None = None
        self.starts = 0
        self.process: subprocess.Popen[str]
        self.start()

    def start(self) -> None:
        """Start it; requests fail until it listens."""
        self.starts += 1
        command = [sys.executable, "-m", "spherecv", "serve", "--port", "0", "--threshold", "0.6", "--workers", "2"]
        log = (self._scratch / f"serve-{self.starts}.log").open("w")
        self.process = subprocess.Popen(
            [*command, "--gallery", str(self._gallery)], stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "listening" in line, (self._scratch / f"serve-{self.starts}.log").read_text()[-500:]
        place = urlsplit(line.split()[2])
        self.address = (str(place.hostname), int(place.port or 0))

    def kill(self) -> None:
        """End it as the system would for want of memory."""
        self.address = None
        self.process.kill()
        self.process.wait()

    def memory(self) -> float:
        """Resident megabytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def ask(self, method: str, path: str, form: dict[str, Any] | None = None) -> Reply:
        """Make a request on a connection of its own."""
        if self.address is None:
            return Reply(0, None)
        connection = http.client.HTTPConnection(*self.address, timeout=90)
        try:
            connection.request(method, path, None if form is None else json.dumps(form), _HEADERS)
            answer = connection.getresponse()
            return Reply(answer.status, json.loads(answer.read() or b"null"))
        except (OSError, http.client.HTTPException, ValueError):
            return Reply(0, None)
        finally:
            connection.close()


class Books:
    """What was acknowledged: who must be there, who must not, and of whom nobody knows since an answer never came."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.present: dict[str, int] = {}
        self.gone: set[str] = set()
        self.unsure: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def fault(self, text: str) -> None:
        """Write down what must not be."""
        with self.lock:
            self.faults.append(text)
        print(f"FAULT: {text}", flush=True)

    def compare(self, held: dict[str, int]) -> None:
        """Compare with what the gallery holds now."""
        missing = [name for name, images in self.present.items() if held.get(name) != images]
        back = [name for name in self.gone if name in held]
        others = [name for name in held if name not in self.present and name not in self.unsure]
        for what, names in (("missing", missing), ("back", back), ("never asked for", others)):
            if names:
                shown = [f"{name} ({held.get(name, 0)} images, {self.present.get(name, 0)} told)" for name in names[:5]]
                self.fault(f"{len(names)} {what}: {', '.join(shown)}")


class Soak:
    """One run.

    Parameters
    ----------
    service : Service
    photos : list of bytes
    seconds : float
    rate : float
        Requests a second.
    seed : int
    """

    def __init__(self, service: Service, photos: list[bytes], seconds: float, rate: float, seed: int) -> None:
        self.service, self.photos, self.seconds, self.rate, self.seed = service, photos, seconds, rate, seed
        self.books = Books()
        self.full = threading.Event()
        self.eased = 0.0  # when the disk last had room again
        self.memory: list[tuple[float, float]] = []
        self.started = self.last_start = time.monotonic()
        self.running = True

    @property
    def share(self) -> float:
        """How much of the time is over."""
        return (time.monotonic() - self.started) / self.seconds

    def status(self, reply: Reply, what: str, since: float) -> bool:
        """Count an answer, and say what it may not be; True for 2xx."""
        with self.books.lock:
            self.books.counts[f"{what} {reply.status or 'cut'}"] += 1
        was_full = self.full.is_set() or since < self.eased
        if reply.status >= 500 and not (reply.status == 507 and was_full):
            self.books.fault(f"{what}: {reply.status} {reply.content}")
        return 200 <= reply.status < 300

    def client(self, number: int, clients: int) -> None:
        """Do one thing after the other, all with people of one's own."""
        chance = random.Random(f"{self.seed} client {number}")
        mine: list[str] = []
        step = 0
        while self.running:
            time.sleep(chance.expovariate(self.rate / clients))
            if self.service.address is None:
                continue
            step += 1
            self._act(chance, mine, f"person {number} {step}", _MOST // clients)

    def _act(self, chance: random.Random, mine: list[str], fresh: str, most: int) -> None:
        photo = base64.b64encode(chance.choice(self.photos)).decode()
        other = base64.b64encode(chance.choice(self.photos)).decode()
        crowded = len(mine) >= most
        kind = chance.choices(
            ("enrol", "remove", "rename", "identify", "verify", "list", "broken"),
            (0 if crowded else 4, 4 if crowded else 1.5, 1, 2, 1, 1, 1.5),
        )[0]
        since = time.monotonic()
        if kind in ("remove", "rename") and not mine:
            return
        if kind == "enrol":
            images = [photo, other][: chance.randint(1, 2)]
            self._begin([fresh])
            reply = self.service.ask("POST", "/v1/gallery", {"identity": fresh, "img": images})
            if self.status(reply, kind, since):
                mine.append(fresh)
                self._settle(present={fresh: len(set(images))})
            elif reply.status:
                self._settle(gone=[fresh])
        elif kind == "remove":
            name = mine.pop(chance.randrange(len(mine)))
            images = self._begin([name])
            reply = self.service.ask("DELETE", f"/v1/gallery/{quote(name)}")
            if self.status(reply, kind, since):
                self._settle(gone=[name])
            elif reply.status:
                mine.append(name)
                self._settle(present={name: images[name]})
        elif kind == "rename":
            name = mine.pop(chance.randrange(len(mine)))
            images = self._begin([name, fresh])
            reply = self.service.ask("PATCH", f"/v1/gallery/{quote(name)}", {"identity": fresh})
            if self.status(reply, kind, since):
                mine.append(fresh)
                self._settle(present={fresh: images[name]}, gone=[name])
            elif reply.status:
                mine.append(name)
                self._settle(present={name: images[name]}, gone=[fresh])
        elif kind == "identify":
            self._asked(self.service.ask("POST", "/v1/identify", {"img": photo, "k": 3}), kind, since)
        elif kind == "verify":
            self._asked(self.service.ask("POST", "/v1/verify", {"img1": photo, "img2": other}), kind, since)
        elif kind == "list":
            self._asked(self.service.ask("GET", "/v1/gallery?limit=1000"), kind, since)
        else:
            self._broken(chance, since)

    def _asked(self, reply: Reply, what: str, since: float) -> None:
        if not self.status(reply, what, since) and reply.status not in (0, 429) and reply.status < 500:
            self.books.fault(f"{what} was refused: {reply.status} {reply.content}")

    def _begin(self, names: list[str]) -> dict[str, int]:
        """From now on nobody can say whether these are there."""
        with self.books.lock:
            self.books.unsure.update(names)
            self.books.gone.difference_update(names)
            return {name: self.books.present.pop(name) for name in names if name in self.books.present}

    def _settle(self, present: dict[str, int] | None = None, gone: list[str] | None = None) -> None:
        with self.books.lock:
            self.books.unsure.difference_update([*(present or {}), *(gone or [])])
            self.books.present.update(present or {})
            self.books.gone.update(gone or [])

    def _broken(self, chance: random.Random, since: float) -> None:
        """An upload that is wrong in one of several ways: refused with a 4xx."""
        photo = chance.choice(self.photos)
        ways: tuple[Callable[[], Any], ...] = (
            lambda: {"img": base64.b64encode(photo[: len(photo) // 2]).decode()},
            lambda: {"img": base64.b64encode(chance.randbytes(2000)).decode()},
            lambda: {"img": "not base64!"},
            lambda: {"img": ""},
            lambda: {"pic": base64.b64encode(photo).decode()},
            lambda: [1, 2, 3],
            lambda: {"img": base64.b64encode(self._flat()).decode()},
        )
        reply = self.service.ask("POST", "/v1/identify", chance.choice(ways)())
        self.status(reply, "broken", since)
        if reply.status and not 400 <= reply.status < 500:
            self.books.fault(f"a broken upload was answered {reply.status}")

    @staticmethod
    def _flat() -> bytes:
        from PIL import Image

        stream = io.BytesIO()
        Image.new("RGB", (64, 64), (9, 9, 9)).save(stream, "PNG")
        return stream.getvalue()

    def slow(self, number: int) -> None:
        """Clients that send a few bytes now and then, and that leave half way."""
        chance = random.Random(f"{self.seed} slow {number}")
        while self.running:
            time.sleep(chance.uniform(0.2, 1.0))
            address = self.service.address
            if address is None:
                continue
            body = json.dumps({"img": base64.b64encode(chance.choice(self.photos)).decode()}).encode()
            head = "POST /v1/embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
            request = f"{head}{len(body)}\r\n\r\n".encode() + body
            with suppress(OSError), socket.create_connection(address, timeout=60) as connection:
                leave = time.monotonic() + chance.choice((0.1, 2, 45))
                place = 0
                while self.running and time.monotonic() < leave and self.service.address == address:
                    connection.sendall(request[place : place + 40])
                    place += 40
                    time.sleep(chance.uniform(0.05, 0.5))
                with self.books.lock:
                    self.books.counts["slow clients"] += 1

    def neighbour(self, gallery: Path) -> None:
        """Another process that enrols into the gallery, killed again and again."""
        chance = random.Random(f"{self.seed} neighbour")
        number = 0
        while self.running:
            number += 1
            command = [sys.executable, __file__, "--neighbour", str(gallery), "--seed", str(number)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                until = time.monotonic() + chance.uniform(2, 12)
                while self.running and time.monotonic() < until and process.poll() is None:
                    time.sleep(0.05)
                process.kill()
                assert process.stdout is not None
                told = [line.rstrip("\n") for line in process.stdout if line.endswith("\n")]
            with self.books.lock:
                self.books.counts["kills of the neighbour"] += 1
            for line in told:
                what, _, name = line.partition(" ")
                if what == "begin":
                    self._begin([name])
                elif what == "done":
                    self._settle(present={name: 1})
                    with self.books.lock:
                        self.books.counts["enrolled by the neighbour"] += 1
                elif what == "gone":
                    self._settle(gone=[name])
                elif what == "full":
                    self._settle(gone=[name])
                    if not self.full.is_set() and time.monotonic() - self.eased > 15:
                        self.books.fault(f"the neighbour found the disk full: {name}")
                else:
                    self.books.fault(f"the neighbour: {line}")

    def faults(self, disk: Path | None, gallery: Path) -> None:
        """Kill the service, and fill the disk; looks at its memory meanwhile."""
        chance = random.Random(f"{self.seed} faults")
        kill = self.share + chance.uniform(0.03, 0.06)
        while self.running:
            time.sleep(min(1.0, self.seconds / 200))
            wanted = any(first <= self.share < last for first, last in _FULL)
            if wanted != self.full.is_set():
                self._fill(disk, gallery, wanted)
            if self.share > kill and self.share < _KILLED_UNTIL:
                self.service.kill()
                with self.books.lock:
                    self.books.counts["kills of the service"] += 1
                self._start_again(disk, gallery)
                kill = self.share + chance.uniform(0.05, 0.12)
            with suppress(OSError):
                self.memory.append((time.monotonic(), self.service.memory()))

    def _start_again(self, disk: Path | None, gallery: Path) -> None:
        """Start it; with a full disk once that has room, since a gallery needs some to be opened."""
        if self.full.is_set():
            self._fill(disk, gallery, False)
        started = time.monotonic()
        self.service.start()
        self.last_start = time.monotonic()
        if self.last_start - started > _BACK:
            self.books.fault(f"the service came back after {self.last_start - started:.0f} s")

    def _fill(self, disk: Path | None, gallery: Path, full: bool) -> None:
        if full:
            self.full.set()
        if disk is not None:
            if full:
                fill(disk)
            else:
                (disk / "ballast").unlink(missing_ok=True)
        else:
            limit = gallery.stat().st_size // 2 if full else resource.RLIM_INFINITY
            resource.prlimit(self.service.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        if not full:
            self.eased = time.monotonic() + 1.0
            self.full.clear()
        with self.books.lock:
            self.books.counts["disk full"] += full

    def run(self, disk: Path | None, gallery: Path, clients: int = 4) -> None:
        """Let it all go on for the time."""
        work = [threading.Thread(target=self.client, args=(number, clients)) for number in range(clients)]
        work += [threading.Thread(target=self.slow, args=(number,)) for number in range(3)]
        work += [threading.Thread(target=self.neighbour, args=(gallery,))]
        work += [threading.Thread(target=self.faults, args=(disk, gallery))]
        for thread in work:
            thread.start()
        told = 0
        while self.share < 1 and self.service.process is not None:
            time.sleep(0.2)
            if self.share * 10 >= told:
                memory = self.memory[-1][1] if self.memory else 0.0
                print(f"{self.share:4.0%}: {memory:.0f} MB, {len(self.books.present)} people", flush=True)
                told += 1
        self.running = False
        for thread in work:
            thread.join()
        if self.full.is_set():
            self._fill(disk, gallery, False)

    def growth(self) -> float:
        """By how much the memory grew between the first and the last quarter after the last start; NaN if too short."""
        since = self.last_start + _WARM * self.seconds
        seen = [memory for moment, memory in self.memory if moment > since]
        quarter = len(seen) // 4
        if quarter < 5:
            return float("nan")
        return statistics.median(seen[-quarter:]) / statistics.median(seen[:quarter]) - 1


def enrol_for_ever(gallery: Path, seed: int) -> None:
    """The neighbour: enrols one embedding after the other, removes its oldest, and tells of each."""
    from spherecv.errors import StorageError
    from spherecv.gallery import FaceGallery
    from spherecv.gallery.sqlite import SqliteStore

    chance = np.random.default_rng(seed)

    def tell(line: str) -> None:
        os.write(1, (line + "\n").encode())

    held: deque[str] = deque()
    leaving: deque[str] = deque()
    number = 0
    while True:
        try:
            store = SqliteStore(gallery, create=False)
            origin, size = store.origin, store.dimension
            store.close()
            if origin is None or size is None:
                time.sleep(0.5)
                continue
            with FaceGallery.open(gallery, model=origin, create=False) as opened:
                mine = deque(name for name in opened.store.names() if name.startswith("neighbour"))
                while True:
                    name, number = f"neighbour {seed} {number}", number + 1
                    tell(f"begin {name}")
                    held.append(name)
                    opened.enrol_embeddings([name], chance.standard_normal((1, size)).astype(np.float32))
                    tell(f"done {held.popleft()}")
                    mine.append(name)
                    while len(mine) > _MOST:
                        leaving.append(mine.popleft())
                        tell(f"begin {leaving[0]}")
                        opened.remove(leaving[0])
                        tell(f"gone {leaving.popleft()}")
                    time.sleep(0.5)
        except StorageError:
            while held:
                tell(f"full {held.popleft()}")
            while leaving:  # not removed: they are there as before
                tell(f"done {leaving.popleft()}")
            time.sleep(0.5)
        except BaseException as error:
            tell(f"{type(error).__name__}: {error}")
            raise


def photos_of(folder: str | None) -> list[bytes]:
    """Photos of faces, made small: it is not detection that is tried here."""
    import cv2

    from spherecv.cli.samples import altered_copy, sample_portrait
    from spherecv.images import find_images, load_image

    if folder is None:
        images = [sample_portrait("grace-hopper"), sample_portrait("eileen-collins")]
        images += [altered_copy(image) for image in images]
    else:
        images = [load_image(path) for path, _ in zip(find_images(folder), range(40), strict=False)]
    small = []
    for image in images:
        scale = min(1.0, 256 / max(image.shape[:2]))
        reduced = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small.append(cv2.imencode(".jpg", reduced)[1].tobytes())
    return small


def held_by(gallery: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Who is in a gallery with how many images, and what is damaged."""
    from spherecv.gallery import FaceGallery
    from spherecv.gallery.sqlite import SqliteStore

    store = SqliteStore(gallery, create=False)
    origin = store.origin
    store.close()
    assert origin is not None
    with FaceGallery.open(gallery, model=origin, create=False) as opened:
        return {person.name: person.images for person in opened.identities()}, opened.check().damaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neighbour", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.neighbour is not None:
        enrol_for_ever(asked.neighbour, asked.seed)
        return
    photos = photos_of(asked.photos)
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(64))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gallery = (disk or scratch) / "people.db"
        how = "64 MB of tmpfs" if disk else "files of limited size"
        print(f"seed {asked.seed}, {asked.minutes:g} min, {asked.rate:g} requests/s, {how}", flush=True)
        service = Service(gallery, scratch)
        try:
            soak = Soak(service, photos, 60 * asked.minutes, asked.rate, asked.seed)
            soak.run(disk, gallery)
        finally:
            service.process.terminate()
            service.process.wait()
        books, growth = soak.books, soak.growth()
        held, damaged = held_by(gallery)
        books.compare(held)
        for what in damaged:
            books.fault(f"damaged: {what}")
        left = [path.name for path in gallery.parent.iterdir() if path.name != gallery.name and path.is_file()]
        if disk is not None and left:
            books.fault(f"left behind: {left}")
        if books.faults:
            logs = "".join(log.read_text() for log in sorted(scratch.glob("serve-*.log")))
            said = [line for line in logs.splitlines() if '"status": 2' not in line and '"status": 4' not in line]
            print("\n".join(said[-40:]))
    print(json.dumps(dict(sorted(books.counts.items())), indent=1))
    if growth > _GROWTH and asked.minutes >= _JUDGED_FROM:
        books.fault(f"memory grew by {growth:.1%}")
    print(f"memory after the last start: {growth:+.1%}; {len(books.present)} acknowledged people, "
          f"{len(books.gone)} removed, {len(books.unsure)} unanswered; {len(books.faults)} faults")
    sys.exit(bool(books.faults))


if __name__ == "__main__":
    main()
