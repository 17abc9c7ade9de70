"""Is anything lost when a process is killed? Writers killed at random instants, over everything that writes.

    python benchmarks/reliability/kills.py [--kills 1000] [--seed 0] [--only plain|sealed|files]

plain, sealed  a gallery in which people are enrolled, replaced, renamed, merged and removed, an index is built, a
               classifier kept, exports are written and read; the second one encrypted
files          embeddings, features, tables, reports, calibrations, pictures, videos, snapshots, replaced over and over

A writer tells what it begins and what is done; it is killed by SIGKILL at an instant drawn with the seed. Another
process then opens what is left. Lost: something that was told as done is not there. Corrupt: something between before
and after, a file that cannot be read, a check of SQLite or of checksums that fails. Leftover: a file that nobody asked
for, or the bytes of somebody removed, after the gallery was opened and the file written or read once more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from spherecv.gallery import FaceGallery, Origin

ORIGIN = Origin("numbers", "k0-r0")
SIZE = 64
RESTART = 50
"""Kills after which a scenario begins in a new folder: the making of its files is killed too."""
State = dict[str, list[str]]


def vector(image: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)


def after(state: State, operation: list[Any]) -> State:
    """What a gallery holds after an operation."""
    kind, *names = operation
    new = {name: list(images) for name, images in state.items()}
    if kind in ("add", "replace"):
        name, images = names
        new[name] = sorted(set(images) | set(new.get(name, []) if kind == "add" else []))
    elif kind == "remove":
        del new[names[0]]
    elif kind == "rename":
        new[names[1]] = new.pop(names[0])
    elif kind == "merge":
        new[names[1]] = sorted(set(new.pop(names[0])) | set(new[names[1]]))
    elif kind == "import":
        new.update(names[0])
    return new


def draw(state: State, chance: random.Random, step: int) -> list[Any]:
    """The next operation on a gallery."""
    names = sorted(state)
    kind = chance.choices(
        ("add", "replace", "remove", "rename", "merge", "export", "import", "index", "classifier"),
        (8, 2, 3, 2, 1, 1, 1, 0.5, 0.5),
    )[0]
    fresh = f"person-{step}-{chance.randrange(10**6)}"
    images = [f"{fresh}-{number}.jpg" for number in range(chance.randint(1, 4))]
    if kind in ("export", "classifier", "index"):
        return [kind]
    if kind == "import":
        return [kind, {fresh: images}]
    if kind == "add" or len(names) < 8:
        return ["add", fresh, images]
    first, second = chance.sample(names, 2)
    return {
        "replace": ["replace", first, images], "remove": ["remove", first], "rename": ["rename", first, fresh],
        "merge": ["merge", first, second],
    }[kind]  # fmt: skip


def perform(gallery: FaceGallery, folder: Path, operation: list[Any], state: State) -> None:
    kind, *names = operation
    if kind in ("add", "replace"):
        name, images = names
        rows = [vector(image) for image in images]
        gallery.enrol_embeddings([name] * len(images), rows, images=images, if_exists=kind)
    elif kind == "remove":
        gallery.remove(names[0])
    elif kind == "rename":
        gallery.rename(*names)
    elif kind == "merge":
        gallery.merge([names[0]], names[1])
    elif kind == "export":
        gallery.export(folder / "out.npz", decrypt=True)
    elif kind == "index" and sum(map(len, state.values())) >= 1000:
        gallery.build_index("ivf")
    elif kind == "classifier" and sum(len(images) > 1 for images in state.values()) >= 3 and len(state) < 40:
        with suppress(Exception):
            gallery.fit_classifier()
    elif kind == "import":
        ((name, images),) = names[0].items()
        elsewhere = folder.parent / f"{folder.name}-{name}.db"
        with FaceGallery.open(elsewhere, model=ORIGIN) as other:
            other.enrol_embeddings([name] * len(images), [vector(image) for image in images], images=images)
            other.export(elsewhere.with_suffix(".npz"))
        gallery.import_file(elsewhere.with_suffix(".npz"))


def held(folder: Path, key: str | None) -> State:
    """Open a gallery after a kill, check all that it says, and return who is in it."""
    place = folder / "g.db"
    with FaceGallery.open(place, model=ORIGIN, key=key, damaged="raise") as gallery:
        table = gallery.store.table("known")
        state: State = {}
        for image in gallery.store.images():
            state.setdefault(str(image.identity), []).append(image.key.path)
        rows: dict[str, set[bytes]] = {}
        for owner, row in zip(table.owners, table.vectors, strict=True):
            rows.setdefault(table.names[int(owner)], set()).add(np.asarray(row, "<f4").tobytes())
        for name, images in state.items():
            assert rows[name] == {vector(image).tobytes() for image in images}, f"embeddings of {name} are others"
        some = sorted(state)[:5]
        if some:
            probes = np.array([vector(state[name][0]) for name in some])
            found = gallery.identify_embeddings(probes, threshold=1e-3)
            assert [match.identity for match in found] == some, "identify misses people"
        assert not gallery.check().damaged, gallery.check().damaged
    connection = sqlite3.connect(place)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    export = folder / "out.npz"
    if export.exists():
        with tempfile.TemporaryDirectory() as aside, FaceGallery.open(Path(aside) / "g.db", model=ORIGIN) as other:
            other.import_file(export)  # it is whole, and what a killed export left beside it goes
    return {name: sorted(images) for name, images in state.items()}


def left(folder: Path, gone: list[str], key: str | None) -> list[str]:
    """Files that nobody asked for, and names and embeddings of people removed, in any file of a gallery."""
    found = [path.name for path in folder.iterdir() if path.name not in ("g.db", "g.db.index", "out.npz")]
    for path in folder.iterdir():
        if path.name == "out.npz":  # what was exported before a removal is the exporter's
            continue
        content = path.read_bytes()
        if key is not None and b"person-" in content:
            found.append(f"a name in {path.name}")
        if key is None:
            found += [f"{image} in {path.name}" for image in gone if vector(image).tobytes()[:24] in content]
    return found


def in_child(work: Callable[[], Any]) -> Any:
    """The answer of a function, run in a process of its own: the one that forks must stay without threads."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            answer = {"answer": work()}
        except BaseException as fault:
            answer = {"fault": f"{type(fault).__name__}: {fault}"}
        with os.fdopen(into, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"fault": "the checking process died"}')
    if "fault" in answer:
        raise AssertionError(answer["fault"])
    return answer["answer"]


