"""Mutated prototxts through our text parser and through protobuf's for C++, which Caffe has: both must say the same.

    python tests/caffe/fuzz_text.py --count 2000 --seed 1        # needs grpcio-tools, of the extra `dev`

Run by hand: a text costs some 20 ms. Both take a text, with the same message, or both refuse it. Left out of the
comparison of messages are texts beyond ASCII: where C++ keeps the bytes, we decode them. Prints counts and what
differs, and exits with 1 if something does.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fuzz import exchanged, mutated, originals

from spherecv.caffe import text
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.errors import PrototxtError

SCHEMA = Path(text.__file__).with_name("spherecv_caffe.proto")
WORDS = (
    b"- + 0x1F 017 08 1.5f 1e5 1e 1e400 .5 5. 99999999999999999999 -inf inF nan true True TRUE t f 0 1 'a' \"b\" "
    b"'a'\"b\" { } < > [ ] [1,2] , ; : # '\\x4' '\\q' '\\101' name: scale: bias_term: dim: operation: PROD MAX -0x5"
).split()


def reference(content: bytes, folder: Path) -> bytes | None:
    """Return the message that protoc reads, encoded; None if it refuses the text."""
    from grpc_tools import _protoc_compiler

    source, goal = folder / "in", folder / "out"
    source.write_bytes(content)
    child = os.fork()
    if not child:
        for number, path, mode in ((0, source, os.O_RDONLY), (1, goal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
            os.dup2(os.open(path, mode, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        words = ["protoc", f"-I{SCHEMA.parent}", "--encode=spherecv_caffe.NetParameter", str(SCHEMA)]
        os._exit(int(_protoc_compiler.run_main([word.encode() for word in words]) != 0))
    _, status = os.waitpid(child, 0)
    return None if status else goal.read_bytes()


def ours(content: bytes) -> NetParameter | None:
    """Return the message that we read; None for a text that we refuse."""
    message = NetParameter()
    try:
        outline = text.parse(text.decode(content, "net"), message, "net")
    except PrototxtError:
        return None
    return None if outline.unknown else message


def one_of(nets: list[bytes], chance: random.Random) -> bytes:
    """Return a mutated prototxt, most often with one word changed or more."""
    content, kind = chance.choice(nets), chance.random()
    if kind < 0.1:
        return mutated(content, chance)
    if kind < 0.2:
        return exchanged(content, chance.choice(nets), chance)
    words = content.split(b" ")
    place = chance.randrange(len(words))
    words[place : place + chance.randrange(2)] = [chance.choice(WORDS)]
    return b" ".join(words)


def main() -> int:
    """Compare, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    nets, chance = [prototxt for prototxt, _ in originals()], random.Random(options.seed)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.count):
            content = one_of(nets, chance)
            if b"\0" in content:
                continue
            right, got = reference(content, Path(folder)), ours(content)
            if right is None or got is None:
                end = "both refuse" if right is None and got is None else "one refuses"
            else:
                plain = content.isascii() and b"\\" not in content
                end = "both take" if not plain or NetParameter.FromString(right) == got else "they read otherwise"
            if plain_nan(got) and end == "they read otherwise":
                end = "both take"  # NaN is not equal to itself
            counts[end] += 1
            if not end.startswith("both"):
                print(f"{end}: {content!r}")
    print(", ".join(f"{end}: {number:,}" for end, number in sorted(counts.items())), f"(seed {options.seed})")
    return int(any(not end.startswith("both") for end in counts))


def plain_nan(message: NetParameter | None) -> bool:
    """Tell whether a message holds a NaN."""
    return message is not None and "nan" in text.render(message)


if __name__ == "__main__":
    sys.exit(main())
