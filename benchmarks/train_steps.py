"""Fine-tuning and distilling `sphereface-mini` beside another build: whole commands in fresh processes, in turn.

    python benchmarks/train_steps.py orl/ --beside FOLDER

`orl/` holds a folder per person (ORL); in FOLDER lie the packages `spherecv` and `spherecv/models` of the other build
(git archive). Fine-tuning is `spherecv train finetune sphereface-mini` by its defaults. The distillation's teacher is
`sphereface-mini` itself in ONNX, which embeds each image once, so that what is timed is the student's training. Printed
are images trained on per second of the whole command, and the median of the ratios over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
from measure import machine_line

from spherecv.images import load_image
from spherecv.train.data import from_folder
from spherecv.zoo import require

SIZE = (96, 112)
EPOCHS = 8
BATCHES = {"finetune": 32, "distill": 64}


def command(what: str, faces: Path, scratch: Path, iterations: int | None) -> list[str]:
    """Return the command line of a training that writes below a folder."""
    out = ["-o", str(scratch / "out"), "--json"]
    if what == "finetune":
        some = [] if iterations is None else ["--iterations", str(iterations)]
        return ["finetune", "sphereface-mini", str(faces), *some, *out]
    teacher, student = scratch / "teacher.onnx", require("sphereface-mini")["prototxt"]
    recipe = ["--recipe", "sphereface-mini", "--epochs", str(EPOCHS)]
    return ["distill", str(teacher), str(faces), "--student", str(student), *recipe, *out]


def images_a_second(build: Path, words: list[str], batch: int) -> float:
    """Return how many images one fresh process of a build trains on per second."""
    environment = {**os.environ, "PYTHONPATH": str(build)}
    start = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-m", "spherecv", "train", *words], env=environment, capture_output=True, text=True, cwd=build
    )
    taken = time.perf_counter() - start
    if answer.returncode:
        raise SystemExit(f"the build in {build} failed: {answer.stderr[-2000:]}")
    return batch * json.loads(answer.stdout)["iterations"] / taken


def prepared(folder: Path, scratch: Path) -> Path:
    """Write the faces at the net's size, and the teacher, and return the folder of faces."""
    faces = scratch / "faces"
    people = from_folder(folder)
    for number, item in enumerate(people.items):
        place = faces / people.names[item.label] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), cv2.resize(load_image(item.path), SIZE, interpolation=cv2.INTER_LINEAR))
    files = require("sphereface-mini")
    words = [str(files["prototxt"]), str(files["caffemodel"]), "-o", str(scratch / "teacher.onnx")]
    subprocess.run([sys.executable, "-m", "spherecv", "convert", *words], check=True, capture_output=True)
    return faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--beside", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, help="Of the fine-tuning, in place of its default.")
    parser.add_argument("--only", choices=list(BATCHES))
    arguments = parser.parse_args()
    builds = {"the other build": arguments.beside.resolve(), "this build": Path(__file__).resolve().parent.parent}
    print(machine_line(), flush=True)
    print("\n| whole command | the other build, images/s | this build | ratio, median (range) |", flush=True)
    print("| --- | ---: | ---: | --- |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        faces = prepared(arguments.folder, scratch)
        for what in [arguments.only] if arguments.only else BATCHES:
            found: dict[str, list[float]] = {build: [] for build in builds}
            for turn in range(arguments.rounds):
                for build in sorted(builds, reverse=bool(turn % 2)):
                    with tempfile.TemporaryDirectory(dir=scratch) as own:
                        Path(own, "teacher.onnx").hardlink_to(scratch / "teacher.onnx")
                        words = command(what, faces, Path(own), arguments.iterations)
                        found[build].append(images_a_second(builds[build], words, BATCHES[what]))
            theirs, ours = found.values()
            ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
            middles = [f"{statistics.median(rates):.1f}" for rates in (theirs, ours)]
            spread = f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| `train {what}` | {' | '.join(middles)} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
