"""What `evaluate bin` costs beside the net: InsightFace's `.bin` sets of 12,000 crops, read, embedded and scored.

    python benchmarks/bins.py [--sets 7] [--crops 12000] [--model sphereface-mini]

Made-up sets of 112x112 JPEG crops. Every stage is timed where it is called, in one run: the reading of the file and of
the crops, the net, and the scoring with 1,000 replicates; the largest resident memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import pickle
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spherecv.embed import FaceEmbedder
from spherecv.evaluate import croprun
from spherecv.evaluate.cropsets import BinSet
from spherecv.evaluate.subject import Subject

seconds: dict[str, float] = defaultdict(float)


def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, its time added up under a name."""

    def wrapped(*arguments: Any, **settings: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments, **settings)
        finally:
            seconds[name] += time.perf_counter() - start

    return wrapped


def write_set(path: Path, crops: int, seed: int) -> None:
    """Smooth random pictures, whose JPEG files are as large as those of faces; each second pair matches."""
    generator = np.random.default_rng(seed)
    images = []
    for pair in range(crops // 2):
        base = generator.uniform(0, 255, (14, 14, 3))
        for other in (base, base if pair % 2 else generator.uniform(0, 255, (14, 14, 3))):
            small = np.clip(other + 15 * generator.normal(size=other.shape), 0, 255).astype(np.uint8)
            large = cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC)
            noisy = np.clip(large + 6 * generator.normal(size=large.shape), 0, 255).astype(np.uint8)
            images.append(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    path.write_bytes(pickle.dumps((images, [pair % 2 == 1 for pair in range(crops // 2)])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=7)
    parser.add_argument("--crops", type=int, default=12_000)
    parser.add_argument("--model", default="sphereface-mini")
    options = parser.parse_args()
    croprun.read_crops = timed("reading crops", croprun.read_crops)
    croprun.grid_figures = timed("scoring", croprun.grid_figures)
    croprun.make_variant = timed("scoring", croprun.make_variant)
    FaceEmbedder.embed = timed("the net", FaceEmbedder.embed)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"set{number}.bin" for number in range(options.sets)]
        for number, file in enumerate(files):
            write_set(file, options.crops, number)
        size = sum(file.stat().st_size for file in files)
        start = time.perf_counter()
        subject = Subject.of(options.model, face="whole")
        for file in files:
            source = timed("reading files", BinSet)(file)
            croprun.evaluate_crops(source, subject, saved=str(file.with_suffix(".f32")))
        total = time.perf_counter() - start
    beside = sum(value for name, value in seconds.items() if name != "the net")
    print(f"{options.sets} sets of {options.crops:,} crops, {size / 2**20:.0f} MiB, {options.model}: {total:.1f} s")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"  {name}: {value:.2f} s")
    print(f"  reading and scoring over the net: {100 * beside / seconds['the net']:.2f} %")
    print(f"  largest resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
