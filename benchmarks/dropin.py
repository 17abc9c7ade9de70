"""The drop-in readNetFromCaffe against OpenCV 4's own, on res10: loading, and a forward pass with DetectionOutput.

    python benchmarks/dropin.py --folder ../shared/data/ssd-res10-caffe        # with OpenCV 4

Loading is that of a net that was converted before, as is every load but the first. A forward pass is setInput and
forward on one image, from memory. Both nets use all cores, or as many as --threads says.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from measure import interleave, machine_line

from spherecv.compat.cv2_dnn import readNetFromCaffe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="deploy.prototxt and its caffemodel")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        parser.exit(2, "OpenCV 4 is needed: 5 has no importer to compare with\n")
    if options.threads:
        cv2.setNumThreads(options.threads)
    files = str(options.folder / "deploy.prototxt"), str(next(options.folder.glob("*.caffemodel")))
    start = time.perf_counter()
    ours = readNetFromCaffe(*files)
    print(machine_line())
    print(f"first load in this process: {1000 * (time.perf_counter() - start):.0f} ms")
    theirs = cv2.dnn.readNetFromCaffe(*files)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    blob = cv2.dnn.blobFromImage(cv2.GaussianBlur(pixels, (0, 0), 8), 1.0, (300, 300), (104.0, 177.0, 123.0))
    nets = {"drop-in": (readNetFromCaffe, ours), "OpenCV 4": (cv2.dnn.readNetFromCaffe, theirs)}

    def forward(net: object) -> None:
        net.setInput(blob)
        net.forward()

    for what, calls in (
        ("load", {name: (lambda read=read: read(*files)) for name, (read, _) in nets.items()}),
        ("forward", {name: (lambda net=net: forward(net)) for name, (_, net) in nets.items()}),
    ):
        results = interleave(calls, repeats=options.rounds, shortest=0.0)
        print(f"\n{what}: {results.ratio('drop-in', 'OpenCV 4')}")
        for name in nets:
            taken = sorted(results.seconds[name])
            print(f"  {name}: least {1000 * taken[0]:.1f} ms, median {1000 * taken[len(taken) // 2]:.1f} ms")


if __name__ == "__main__":
    main()
