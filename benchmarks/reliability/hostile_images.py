"""Image files that nobody should have made, through `load_image`, the command line and the service.

    python benchmarks/reliability/hostile_images.py [--files 10000] [--seed 13] [--commands 60] [--requests 1000]

Every format that Pillow can write is written, then cut, mixed with another, mislabelled, overwritten in places,
repeated or given a header that claims billions of pixels. All files go through `load_image`; others through
`spherecv detect` and `verify`, and through the service's `/v1/detect`. A fault is what is no `SphereCVError`, no exit
code of 0 to 2, or no answer below 500, what takes too long, and too much memory; exits 1 where there is one.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_MB = 600
LIMIT_S = 30.0
_WITH_EXIF = ("JPEG", "PNG", "WEBP", "AVIF")
_LARGE = (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\x00\x01\x00\x00", b"\xff\xff")
SUFFIXES = (".jpg", ".png", ".heic", ".tif", ".webp", ".gif", ".txt", ".mp4", "", ".avif", ".bmp", ".jp2", ".ico")


def seeds() -> dict[str, bytes]:
    """A small image in every format that Pillow writes, and in several modes."""
    from PIL import Image, features

    Image.init()
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (37, 53, 3), dtype=np.uint8)
    pixels[8:30, 10:40] = 128
    rgb = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    written = {}
    for name in sorted(Image.SAVE.keys() - {"PDF"}):  # which says when it was written
        for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16", "F"):
            target = io.BytesIO()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    deep = mode == "I;16"
                    picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if deep else rgb.convert(mode)
                    picture.save(target, format=name, **({"exif": exif.tobytes()} if name in _WITH_EXIF else {}))
            except Exception:
                continue
            written[f"{name}/{mode}"] = target.getvalue()
    frames = [Image.fromarray(np.roll(pixels, shift, axis=1)) for shift in range(4)]
    for name in ("GIF", "TIFF", "WEBP", "PNG"):
        target = io.BytesIO()
        frames[0].save(target, format=name, save_all=True, append_images=frames[1:])
        written[f"{name}/frames"] = target.getvalue()
    print(f"{len(written)} files of {len({key.split('/')[0] for key in written})} formats, {features.version('pil')}")
    return written


def mutated(generator: np.random.Generator, files: list[bytes]) -> bytes:
    """One file of another, or of two."""
    data = bytearray(files[generator.integers(len(files))])
    for _ in range(int(generator.integers(1, 4))):
        size = len(data)
        if not size:
            break
        kind = int(generator.integers(9))
        place = int(generator.integers(size))
        if kind == 0:  # cut off
            del data[place:]
        elif kind == 1:  # the head of one, the tail of another
            other = files[generator.integers(len(files))]
            data[place:] = other[int(generator.integers(len(other))) :]
        elif kind == 2:  # the beginning of another format
            other = files[generator.integers(len(files))]
            count = int(generator.integers(1, 33))
            data[:count] = other[:count]
        elif kind == 3:  # single bytes
            for spot in generator.integers(0, size, int(generator.integers(1, 20))):
                data[spot] = int(generator.integers(256))
        elif kind == 4:  # numbers of the header, as large as they get
            spot = int(generator.integers(min(size, 64)))
            value = _LARGE[generator.integers(len(_LARGE))]
            data[spot : spot + len(value)] = value
        elif kind == 5:  # a piece repeated
            piece = data[place : place + int(generator.integers(1, 200))]
            data[place:place] = piece * int(generator.integers(1, 50))
        elif kind == 6:  # a piece gone
            del data[place : place + int(generator.integers(1, 100))]
        elif kind == 7:  # zeros
            count = int(generator.integers(1, 200))
            data[place : place + count] = bytes(min(count, size - place))
        else:  # noise behind
            data += generator.integers(0, 256, int(generator.integers(1, 500)), dtype=np.uint8).tobytes()
    return bytes(data)


def generated(seed: int, count: int) -> Any:
    """The files, one after the other, the same for the same seed: bytes and a suffix."""
    generator = np.random.default_rng(seed)
    files = [data for _, data in sorted(seeds().items())]
    for _ in range(count):
        yield mutated(generator, files), SUFFIXES[generator.integers(len(SUFFIXES))]


def through_load_image(seed: int, count: int, limit_mb: float = LIMIT_MB) -> int:
    """All files, by bytes and by path in turn; run in a process of its own for its memory."""
    from spherecv import load_image
    from spherecv.errors import SphereCVError

    said: Counter[str] = Counter()
    faults, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (data, suffix) in enumerate(generated(seed, count)):
            path = Path(folder) / f"file{suffix}"
            path.write_bytes(data)
            start = time.perf_counter()
            try:
                image = load_image(path if number % 2 else data)
                said["an image"] += 1
                assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
            except SphereCVError as error:
                said[type(error).__name__] += 1
                if len(str(error)) > 1500:
                    faults += 1
                    print(f"FAULT file {number}: a message of {len(str(error))} characters")
            except BaseException as error:
                faults += 1
                print(f"FAULT file {number} ({suffix}): {type(error).__name__}: {str(error)[:200]}")
            taken = time.perf_counter() - start
            slowest = max(slowest, taken)
            if taken > LIMIT_S:
                faults += 1
                print(f"FAULT file {number}: {taken:.1f} s")
            path.unlink()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"load_image: {count:,} files, {dict(said)}, slowest {slowest:.2f} s, memory {memory:.0f} MB")
    return faults + (memory > limit_mb)


def through_commands(seed: int, count: int, at_once: int = 50) -> int:
    """Folders of files through `spherecv detect --json` and single ones through `verify`."""
    faults, slowest = 0, 0.0
    said: Counter[str] = Counter()
    files = iter(generated(seed + 1, count * at_once))
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder:
            for place in range(at_once):
                data, suffix = next(files)
                (Path(folder) / f"{place}{suffix or '.jpg'}").write_bytes(data)
            paths = sorted(Path(folder).iterdir())
            command = ["detect", folder, "--json"] if number % 2 else ["verify", str(paths[0]), str(paths[1]), "--json"]
            start = time.perf_counter()
            try:
                done = subprocess.run(
                    [sys.executable, "-m", "spherecv", *command],
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                faults += 1
                print(f"FAULT command {number} {command[0]}: no answer in 120 s")
                continue
            slowest = max(slowest, time.perf_counter() - start)
            said[f"{command[0]} {done.returncode}"] += 1
            if done.returncode not in (0, 1, 2) or "Traceback" in done.stderr:
                faults += 1
                print(f"FAULT command {number} {command[0]}: exit code {done.returncode}: {done.stderr[-300:]}")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"commands: {dict(said)}, {at_once} files a folder, slowest {slowest:.1f} s, memory {memory:.0f} MB")
    return faults + (memory > LIMIT_MB)


def through_service(seed: int, count: int) -> int:
    """Requests to a service of its own, as base64 and as a form."""
    import socket
    import urllib.error
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "spherecv", "serve", "--port", str(port), "--workers", "1"]
        service = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(port, service)
            faults, slowest = 0, 0.0
            said: Counter[int] = Counter()
            for number, (data, suffix) in enumerate(generated(seed + 2, count)):
                request = _request(port, data, suffix, form=bool(number % 2))
                start = time.perf_counter()
                try:
                    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                        status = answer.status
                except urllib.error.HTTPError as error:
                    status = error.code
                    error.close()
                except OSError as error:
                    status = 0
                    print(f"request {number}: {error}")
                slowest = max(slowest, time.perf_counter() - start)
                said[status] += 1
                if not 200 <= status < 500:
                    faults += 1
                    print(f"FAULT request {number} ({suffix}, {len(data)} bytes): {status}")
            memory = _peak(service.pid)
        finally:
            service.terminate()
            service.wait(30)
    print(f"service: {count:,} requests, {dict(said)}, slowest {slowest:.2f} s, memory {memory:.0f} MB")
    return faults + (memory > LIMIT_MB)


def _request(port: int, data: bytes, suffix: str, *, form: bool) -> Any:
    import urllib.request

    address = f"http://127.0.0.1:{port}/v1/detect"
    if not form:
        body = json.dumps({"img": base64.b64encode(data).decode()}).encode()
        return urllib.request.Request(address, body, {"Content-Type": "application/json"})
    head = f'--edge\r\nContent-Disposition: form-data; name="img"; filename="a{suffix}"\r\n\r\n'.encode()
    body = head + data + b"\r\n--edge--\r\n"
    return urllib.request.Request(address, body, {"Content-Type": "multipart/form-data; boundary=edge"})


def _wait(port: int, service: subprocess.Popen[bytes]) -> None:
    import socket

    end = time.monotonic() + 60
    while time.monotonic() < end and service.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the service does not start")


def _peak(pid: int) -> float:
    """Most memory that a process and its children held, in MB; Linux only."""
    peak = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if str(pid) in (fields["Pid"].strip(), fields["PPid"].strip()) and "VmHWM" in fields:
            peak = max(peak, int(fields["VmHWM"].split()[0]) / 1024)
    return peak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--commands", type=int, default=60)
    parser.add_argument("--requests", type=int, default=1000)
    given = parser.parse_args()
    os.environ["SPHERECV_OFFLINE"] = "1"
    faults = through_load_image(given.seed, given.files) if given.files else 0
    faults += through_commands(given.seed, given.commands) if given.commands else 0
    faults += through_service(given.seed, given.requests) if given.requests else 0
    print(f"{faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
