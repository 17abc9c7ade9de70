"""benchmarks/gpu_check.py: its plan, and its steps with NumPy standing in for the GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("array_api_compat", reason="needs the extra train")
SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu_check.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent), "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_without_a_gpu_the_plan_is_shown_and_fits_eight_minutes(tmp_path: Path) -> None:
    done = run("--json", str(tmp_path / "none.json"))
    assert done.returncode == 3
    limits = [int(line.split()[1]) for line in done.stdout.splitlines() if " s at most  " in line]
    assert len(limits) == 6
    assert sum(limits) < 8 * 60
    assert not (tmp_path / "none.json").exists()


def test_the_steps_run_with_numpy_in_the_place_of_the_gpu(tmp_path: Path) -> None:
    place = tmp_path / "found.json"
    done = run("--device", "cpu", "--only", "layers", "losses", "processes", "inference", "--json", str(place))
    assert done.returncode == 0, done.stdout
    steps = json.loads(place.read_text())["steps"]
    assert {name: step["agrees"] for name, step in steps.items()} == {
        "layers": True, "losses": True, "processes": None, "inference": True
    }  # fmt: skip
    assert steps["layers"]["compared"] == 10
    assert len(steps["losses"]["losses"]) == 5


def test_a_net_that_differs_and_a_step_that_hangs_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_check

    assert gpu_check._within(2e-3, 1e-3)["agrees"] is False
    assert gpu_check._off([1.0, 2.0], [1.0, 4.0]) == 0.5
    monkeypatch.setitem(gpu_check.STEPS, "layers", gpu_check.Step("", 0, gpu_check.layers))
    answer = gpu_check.in_a_process("layers", "cpu")
    assert answer["agrees"] is False
    assert "longer than 0 s" in answer["error"]
