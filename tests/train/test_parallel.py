"""Two processes with half the batch each equal one with the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from spherecv.caffe import read_blob, read_caffemodel
from spherecv.train.backend import Backend
from spherecv.train.parallel import ALONE, companions, group_of_environment

ROOT = Path(__file__).resolve().parents[2]

CODE = """
from spherecv.train.run import open_run
with open_run({solver!r}, workers=0, threads=1, snapshot=0, snapshot_prefix={prefix!r}, batch_size={size}) as run:
    run.trainer.run()
"""


def _weights(path: Path) -> dict[str, np.ndarray]:
    found = read_caffemodel(path)
    return {f"{layer.name}/{n}": read_blob(b) for layer in found.layer for n, b in enumerate(layer.blobs)}


def test_two_processes_equal_one(small_run: Path) -> None:
    net = small_run.parent / "train.prototxt"
    # Dropout's masks and the mirror are drawn by each process: off, so that both see the same numbers.
    net.write_text(net.read_text().replace("dropout_ratio: 0.2", "dropout_ratio: 0").replace("mirror: true", ""))
    one, two = (str(small_run.parent / name / "w") for name in ("one", "two"))
    run = [sys.executable, "-c", CODE.format(solver=str(small_run), prefix=one, size=6)]
    subprocess.run(run, cwd=ROOT, check=True, timeout=120)
    code = CODE.format(solver=str(small_run), prefix=two, size=3)
    with companions(2, ["-c", code]):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120, env=dict(os.environ))
    whole, halves = (_weights(Path(f"{prefix}_iter_8.caffemodel")) for prefix in (one, two))
    assert whole.keys() == halves.keys()
    for name, values in whole.items():
        np.testing.assert_allclose(halves[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_alone(single: Backend) -> None:
    assert group_of_environment(single) is ALONE
    arrays = [np.ones(3)]
    assert ALONE.mean(arrays)[0] is arrays[0]
