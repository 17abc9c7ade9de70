"""What it costs, once, that a backend is seen to agree on a model before it is trusted with it.

    python benchmarks/trust.py [--repeats 7]

SphereFace-20 with random weights, as a file that no converter of ours has written: opened and run once on one image,
with the verdict in the cache and without it, in turn in one process whose libraries are loaded. The difference is what
the check costs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from measure import machine_line
from session import sphereface_20

from spherecv.errors import SphereCVError
from spherecv.runtime import Session

WAYS = (("opencv", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))


def foreign(path: Path) -> None:
    """Write the net without what says who converted it, for whose nets a float32 backend is not checked."""
    net = onnx.load_from_string(sphereface_20().to_onnx())
    del net.metadata_props[:]
    net.producer_name = "another converter"
    onnx.save(net, path)


def opened(path: Path, backend: str, precision: str) -> tuple[float, float]:
    """Wall and processor milliseconds until the first image is computed."""
    image = np.random.default_rng(0).normal(size=(1, 3, 112, 96)).astype(np.float32)
    start = time.perf_counter(), time.process_time()
    Session(path, backend=backend, precision=precision).run(image)
    return (time.perf_counter() - start[0]) * 1e3, (time.process_time() - start[1]) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(machine_line())
    print("\n| backend, precision | known, ms wall / processor | checked | the check |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SPHERECV_CACHE"] = folder
        path = Path(folder, "net.onnx")
        foreign(path)
        for backend, precision in WAYS:
            try:
                opened(path, backend, precision)
            except SphereCVError as error:
                print(f"| {backend}, {precision} | {error} | | |")
                continue
            known, checked = [], []
            for _ in range(repeats):
                known.append(opened(path, backend, precision))
                shutil.rmtree(Path(folder, "agreement"))
                checked.append(opened(path, backend, precision))
            before, after = np.median(known, axis=0), np.median(checked, axis=0)
            print(f"| {backend}, {precision} | {before[0]:.0f} / {before[1]:.0f} | {after[0]:.0f} / {after[1]:.0f} "
                  f"| {after[0] - before[0]:.0f} / {after[1] - before[1]:.0f} |")


if __name__ == "__main__":
    main()
