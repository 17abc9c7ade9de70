"""Mutated prototxts, caffemodels and HDF5 files, by the hundred thousand: each must end in a net or a SphereCVError.

    SPHERECV_TEST_DATA=... python tests/caffe/fuzz.py --count 300000 --seed 1

Run by hand; the test suite has a short run of its kind (test_robustness.py). Originals are the golden nets: those of
odd files, which lie beside this script, and those of every layer where the environment variable says where the golden
set is. A fault is another exception, more than ten seconds, or more than 2 GiB of memory; work is done in child
processes, so that the end of one is a fault too and not the end of the run. Prints what ended how, and exits with 1
after a fault.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

SECONDS = 10
BYTES = 2 << 30
CHUNK = 2000
FORMS = ("prototxt", "prototxt", "tokens", "caffemodel", "hdf5")
NUMBERS = [0, 1, 2, 3, 127, 128, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -1, -2, -(2**31), -(2**63)]
WORDS = b"layer layers { } < > [ ] : ; , ' \" # - + inf nan 0x 017 1e400 true param blobs type name \\x \xff".split()

Case = tuple[bytes, bytes | None]


class TooLongError(Exception):
    """One mutation took more than its seconds."""


def originals() -> list[Case]:
    """Return the nets to mutate, each with its weights."""
    beside = Path(__file__).parent / "references" / "files.npz"
    cases: dict[str, dict[str, np.ndarray]] = {}
    paths = [beside]
    if "SPHERECV_TEST_DATA" in os.environ:
        golden = Path(os.environ["SPHERECV_TEST_DATA"]) / "caffe-golden"
        index = json.loads((golden / "index.json").read_text(encoding="utf8"))
        paths += sorted({golden / entry["file"] for entry in index if entry["group"] == "layers"})
    for path in paths:
        with np.load(path) as stored:
            for key in stored.files:
                name, _, part = key.partition("|")
                if part in ("net", "caffemodel"):
                    cases.setdefault(f"{path.name} {name}", {})[part] = stored[key]
    nets = []
    for _, case in sorted(cases.items()):
        model = case.get("caffemodel")
        nets.append((str(case["net"]).encode(), None if model is None else model.tobytes()))
    return nets


def as_hdf5(model: bytes) -> bytes:
    """Return a caffemodel as HDF5, in the form that Caffe stores."""
    import h5py

    from spherecv.caffe import read_blob, read_caffemodel

    memory = io.BytesIO()
    message = read_caffemodel(model)
    with h5py.File(memory, "w") as file:
        file.create_group("data")
        for layer in message.layer:
            for index, blob in enumerate(layer.blobs):
                place = f"data/{layer.name}/{index}"
                if place not in file:
                    file[place] = read_blob(blob)
    return memory.getvalue()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return some bytes, changed in one to four places."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randint(0, len(changed))
        end = min(len(changed), place + chance.randint(0, 40))
        kind = chance.randrange(7)
        if kind == 0 and chance.random() < 0.3:
            del changed[place:]
        elif kind == 1:
            del changed[place:end]
        elif kind == 2:
            changed[place:place] = changed[place:end] * chance.randint(1, 5)
        elif kind == 3:
            changed[place:end] = str(chance.choice(NUMBERS)).encode()
        elif kind == 4:
            changed[place:place] = chance.choice(WORDS)
        elif kind == 5:
            changed[place:end] = chance.randbytes(chance.randint(0, 12))
        elif place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def exchanged(data: bytes, others: bytes, chance: random.Random) -> bytes:
    """Return a prototxt in which some words and numbers are those of another, or extremes."""
    words, foreign = data.split(b" "), others.split(b" ")
    numbers = [place for place, word in enumerate(words) if word.lstrip(b"-").isdigit()]
    for _ in range(chance.randint(1, 3)):
        if numbers and chance.random() < 0.7:
            words[chance.choice(numbers)] = str(chance.choice([*range(-2, 7), *NUMBERS])).encode()
        else:
            words[chance.randrange(len(words))] = chance.choice(foreign)
    return b" ".join(words)


def one_of(nets: list[Case], chance: random.Random) -> tuple[str, Case]:
    """Return one mutated net and how it was mutated."""
    from spherecv.errors import CaffeModelError

    form = chance.choice(FORMS)
    prototxt, model = chance.choice(nets)
    if form in ("prototxt", "tokens") or model is None:
        if form == "tokens":
            return form, (exchanged(prototxt, chance.choice(nets)[0], chance), model)
        return "prototxt", (mutated(prototxt, chance), model)
    try:
        stored = as_hdf5(model) if form == "hdf5" else model
    except CaffeModelError:  # a golden model that is damaged on purpose
        stored, form = model, "caffemodel"
    return form, (prototxt, mutated(stored, chance))


def outcome(case: Case) -> str:
    """Return how one net ends: "converted", "refused", or the fault."""
    from spherecv.caffe import load
    from spherecv.errors import SphereCVError

    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        net = load(*case)
        str(net.summary())
        net.to_onnx()
    except SphereCVError as error:
        return "refused" if "\n" not in str(error) and len(str(error)) < 5000 else f"fault: {str(error)[:200]!r}"
    except BaseException as error:
        return f"fault: {type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "converted"


def _ring(*_: object) -> None:
    raise TooLongError


def work(nets: list[Case], seed: int, chunk: int, count: int, pipe: int, faults: Path) -> None:
    """Run one chunk in a child, and write what came of it to the pipe."""
    signal.signal(signal.SIGALRM, _ring)
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    chance = random.Random(f"{seed} {chunk}")
    counts: Counter[str] = Counter()
    for index in range(count):
        form, case = one_of(nets, chance)
        current = faults / f"{seed}-{chunk}-now"
        if form == "hdf5":  # what a crash of the library would leave
            current.write_bytes(case[1] or b"")
        end = outcome(case)
        counts[f"{form} {end}"] += 1
        if end.startswith("fault"):
            (faults / f"{seed}-{chunk}-{index}.prototxt").write_bytes(case[0])
            (faults / f"{seed}-{chunk}-{index}.model").write_bytes(case[1] or b"")
    os.write(pipe, json.dumps(counts).encode())


def main() -> int:
    """Run, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=Path, default=Path("fuzz-faults"), help="where what fails is kept")
    options = parser.parse_args()
    options.faults.mkdir(parents=True, exist_ok=True)
    import onnx  # noqa: F401 - once, and not in every child

    from spherecv.caffe import load  # noqa: F401

    nets, counts, started = originals(), Counter[str](), time.monotonic()
    for chunk in range(-(-options.count // CHUNK)):
        size = min(CHUNK, options.count - chunk * CHUNK)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            work(nets, options.seed, chunk, size, writer, options.faults)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            text = answer.read()
        _, status = os.waitpid(child, 0)
        counts.update(json.loads(text) if text else {f"fault: chunk {chunk} ended with status {status}": 1})
    for end, number in sorted(counts.items()):
        print(f"{number:9,}  {end}")
    print(f"{options.count:,} mutations of {len(nets)} nets, seed {options.seed}, {time.monotonic() - started:.0f} s")
    return int(any("fault" in end for end in counts))


if __name__ == "__main__":
    sys.exit(main())
