"""Two writers and three readers at one gallery: nobody is refused, and nothing is lost.

Each is a process of its own. A writer enrols people and removes some of them, and finishes what a removal could not
erase; a reader asks, and holds a state for a while as a slow reader does. Usage:

    python benchmarks/reliability/traffic.py [--seconds 60] [--seed 1] [--sealed]

Prints how often each did its work; exit 1 where anybody was refused, or an acknowledged person is missing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from spherecv.errors import SphereCVError
from spherecv.gallery import FaceGallery, Origin

ORIGIN = Origin("numbers", "k0-r0")
WRITERS, READERS, SIZE = 2, 3, 128


def vector(name: str) -> np.ndarray:
    return np.random.default_rng(list(name.encode())).standard_normal(SIZE).astype(np.float32)


def write(path: Path, key: str | None, number: int, until: float, seed: int, answers: Any) -> None:
    """Enrol and remove; tells who must be there at the end, and how long the longest call took."""
    chance = random.Random(seed)
    held: list[str] = []
    calls, slowest = 0, 0.0
    try:
        with FaceGallery.open(path, model=ORIGIN, key=key) as gallery:
            while time.monotonic() < until:
                started = time.monotonic()
                if len(held) > 20 and chance.random() < 0.5:
                    gallery.remove(held.pop(chance.randrange(len(held))))
                    gallery.erase_pending()
                else:
                    names = [f"{number} {calls} {row}" for row in range(4)]
                    gallery.enrol_embeddings(names, np.stack([vector(name) for name in names]), images=names)
                    held += names
                calls += 1
                slowest = max(slowest, time.monotonic() - started)
    except SphereCVError as error:
        answers.put(("writer", calls, slowest, f"{type(error).__name__}: {error}", held))
    else:
        answers.put(("writer", calls, slowest, "", held))


def read(path: Path, key: str | None, until: float, seed: int, answers: Any) -> None:
    """Ask, and look at one state for up to a third of a second."""
    chance = random.Random(seed)
    calls, slowest = 0, 0.0
    try:
        with warnings.catch_warnings(), FaceGallery.open(path, model=ORIGIN, key=key) as gallery:
            warnings.simplefilter("error")
            while time.monotonic() < until:
                started = time.monotonic()
                gallery.identify_embeddings(vector("somebody"), threshold=0.5)
                slowest = max(slowest, time.monotonic() - started)
                with gallery.store.snapshot():
                    gallery.identities()
                    time.sleep(chance.uniform(0.0, 0.3))
                calls += 1
    except (SphereCVError, Warning) as error:
        answers.put(("reader", calls, slowest, f"{type(error).__name__}: {error}", []))
    else:
        answers.put(("reader", calls, slowest, "", []))


def run(folder: Path, seconds: float, seed: int, key: str | None = None) -> list[str]:
    """Let them all work; returns what went wrong."""
    path = folder / "g.db"
    with FaceGallery.open(path, model=ORIGIN, key=key) as gallery:
        gallery.enrol_embeddings(["first"], vector("first")[None])
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    until = time.monotonic() + seconds
    jobs = [context.Process(target=write, args=(path, key, n, until, seed + n, answers)) for n in range(WRITERS)]
    jobs += [context.Process(target=read, args=(path, key, until, seed + 10 + n, answers)) for n in range(READERS)]
    for job in jobs:
        job.start()
    told = [answers.get(timeout=seconds + 120) for _ in jobs]
    for job in jobs:
        job.join()
    wrong = [f"{kind}: {error}" for kind, _, _, error, _ in told if error]
    for kind, calls, slowest, _, _ in sorted(told):
        print(f"{kind}: {calls} rounds, the slowest call {slowest:.2f} s")
    with FaceGallery.open(path, model=ORIGIN, key=key) as gallery:
        expected = {"first"}.union(*(names for *_, names in told))
        found = {person.name for person in gallery.identities()}
        if found != expected:
            wrong.append(f"{len(expected - found)} people are missing, {len(found - expected)} came back")
        if not gallery.erase_pending():
            wrong.append("removed bytes are left")
        wrong += gallery.check().damaged
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sealed", action="store_true", help="an encrypted gallery")
    given = parser.parse_args()
    kind = "encrypted" if given.sealed else "plain"
    print(f"seed {given.seed}, {given.seconds:g} s, {kind}, {WRITERS} writers, {READERS} readers")
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(Path(folder), given.seconds, given.seed, "a passphrase" if given.sealed else None)
    print("\n".join(wrong) or "nobody refused, nobody missing, everything removed is erased")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
