"""What FaceEmbedder costs over the bare net: 256 crops of SphereFace-20, on every backend, in one run.

    python benchmarks/embedder.py [--threads 2] [--crops 256] [--repeats 7] [--cpu]

The embedder starts from uint8 crops; the bare net is given the finished float32 input in batches of the same size, and
its outputs are thrown away. The recipe is SphereFace's without the mirror image, which would only double both sides.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from measure import interleave, machine_line
from session import Run, bare_onnxruntime, bare_opencv, bare_openvino, sphereface_20

from spherecv import FaceEmbedder
from spherecv.zoo import ModelSource, get_recipe

_BATCH = 32


def bare_nets(onnx: bytes, threads: int) -> dict[str, Run]:
    """The libraries as their own users call them; OpenCV with the engine that is faster for this net."""
    nets = {
        "opencv": bare_opencv(onnx, "ENGINE_CLASSIC" if hasattr(cv2.dnn, "ENGINE_CLASSIC") else None),
        "onnxruntime": bare_onnxruntime(onnx, threads),
    }
    if find_spec("openvino"):
        nets["openvino"] = bare_openvino(onnx, threads)
    return nets


def in_batches(net: Run, data: np.ndarray) -> None:
    for start in range(0, len(data), _BATCH):
        net(data[start : start + _BATCH])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--crops", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds before each timing")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds: for a machine that is busy")
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    net = sphereface_20()
    recipe = replace(get_recipe("sphereface"), mirror=False)
    crops = np.random.default_rng(2).integers(0, 256, (arguments.crops, *recipe.size, 3), np.uint8)
    data = np.ascontiguousarray(((crops - np.float32(127.5)) / 128).transpose(0, 3, 1, 2), np.float32)

    print(machine_line(), f"\n\nSphereFace-20, {arguments.crops} crops, {arguments.threads} threads\n")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sphereface-20.onnx"
        path.write_bytes(net.to_onnx())
        source = ModelSource.from_onnx(path, recipe=recipe)
        for backend, bare in bare_nets(path.read_bytes(), arguments.threads).items():
            embedder = FaceEmbedder(source, backend=backend, threads=arguments.threads)
            wanted = bare(data[:_BATCH])
            assert np.abs(embedder.embed(crops[:_BATCH]) - wanted).max() < 1e-4 * np.abs(wanted).max()
            ours, theirs = f"FaceEmbedder, {backend}", f"bare {backend}"
            results = interleave(
                {ours: partial(embedder.embed, crops), theirs: partial(in_batches, bare, data)},
                repeats=arguments.repeats,
                pause=arguments.pause,
                clock=time.process_time if arguments.cpu else time.perf_counter,
            )
            print(results.table(base=theirs, items=arguments.crops, unit="crops"), "\n")
            lines.append(f"* {ours} / {theirs}: {results.ratio(ours, theirs)}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
