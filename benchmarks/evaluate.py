"""What evaluation costs: 6,000 pairs from saved embeddings, and a million distractors against the bare matrix product.

    python benchmarks/evaluate.py pairs
    python benchmarks/evaluate.py distractors [--count 1000000] [--dimension 512] [--probes 1000] [--rounds 3]

`pairs` runs `spherecv evaluate lfw` as a user does, interpreter and imports included, on a made-up view 2 whose 1024
numbers an image are saved. `distractors` interleaves `identify`, with CMC at six counts and TAR down to FAR 1e-6, with
nothing but the blocked product of the same memory-mapped file, and reports the largest resident memory beside the file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import Results

from spherecv.evaluate.blocks import BLOCK_BYTES, unit_rows
from spherecv.evaluate.collection import ImageEmbeddings, _stamp
from spherecv.evaluate.identification import identify
from spherecv.evaluate.subject import Subject
from spherecv.zoo import ModelSource, get_recipe


def make_view2(folder: Path, dimension: int = 512) -> None:
    """6,000 pairs of 10 folds over about 7,700 images of 4,280 people, with embeddings but with no real pictures."""
    generator = np.random.default_rng(0)
    people = [f"Person_{i:04d}" for i in range(4280)]
    photos = {name: 1 + int(generator.geometric(0.5)) for name in people}
    several = [name for name in people if photos[name] > 1]
    lines, names = ["10\t300"], set()
    for _ in range(10):
        for _ in range(300):
            name = several[generator.integers(len(several))]
            a, b = generator.choice(photos[name], 2, replace=False) + 1
            lines.append(f"{name}\t{a}\t{b}")
            names |= {(name, int(a)), (name, int(b))}
        for _ in range(300):
            one, two = (people[i] for i in generator.choice(len(people), 2, replace=False))
            a, b = (int(generator.integers(photos[name])) + 1 for name in (one, two))
            lines.append(f"{one}\t{a}\t{two}\t{b}")
            names |= {(one, a), (two, b)}
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    keys = [f"{name}/{name}_{number:04d}.jpg" for name, number in sorted(names)]
    for key in keys:
        (folder / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / key).write_bytes(b"x")
    (folder / "net.onnx").write_bytes(b"never opened")
    # The file is no net: to open it, for an image that had to be embedded, would end the run.
    subject = Subject.of(ModelSource.from_onnx(folder / "net.onnx", recipe=get_recipe("sphereface")))
    centres = {name: generator.normal(size=2 * dimension) for name in people}
    rows = np.array([centres[key.partition("/")[0]] for key in keys])
    rows += generator.normal(size=rows.shape)
    meta = {**subject.to_dict(), "recipe": {**subject.source.recipe.to_dict(), "mirror": None}}
    meta["model_key"] = subject.source.key.split("-")[0]
    ImageEmbeddings(
        paths=tuple(keys),
        embeddings=rows.astype(np.float32),
        qualities=np.ones(len(keys), np.float32),
        centred=np.zeros(len(keys), np.bool_),
        failures={},
        stamps={key: _stamp(folder / "images" / key) for key in keys},
        mirrored=True,
    ).save(folder / "saved.npz", meta)


def measure_pairs(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_view2(folder)
        command = [
            sys.executable, "-m", "spherecv", "evaluate", "lfw", str(folder / "images"),
            "--pairs", str(folder / "pairs.txt"), "--model", str(folder / "net.onnx"), "--recipe", "sphereface",
            "--embeddings", str(folder / "saved.npz"),
        ]  # fmt: skip
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - started)
        print(f"evaluate lfw, 6,000 pairs, saved embeddings, both variants, 1,000 replicates: "
              f"median {statistics.median(seconds):.2f} s ({min(seconds):.2f} .. {max(seconds):.2f}), {rounds} runs")


def write_distractors(path: Path, count: int, dimension: int) -> None:
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dimension))
    generator = np.random.default_rng(1)
    for start in range(0, count, 50_000):
        part = generator.standard_normal((min(50_000, count - start), dimension), dtype=np.float32)
        table[start : start + len(part)] = unit_rows(part)
    table.flush()


def bare_product(probes: np.ndarray, distractors: np.ndarray) -> None:
    """Nothing but the product, in blocks of the same size."""
    step = BLOCK_BYTES // (4 * len(probes))
    block = np.empty((len(probes), step), np.float32)
    for start in range(0, len(distractors), step):
        rows = distractors[start : start + step]
        np.matmul(probes, rows.T, out=block[:, : len(rows)])


def anonymous_memory() -> int:
    """Bytes of this process that belong to no file: what a memory-mapped table does not count in."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def measure_distractors(count: int, dimension: int, probes: int, rounds: int) -> None:
    generator = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "distractors.npy"
        write_distractors(path, count, dimension)
        distractors = np.load(path, mmap_mode="r")
        identities = np.arange(probes) // 4
        centres = generator.normal(size=(probes // 4 + 1, dimension))
        people = unit_rows(centres[identities] + 1.5 * generator.normal(size=(probes, dimension)))
        peak = [0]

        def watched() -> None:
            def look(_done: int) -> None:
                peak[0] = max(peak[0], anonymous_memory())

            identify(people, identities, distractors, distractors_normalized=True, progress=look)

        contenders = {"bare blocked product": lambda: bare_product(people, distractors), "identify": watched}
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        bare_product(people, distractors)  # the file comes into the cache of the system
        for turn in range(rounds):
            for which in list(contenders)[:: 1 if turn % 2 == 0 else -1]:
                started = time.perf_counter()
                contenders[which]()
                seconds[which].append(time.perf_counter() - started)
        results = Results({name: tuple(values) for name, values in seconds.items()})
        print(f"{count:,} x {dimension} distractors, {probes:,} probes, {os.cpu_count()} cores")
        print(results.table(base="bare blocked product"))
        print(f"largest memory beside the file: {peak[0] / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pairs", "distractors"))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--probes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    if settings.what == "pairs":
        measure_pairs(settings.rounds)
    else:
        measure_distractors(settings.count, settings.dimension, settings.probes, settings.rounds)


if __name__ == "__main__":
    main()
