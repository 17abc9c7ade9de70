"""What IJB-C's 1:1 protocol costs: 10,000,000 pairs of 23,000 templates, read, compared and judged.

    python benchmarks/ijb.py [--pairs 10000000] [--templates 23000] [--dimension 512] [--rounds 3]

The figures are made in a process of its own, whose largest resident memory is reported. Beside it the comparison alone,
interleaved with the way the field's script goes about it: batches of 100,000 pairs, both sides gathered, multiplied and
summed; and the largest difference between the two.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import Results

from spherecv.evaluate.ijbfiles import read_template_pairs
from spherecv.evaluate.templatesets import Templates, compare_templates, verification_rates

_BATCH = 100_000
_SHARE = 10
"""The comparison alone takes one of so many of the pairs."""


def write_pairs(path: Path, pairs: int, templates: int) -> None:
    """Lines `TEMPLATE TEMPLATE LABEL`; templates come in pairs that match, and one pair in 800 is genuine."""
    generator = np.random.default_rng(0)
    with path.open("w") as stream:
        for start in range(0, pairs, 1_000_000):
            count = min(1_000_000, pairs - start)
            first, second = generator.integers(templates, size=(2, count))
            genuine = generator.random(count) < 1 / 800
            second = np.where(genuine, first ^ 1, second)
            same = first // 2 == second // 2
            stream.writelines(f"{a} {b} {s:d}\n" for a, b, s in zip(first, second, same, strict=True))


def made_up(templates: int, dimension: int) -> Templates:
    """Templates of which each two neighbours are one person."""
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(templates // 2, dimension)).repeat(2, axis=0)
    rows += generator.normal(size=rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Templates(np.arange(len(rows)), rows, np.zeros(len(rows), np.bool_))


def in_batches(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The field's way: both sides of 100,000 pairs at once."""
    parts = range(0, len(first), _BATCH)
    return np.concatenate([np.sum(rows[first[s : s + _BATCH]] * rows[second[s : s + _BATCH]], -1) for s in parts])


def run_whole(file: Path, templates: int, dimension: int) -> None:
    """Read, compare and judge, and say what it took."""
    pooled = made_up(templates, dimension)
    start = time.perf_counter()
    pairs = read_template_pairs(file, pooled.numbers)
    read = time.perf_counter()
    rates = verification_rates(pooled, pairs.first, pairs.second, pairs.same)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(pairs):,} pairs: read in {read - start:.1f} s, compared and judged in {end - read:.1f} s")
    print(f"in all {end - start:.1f} s, largest resident memory {peak:.2f} GiB")
    print("; ".join(f"TAR at FAR {far:g} {figure}" for far, figure in rates.tar.items()))


def run_beside(file: Path, templates: int, dimension: int, rounds: int) -> None:
    """The comparison alone, beside the field's way."""
    pooled = made_up(templates, dimension)
    pairs = read_template_pairs(file, pooled.numbers)
    first, second = pairs.first[::_SHARE], pairs.second[::_SHARE]
    ways = {"tiles": compare_templates, "batches of 100,000": in_batches}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            found[name] = ways[name](pooled.embeddings, first, second)
            seconds[name].append(time.perf_counter() - start)
    results = Results({name: tuple(values) for name, values in seconds.items()})
    print(f"\n{len(first):,} pairs compared, {rounds} rounds")
    print(results.table(base="tiles", items=len(first), unit="pairs"))
    gap = np.abs(found["tiles"] - found["batches of 100,000"]).max()
    print(f"largest difference of a similarity: {gap:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--templates", type=int, default=23_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file is not None:
        run_whole(options.file, options.templates, options.dimension)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.txt"
        write_pairs(file, options.pairs, options.templates)
        size = [f"--templates={options.templates}", f"--dimension={options.dimension}"]
        subprocess.run([sys.executable, __file__, f"--file={file}", *size], check=True)
        run_beside(file, options.templates, options.dimension, options.rounds)


if __name__ == "__main__":
    main()
