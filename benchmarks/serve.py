"""What does HTTP cost? The service against the bare pipeline, its latency at half load, a long run with bad uploads.

    python benchmarks/serve.py throughput|latency|overload|soak|keys PHOTOS --prototxt NET.prototxt
        --caffemodel NET.caffemodel
        --recipe NAME

PHOTOS is a folder or a list; its first 96 photos are sent to POST /v1/embed as files, over and over, by a client that
does next to nothing else. The service runs in a process of its own, as `spherecv serve` runs it.

throughput  rounds of the same photos through `FacePipeline.run` in this process and through the service with 16
            connections, in turn; both may use all cores
latency     Poisson arrivals at half of the rate just measured; seconds from the moment a request was due
overload    Poisson arrivals at twice that rate: what is refused with 429, and how long the others wait
soak        10,000 requests, 1 % of them broken in one of several ways: statuses, and the service's resident memory
keys        seconds that looking up a key takes, right or wrong, in a list of 100
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

from measure import interleave, machine_line

from spherecv.serve import ServiceSettings

_BOUNDARY = b"a-boundary-of-the-benchmark"
_CONNECTIONS = 16


def request_of(data: bytes, *, boundary: bytes = _BOUNDARY) -> bytes:
    """A whole HTTP request with one file."""
    head = b'--%s\r\nContent-Disposition: form-data; name="img"; filename="x"\r\n\r\n' % _BOUNDARY
    body = head + data + b"\r\n--%s--\r\n" % _BOUNDARY
    lines = (
        b"POST /v1/embed HTTP/1.1", b"Host: localhost", b"Content-Type: multipart/form-data; boundary=" + boundary,
        b"Content-Length: %d" % len(body), b"", b"",
    )  # fmt: skip
    return b"\r\n".join(lines) + body


def broken(data: bytes, number: int) -> bytes:
    """A request that is wrong in one of several ways."""
    ways = (
        lambda: request_of(b""),
        lambda: request_of(data[: len(data) // 2]),
        lambda: request_of(data[:25]),
        lambda: request_of(b"this is no picture"),
        lambda: request_of(data, boundary=b"another"),
        lambda: request_of(data).replace(b'name="img"', b'name="pic"', 1),  # of the same length
        lambda: request_of(data).replace(b"multipart/form-data", b"application/json---", 1),
        lambda: request_of(random.Random(number).randbytes(2000)),
    )
    return ways[number % len(ways)]()


class Connection:
    """One kept-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """Send a request; returns the status."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Service:
    """`spherecv serve` in a process of its own."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "spherecv", "serve", "--port", "0", "--threshold", "0.6", *model(arguments)]
        if arguments.workers:
            command += ["--workers", str(arguments.workers)]
        self.process = subprocess.Popen(
            command, cwd=Path(__file__).resolve().parent.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        address = urlsplit(self.process.stdout.readline().split()[2])
        self.place = (address.hostname, address.port)

    def memory(self) -> float:
        """Resident megabytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    async def flood(self, requests: list[bytes], tick=lambda _done: None) -> Counter[int]:
        """Send requests as fast as they are answered; counts statuses."""
        statuses: Counter[int] = Counter()
        waiting = iter(requests)

        async def ask() -> None:
            connection = Connection(*self.place)
            for request in waiting:
                statuses[await connection.ask(request)] += 1
                tick(statuses.total())
            connection.close()

        await asyncio.gather(*(ask() for _ in range(_CONNECTIONS)))
        return statuses

    async def drizzle(self, requests: Iterable[bytes], rate: float) -> dict[int, list[float]]:
        """Send requests at random times at a rate; by status, the seconds from when each was due to its answer."""
        idle: list[Connection] = []
        chance = random.Random(0)
        seconds: dict[int, list[float]] = defaultdict(list)

        async def ask(request: bytes, due: float) -> None:
            connection = idle.pop() if idle else Connection(*self.place)
            try:
                status = await connection.ask(request)
            except (asyncio.IncompleteReadError, ConnectionError):  # the service closed it for having been idle
                connection = Connection(*self.place)
                status = await connection.ask(request)
            seconds[status].append(time.perf_counter() - due)
            idle.append(connection)

        due = time.perf_counter()
        tasks = []
        for request in requests:
            due += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(request, due)))
        await asyncio.gather(*tasks)
        return seconds

    def close(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()


def model(arguments: argparse.Namespace) -> list[str]:
    files = ("--prototxt", arguments.prototxt, "--caffemodel", arguments.caffemodel, "--recipe", arguments.recipe)
    return [] if arguments.prototxt is None else [str(part) for part in files]


def photos_of(arguments: argparse.Namespace) -> list[bytes]:
    from spherecv.images import find_images

    return [Path(path).read_bytes() for path in islice(find_images(arguments.photos), arguments.count)]


def throughput(arguments: argparse.Namespace) -> float:
    from spherecv.embed import FaceEmbedder
    from spherecv.pipeline import FacePipeline
    from spherecv.zoo import DEFAULT_MODEL, ModelSource

    data = photos_of(arguments)
    source = (
        ModelSource.from_caffe(arguments.prototxt, arguments.caffemodel, recipe=arguments.recipe)
        if arguments.prototxt
        else DEFAULT_MODEL
    )
    pipeline = FacePipeline(FaceEmbedder(source))
    requests = [request_of(photo) for photo in data]
    with contextlib.closing(Service(arguments)) as service:
        results = interleave(
            {
                "bare pipeline": lambda: sum(1 for _ in pipeline.run(data, errors="return")),
                "service": lambda: asyncio.run(service.flood(requests)),
            },
            repeats=arguments.rounds,
        )
    print(results.table(base="service", items=len(data), unit="photos"))
    print(f"\nthroughput of the service over the bare pipeline's: {results.ratio('bare pipeline', 'service')}")
    return len(data) / results.median("service")


def saturation(service: Service, requests: list[bytes]) -> float:
    """Requests a second that the service can carry."""
    asyncio.run(service.flood(requests))
    started = time.perf_counter()
    asyncio.run(service.flood(requests * 3))
    return 3 * len(requests) / (time.perf_counter() - started)


def overload(arguments: argparse.Namespace) -> None:
    requests = [request_of(photo) for photo in photos_of(arguments)]
    with contextlib.closing(Service(arguments)) as service:
        rate = saturation(service, requests)
        before = service.memory()
        count = int(2 * rate * arguments.seconds)
        answers = asyncio.run(service.drizzle(islice(cycle(requests), count), 2 * rate))
        after = service.memory()
    print(f"saturation {rate:.1f} requests/s; {count:,} requests at {2 * rate:.1f}/s for {arguments.seconds:g} s; "
          f"memory {before:.0f} to {after:.0f} MB; time limit {ServiceSettings.time_limit:g} s, queue "
          f"{ServiceSettings.queue}: at that rate {ServiceSettings.queue / rate:.1f} s of waiting")
    for status, seconds in sorted(answers.items()):
        percent = statistics.quantiles(seconds, n=100)
        print(f"{status}: {len(seconds):,} answers ({len(seconds) / count:.1%}), median {percent[49]:.3f} s, p99 "
              f"{percent[98]:.3f} s, slowest {max(seconds):.3f} s")


def latency(arguments: argparse.Namespace) -> None:
    requests = [request_of(photo) for photo in photos_of(arguments)]
    with contextlib.closing(Service(arguments)) as service:
        rate = saturation(service, requests)
        count = int(rate / 2 * arguments.seconds)
        answers = asyncio.run(service.drizzle(islice(cycle(requests), count), rate / 2))
    assert max(answers) < 500, "the service failed"
    seconds = [one for each in answers.values() for one in each]
    percent = statistics.quantiles(seconds, n=100)
    median, late = statistics.median(seconds), percent[98]
    print(f"saturation {rate:.1f} requests/s; {count} requests at {rate / 2:.1f}/s: median {median * 1e3:.1f} ms, "
          f"p90 {percent[89] * 1e3:.1f} ms, p99 {late * 1e3:.1f} ms, p99 / median {late / median:.2f}")


def soak(arguments: argparse.Namespace) -> None:
    data = photos_of(arguments)
    requests = [
        broken(photo, number // 100) if number % 100 == 50 else request_of(photo)
        for number, photo in enumerate(islice(cycle(data), arguments.requests))
    ]
    with contextlib.closing(Service(arguments)) as service:
        def tick(done: int) -> None:
            if done % (arguments.requests // 10) == 0:
                print(f"{done:6,} requests: {service.memory():.0f} MB resident", flush=True)

        started = time.perf_counter()
        statuses = asyncio.run(service.flood(requests, tick))
    print(f"statuses: {dict(sorted(statuses.items()))}, {time.perf_counter() - started:.0f} s")


def keys(arguments: argparse.Namespace) -> None:
    from spherecv.serve.keys import ApiKeys, new_key

    made = [new_key(f"k{number}") for number in range(100)]
    known = ApiKeys({f"k{number}": line.rpartition(":")[2] for number, (_, line) in enumerate(made)})
    first, last = made[0][0], made[-1][0]
    contenders = {"the first key": first, "the last key": last, "wrong": "x" * len(first), "one off": first[:-1] + "*"}
    results = interleave(
        {name: (lambda key=key: known.owner(key)) for name, key in contenders.items()}, repeats=arguments.rounds * 20
    )
    print(results.table(base="the first key"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "latency", "overload", "soak", "keys"))
    parser.add_argument("photos", nargs="?", default=".")
    parser.add_argument("--prototxt")
    parser.add_argument("--caffemodel")
    parser.add_argument("--recipe")
    parser.add_argument("--count", type=int, default=96, help="photos")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=60.0, help="of latency and overload")
    parser.add_argument("--requests", type=int, default=10_000, help="of soak")
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    print(machine_line("fastapi", "uvicorn"), flush=True)
    globals()[arguments.what](arguments)


if __name__ == "__main__":
    main()
