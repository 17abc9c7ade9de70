"""Forks writers, kills each at a random instant, and checks what is left; run by test_database.py.

A process of its own: a fork needs one without threads. Prints the number of kills that hit a writer at work.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np

from spherecv.gallery.rows import Entry, ImageKey, NewFace, Origin
from spherecv.gallery.sqlite import SqliteStore

ORIGIN = Origin("m", "k")


def vector(number: int, face: int) -> np.ndarray:
    return np.random.default_rng([number, face]).standard_normal(300).astype(np.float32)


def write(path: Path, first: int, pipe: int, key: str | None) -> None:
    """Add images and remove some, telling after each commit; never returns."""
    store = SqliteStore(path, key=key)
    number = first
    while True:
        faces = tuple(NewFace(vector(number, face)) for face in range(number % 4 + 1))
        store.add([Entry(f"p{number}", ImageKey(f"{number}.jpg", f"{number}"), faces)], ORIGIN)
        os.write(pipe, b"+%d\n" % number)
        if number % 3 == 2 and number > first:
            os.write(pipe, b"?%d\n" % (number - 1))  # from here on the removal may be done or not
            store.remove(f"p{number - 1}")
            os.write(pipe, b"-%d\n" % (number - 1))
        number += 1


def watch(pipe: int, events: int) -> bytes:
    """What a writer tells, until it has told so many things: then it is at work, however slow the machine is."""
    data = b""
    while data.count(b"\n") < events:
        data += os.read(pipe, 4096)
    return data


def told(data: bytes, pipe: int) -> list[tuple[str, int]]:
    while chunk := os.read(pipe, 65536):
        data += chunk
    return [(chr(line[0]), int(line[1:])) for line in data.splitlines()]


def check(path: Path, sure: set[int], unsure: set[int], gone: set[int], key: str | None) -> set[int]:
    store = SqliteStore(path, key=key)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    held = {int(person.name[1:]): person.faces for person in store.identities()}
    missing = sure - set(held)
    assert not missing, f"lost {missing}"
    assert not set(held) & gone, f"came back: {set(held) & gone}"
    extra = set(held) - sure - unsure
    assert len(extra) <= 1, extra  # the one whose commit was not told before the kill
    for number, faces in held.items():
        assert faces == number % 4 + 1, (number, faces)
    table = store.table()
    assert len(table.ids) == sum(held.values())
    store.close()
    if key is None:
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
        for number in gone | (unsure - set(held)):
            for face in range(number % 4 + 1):
                row = vector(number, face).tobytes()
                assert row[:24] not in content, number
                assert row[600:624] not in content, number
    return set(held)


def main(folder: Path, kills: int, key: str | None) -> None:
    chance = random.Random(0)
    hits = 0
    held: set[int] = set()
    path, number = folder / "0" / "g.db", 0
    for kill in range(kills):
        if kill % 25 == 0:  # making the file is killed too
            path, held, gone = folder / str(kill) / "g.db", set(), set()
            path.parent.mkdir()
        number = max(held, default=number) + 1
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(out)
            write(path, number, into, key)
        os.close(into)
        wanted = chance.choice((0, 1, 1, 2, 3, 4, 7))
        data = watch(out, wanted)
        time.sleep(chance.uniform(0, 0.01 if wanted else 0.06))  # without a word: while it makes or opens the file
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        events = told(data, out)
        os.close(out)
        added = {which for sign, which in events if sign == "+"}
        asked = {which for sign, which in events if sign == "?"}
        removed = {which for sign, which in events if sign == "-"}
        hits += bool(events)
        gone = removed if kill % 25 == 0 else gone | removed
        unsure = asked - removed
        held = check(path, (held | added) - removed - unsure, unsure, gone, key)
        gone |= unsure - held
    print(hits)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
