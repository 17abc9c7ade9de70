"""How long a user waits: `import spherecv`, `spherecv verify` in a fresh process, `verify` warm.

    python benchmarks/start_up.py --prototxt NET.prototxt --caffemodel NET.caffemodel --recipe NAME

The two photos are 640x480, made of the sample portraits (extra `demo`).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from measure import machine_line

from spherecv import FaceVerifier
from spherecv.cli.samples import sample_portrait


def photo(portrait: np.ndarray) -> np.ndarray:
    """The portrait, 480 pixels high, in the middle of a 640x480 frame that continues its border."""
    height, width = portrait.shape[:2]
    scaled = cv2.resize(portrait, (round(width * 480 / height), 480), interpolation=cv2.INTER_AREA)
    gap = 640 - scaled.shape[1]
    return cv2.copyMakeBorder(scaled, 0, 0, gap // 2, gap - gap // 2, cv2.BORDER_REFLECT)


def seconds_of(command: list[str], repeats: int) -> list[float]:
    """Wall seconds of whole processes, after one that warms the disk cache."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def line(what: str, seconds: list[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"| {what} | {middle * 1e3:.0f} | {low * 1e3:.0f} .. {high * 1e3:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prototxt", required=True)
    parser.add_argument("--caffemodel", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    files = ["--prototxt", arguments.prototxt, "--caffemodel", arguments.caffemodel, "--recipe", arguments.recipe]
    photos = [photo(sample_portrait(who)) for who in ("grace-hopper", "eileen-collins")]

    print(machine_line())
    print("\n| what | median ms | range |\n| --- | ---: | --- |")
    imports = "import time; t = time.perf_counter(); import spherecv; print(time.perf_counter() - t)"
    answers = [subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True) for _ in range(10)]
    print(line("`import spherecv`", [float(answer.stdout) for answer in answers]))
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{number}.jpg")) for number in range(2)]
        for path, image in zip(paths, photos, strict=True):
            cv2.imwrite(path, image)
        command = [sys.executable, "-m", "spherecv", "verify", *paths, *files, "--threshold", "0.6"]
        print(line("`spherecv verify`, fresh process", seconds_of(command, arguments.repeats)))
    for backend in ("opencv", "auto"):
        verifier = FaceVerifier.from_caffe(
            arguments.prototxt, arguments.caffemodel, recipe=arguments.recipe, threshold=0.6, backend=backend
        )
        verifier.verify(*photos)
        warm = [verifier.verify(*photos).seconds for _ in range(3 * arguments.repeats)]
        print(line(f"`verify`, warm, two 640x480 photos, backend {backend}", warm))


if __name__ == "__main__":
    main()