def killed(work: Callable[[Callable[[Any], None]], None], chance: random.Random) -> list[Any]:
    """Run a writer, kill it at a random instant, and return what it told."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - of a process that is killed

        def tell(event: Any) -> None:
            os.write(into, json.dumps(event).encode() + b"\n")

        try:
            work(tell)
        except BaseException as fault:
            tell(["fault", f"{type(fault).__name__}: {fault}"])
        time.sleep(100)
    os.close(into)
    wanted = chance.choice((0, 1, 2, 3, 5, 8, 12))
    data = b""
    while data.count(b"\n") < wanted:
        chunk = os.read(out, 65536)
        if not chunk:
            break
        data += chunk
    time.sleep(chance.uniform(0, 0.02 if wanted else 0.08))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while chunk := os.read(out, 65536):
        data += chunk
    os.close(out)
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def kill_gallery(root: Path, kills: int, chance: random.Random, key: str | None) -> Iterator[tuple[str, str]]:
    """Yield what went wrong, each by its kind, and ("hit", ...) for each kill."""
    state: State = {}
    gone: list[str] = []
    folder = root / "0"
    for kill in range(kills):
        if kill % RESTART == 0:
            folder, state, gone = root / str(kill), {}, []
            folder.mkdir()
        seed = chance.randrange(1 << 30)
        big = kill % RESTART == 0 and chance.random() < 0.3

        def write(tell: Callable[[Any], None], folder=folder, seed=seed, state=state, kill=kill, big=big) -> None:
            mine, now = random.Random(seed), state
            with FaceGallery.open(folder / "g.db", model=ORIGIN, key=key) as gallery:
                if big:
                    operation = ["add", "person-crowd", [f"crowd-{kill}-{number}.jpg" for number in range(1100)]]
                    tell(["begin", operation])
                    perform(gallery, folder, operation, now)
                    tell(["done", operation])
                    now = after(now, operation)
                step = 0
                while True:
                    operation = draw(now, mine, kill * 1000 + step)
                    tell(["begin", operation])
                    perform(gallery, folder, operation, now)
                    tell(["done", operation])
                    now = after(now, operation)
                    step += 1

        events = killed(write, chance)
        yield from (("raw", event[1]) for event in events if event[0] == "fault")
        begun: list[Any] | None = None
        before = state
        for event, operation in events:
            if event == "begin":
                begun = operation
            elif event == "done":
                state, begun = after(state, operation), None
        yield "hit", "idle" if begun is None else begun[0]
        allowed = [state] if begun is None else [state, after(state, begun)]
        try:
            found = in_child(lambda folder=folder: held(folder, key))
        except AssertionError as fault:
            yield "corrupt", f"kill {kill} in {begun}: {fault}"
            return
        if found not in allowed:
            missing = [name for name in state if name not in found]
            yield ("lost" if missing else "corrupt"), f"kill {kill} in {begun}: {missing}"
        known = {image for one in (before, *allowed) for images in one.values() for image in images}
        for operation in (event[1] for event in events if event[0] in ("begin", "done")):
            if operation[0] in ("add", "replace"):
                known |= set(operation[2])
        state = found
        alive = {image for images in state.values() for image in images}
        gone = [*gone, *(known - alive)][-300:]
        yield from (("leftover", f"kill {kill} in {begun}: {what}") for what in left(folder, gone, key))


def kill_files(root: Path, kills: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Files that are replaced over and over: whole, of the version told last or the next, and alone in their folder."""
    from files_written import WRITERS, version_of, write

    versions: dict[str, int] = {}
    folder = root / "0"
    for kill in range(kills):
        if kill % RESTART == 0:
            folder, versions = root / f"f{kill}", {}
            folder.mkdir()
        seed = chance.randrange(1 << 30)

        def work(tell: Callable[[Any], None], folder=folder, seed=seed, versions=versions) -> None:
            mine, now = random.Random(seed), dict(versions)
            while True:
                name = mine.choice(sorted(WRITERS))
                tell(["begin", name])
                write(folder, name, now.get(name, 0) + 1)
                now[name] = now.get(name, 0) + 1
                tell(["done", name])

        events = killed(work, chance)
        yield from (("raw", event[1]) for event in events if event[0] == "fault")
        begun = None
        for event, name in events:
            begun = name if event == "begin" else None
            if event == "done":
                versions[name] = versions.get(name, 0) + 1
        yield "hit", begun or "idle"

        def look(folder=folder, versions=versions, begun=begun) -> dict[str, Any]:
            found = {name: version_of(folder, name) for name in versions}
            if begun is not None:  # the next that writes there
                found[begun] = version_of(folder, begun)
                write(folder, begun, max(found[begun], versions.get(begun, 0)) + 1)
            left = [path for path in folder.rglob("*") if {".part", ".old"} & {*path.suffixes} or path.name[0] == "."]
            return {"found": found, "hidden": [str(path.relative_to(folder)) for path in left]}

        try:
            seen = in_child(look)
        except AssertionError as fault:
            yield "corrupt", f"kill {kill} in {begun}: {fault}"
            return
        for name, version in seen["found"].items():
            told = versions.get(name, 0)
            if version != told and not (name == begun and version == told + 1):
                yield "lost", f"kill {kill} in {begun}: {name} is of version {version}, not {told}"
        if begun is not None:
            versions[begun] = max(seen["found"][begun], versions.get(begun, 0)) + 1
        yield from (("leftover", f"kill {kill} in {begun}: {what}") for what in seen["hidden"])


def run(kills: int, seed: int, only: str | None, show: Callable[[str], None] = print) -> Counter[str]:
    """Kill, and count what went wrong."""
    warnings.simplefilter("ignore")
    chance, counts = random.Random(seed), Counter[str]()
    kinds = [only] if only else ["plain", "sealed", "files"]
    hits: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            root = Path(folder, kind)
            root.mkdir()
            share = kills // len(kinds)
            if kind == "files":
                results = kill_files(root, share, chance)
            else:
                results = kill_gallery(root, share, chance, "a passphrase" if kind == "sealed" else None)
            for result, what in results:
                counts[result] += 1
                if result == "hit":
                    hits[what] += 1
                else:
                    show(f"{kind}: {result}: {what}")
    show(f"seed {seed}: {counts['hit']} kills, at work on: {dict(hits.most_common())}")
    show(", ".join(f"{counts[kind]} {kind}" for kind in ("lost", "corrupt", "leftover", "raw")))
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("plain", "sealed", "files"))
    asked = parser.parse_args()
    counted = run(asked.kills, asked.seed, asked.only)
    sys.exit(1 if any(counted[kind] for kind in ("lost", "corrupt", "leftover", "raw")) else 0)
