"""Aligning with two processes against one, on photographs of yours.

    python benchmarks/align.py FOLDER [--images 120] [--rounds 3]

Three ways to align the same photos as the SphereFace authors did, interleaved: one process with one thread, one with
two threads, and two processes with one thread each. Starting the processes and opening the nets is part of it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import Results

WAYS = {
    "1 process, 1 thread": ("-j", "1", "--threads", "1"),
    "1 process, 2 threads": ("-j", "1", "--threads", "2"),
    "2 processes": ("-j", "2", "--threads", "1"),
}


def align(photos: Path, out: Path, options: tuple[str, ...]) -> float:
    """Run the command as a user does; seconds."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "spherecv", "align", str(photos), str(out), *options],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos" / "all"
        photos.mkdir(parents=True)
        for path in sorted(settings.folder.rglob("*.jpg"))[: settings.images]:
            shutil.copy(path, photos / path.name)
        align(photos, Path(name) / "warm", WAYS["1 process, 1 thread"])
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(settings.rounds):
            for way in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
                seconds[way].append(align(photos, Path(name) / f"{turn}-{len(way)}", WAYS[way]))
                shutil.rmtree(Path(name) / f"{turn}-{len(way)}")
        results = Results({way: tuple(values) for way, values in seconds.items()})
        print(f"{settings.images} photos, {os.cpu_count()} cores, {settings.rounds} rounds")
        print(results.table(base="1 process, 1 thread", items=settings.images))
        print(f"2 processes over 1 process: {results.ratio('1 process, 1 thread', '2 processes')} as fast")
        print(f"2 processes over 2 threads: {results.ratio('1 process, 2 threads', '2 processes')} as fast")


if __name__ == "__main__":
    main()
