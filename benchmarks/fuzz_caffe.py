"""Mutated Caffe files: only SphereCVError may come of them, in bounded time and memory.

    python benchmarks/fuzz_caffe.py [--count 300000] [--seed 1] [--run]

The files are the nets of the golden values in tests/caffe/references: every layer of deployed nets, every form of file.
A mutation changes one to three tokens of a prototxt, or a few bytes of a caffemodel. With --run, what is still taken is
run too, in ONNX Runtime. Prints counts; any other exception, more than ten seconds, or more than 2 GiB end the run.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import resource
import time
from pathlib import Path

import numpy as np

from spherecv.caffe import load
from spherecv.errors import SphereCVError
from spherecv.runtime import Session

REFERENCES = Path(__file__).resolve().parent.parent / "tests" / "caffe" / "references"
EXTREMES = ["0", "1", "-1", "2", "3", "7", "0.5", "-0.0", "1e-30", "1e38", "inf", "nan", "127", "65536", "2147483647",
            "2147483648", "4294967295", "9223372036854775807", "-9223372036854775808", "true", "false", '""', '"x"', "{",
            "}", "[", "]", ":"]  # fmt: skip
TOKEN = re.compile(r'"[^"]*"|[A-Za-z_]\w*|-?[0-9.][0-9.eE+-]*|\S')
MEMORY = 2 << 30
SECONDS = 10


def cases() -> list[tuple[str, bytes | None]]:
    """Return prototxt and caffemodel of every net."""
    found = []
    for name in ("layers.npz", "files.npz"):
        with np.load(REFERENCES / name) as stored:
            for key in stored.files:
                if key.endswith("|net"):
                    model = key.removesuffix("net") + "caffemodel"
                    weights = stored[model].tobytes() if model in stored.files else None
                    found.append((str(stored[key]), weights))
    return found


def mutated(chance: random.Random, text: str, words: list[str]) -> str:
    """Return a prototxt with some tokens changed."""
    tokens = TOKEN.findall(text)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(tokens))
        change = chance.random()
        if change < 0.8:  # most often a number, so that most texts can still be read
            numbers = [index for index, token in enumerate(tokens) if token[0].isdigit() or token[0] in "-."]
            if numbers:
                small = str(chance.randint(0, 9))
                tokens[chance.choice(numbers)] = small if change < 0.4 else chance.choice(EXTREMES[:20])
        elif change < 0.85:
            tokens[place] = chance.choice(words)
        elif change < 0.9:
            tokens[place] = chance.choice(EXTREMES)
        elif change < 0.95:
            del tokens[place : place + chance.randint(1, 8)]
        else:
            tokens[place:place] = tokens[place : place + chance.randint(1, 30)]
        if not tokens:
            return ""
    return " ".join(tokens)


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Return bytes with some of them changed."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        change = chance.random()
        if change < 0.4 and place < len(changed):
            changed[place] = chance.randrange(256)
        elif change < 0.6:
            del changed[place : place + chance.randint(1, 20)]
        elif change < 0.7:
            del changed[place:]
        else:
            changed[place:place] = chance.randbytes(chance.randint(1, 8))
    return bytes(changed)


def one(text: str, weights: bytes | None, *, run: bool) -> str:
    """Use a net, and return how that ended."""
    try:
        net = load(text.encode(), weights)
        model = net.to_onnx()
    except SphereCVError as error:
        return type(error).__name__
    if not run:
        return "converted"
    try:
        session = Session(model, backend="onnxruntime", threads=1)
        shapes = {name: [side or 3 for side in sides] for name, sides in session.inputs.items()}
        if sum(int(np.prod(shape, dtype=float)) for shape in shapes.values()) > 1e6:
            return "too large to run"
        session.run({name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    except SphereCVError as error:
        return f"run: {type(error).__name__}"
    return "ran"


def main() -> None:
    """Mutate and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", action="store_true")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    chance, nets = random.Random(options.seed), cases()  # noqa: S311 - not for secrets
    words = sorted({token for text, _ in nets for token in TOKEN.findall(text)})
    ends: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    for index in range(options.count):
        text, weights = chance.choice(nets)
        if weights is not None and chance.random() < 0.3:
            weights = damaged(chance, weights)
        else:
            text = mutated(chance, text, words)
        start = time.perf_counter()
        try:
            ends[one(text, weights, run=options.run)] += 1
        except BaseException:
            print(f"mutation {index} of seed {options.seed}:\n{text}\n{weights!r}")
            raise
        slowest = max(slowest, time.perf_counter() - start)
        if slowest > SECONDS:
            raise SystemExit(f"mutation {index} of seed {options.seed} took {slowest:.1f} s:\n{text}")
    print(f"{options.count:,} mutations of {len(nets)} nets, seed {options.seed}; the slowest took {slowest:.2f} s")
    for end, count in ends.most_common():
        print(f"{count:9,}  {end}")


if __name__ == "__main__":
    main()
