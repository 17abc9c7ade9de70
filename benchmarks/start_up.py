"""How long a user waits: `import spherecv`, `spherecv verify` in a fresh process, `verify` warm.

    python benchmarks/start_up.py --prototxt NET.prototxt --caffemodel NET.caffemodel --recipe NAME

The two photos are 640x480, made of the sample portraits (extra `demo`).

    python benchmarks/start_up.py --beside FOLDER

times fresh processes of `spherecv verify` with the default model in turn with those of another build, whose packages
`spherecv` and `spherecv/models` lie in FOLDER (git archive): wall and processor time, and the median of the ratios;
then `verify` warm, on loaded photos, in processes of both builds in turn.
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


def sample_photos() -> list[np.ndarray]:
    return [photo(sample_portrait(who)) for who in ("grace-hopper", "eileen-collins")]


def written(folder: str) -> list[str]:
    """The two photos as files."""
    paths = [str(Path(folder, f"{number}.jpg")) for number in range(2)]
    for path, image in zip(paths, sample_photos(), strict=True):
        cv2.imwrite(path, image)
    return paths


def seconds_of(command: list[str], repeats: int) -> list[float]:
    """Wall seconds of whole processes, after one that warms the disk cache."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def fresh(build: Path, photos: list[str], cache: Path) -> tuple[float, float]:
    """Wall and processor seconds of one process of a build, with a cache of its own."""
    environment = {**os.environ, "PYTHONPATH": str(build), "SPHERECV_CACHE": str(cache)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "spherecv", "verify", *photos], env=environment, stdout=subprocess.DEVNULL, cwd=cache
    )
    _, status, used = os.wait4(process.pid, 0)
    taken = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"the build in {build} failed")
    return taken, used.ru_utime + used.ru_stime


_WARM = """
import statistics, sys, time
from spherecv import FaceVerifier, load_image
photos = [load_image(path) for path in sys.argv[1:]]
verifier = FaceVerifier()
for _ in range(5):
    verifier.verify(*photos)
taken = []
for _ in range(25):
    at = time.perf_counter(), time.process_time()
    verifier.verify(*photos)
    taken.append((time.perf_counter() - at[0], time.process_time() - at[1]))
print(*(statistics.median(part) for part in zip(*taken)))
"""


def warm(build: Path, photos: list[str], cache: Path) -> tuple[float, float]:
    """Median wall and processor seconds of `verify` in a process that has run it before."""
    environment = {**os.environ, "PYTHONPATH": str(build), "SPHERECV_CACHE": str(cache)}
    command = [sys.executable, "-c", _WARM, *photos]
    told = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True, check=True).stdout
    wall, used = told.split()
    return float(wall), float(used)


def compare(other: Path, photos: list[str], repeats: int) -> None:
    """Print processes of this build and of another in turn, fresh and warm."""
    builds = {"the other build": other.resolve(), "this build": Path(__file__).resolve().parent.parent}
    with tempfile.TemporaryDirectory() as folder:
        for what, run, number in (("fresh process, `spherecv verify`", fresh, repeats), ("`verify`, warm", warm, 5)):
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in builds}
            for turn in range(-2, number):  # two that fill caches
                for name in sorted(builds, reverse=bool(turn % 2)):
                    cache = Path(folder, name)
                    cache.mkdir(exist_ok=True)
                    taken[name].append(run(builds[name], photos, cache))
            print(f"\n| {what} | wall ms | processor ms |\n| --- | ---: | ---: |")
            theirs, ours = (np.array(pairs[2:]) * 1e3 for pairs in taken.values())
            for name, times in zip(builds, (theirs, ours), strict=True):
                print(f"| {name} | {np.median(times[:, 0]):.1f} | {np.median(times[:, 1]):.1f} |")
            wall, used = np.median(ours / theirs, axis=0)
            print(f"| this / the other, median of {number} pairs | {wall:.2f} | {used:.2f} |")


def line(what: str, seconds: list[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"| {what} | {middle * 1e3:.0f} | {low * 1e3:.0f} .. {high * 1e3:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prototxt")
    parser.add_argument("--caffemodel")
    parser.add_argument("--recipe")
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.beside:
        print(machine_line())
        with tempfile.TemporaryDirectory() as folder:
            compare(arguments.beside, written(folder), arguments.repeats)
        return
    if not (arguments.prototxt and arguments.caffemodel and arguments.recipe):
        parser.error("--prototxt, --caffemodel and --recipe, or --beside")
    files = ["--prototxt", arguments.prototxt, "--caffemodel", arguments.caffemodel, "--recipe", arguments.recipe]
    photos = sample_photos()

    print(machine_line())
    print("\n| what | median ms | range |\n| --- | ---: | --- |")
    imports = "import time; t = time.perf_counter(); import spherecv; print(time.perf_counter() - t)"
    answers = [subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True) for _ in range(10)]
    print(line("`import spherecv`", [float(answer.stdout) for answer in answers]))
    with tempfile.TemporaryDirectory() as folder:
        paths = written(folder)
        command = [sys.executable, "-m", "spherecv", "verify", *paths, *files, "--threshold", "0.6"]
        print(line("`spherecv verify`, fresh process", seconds_of(command, arguments.repeats)))
    for backend in (None, "opencv", "auto"):
        verifier = FaceVerifier.from_caffe(
            arguments.prototxt, arguments.caffemodel, recipe=arguments.recipe, threshold=0.6, backend=backend
        )
        verifier.verify(*photos)
        warm = [verifier.verify(*photos).seconds for _ in range(3 * arguments.repeats)]
        print(line(f"`verify`, warm, two 640x480 photos, backend {backend or 'by default'}", warm))


if __name__ == "__main__":
    main()
