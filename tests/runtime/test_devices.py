"""What this machine has, and why not the rest."""

from __future__ import annotations

import builtins
import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import onnxruntime
import pytest

from spherecv.errors import BackendError, MissingDependencyError
from spherecv.runtime import Session, available_backends, available_devices, devices, trial

pytestmark = pytest.mark.runtime


def test_what_is_installed_is_available(installed):
    reasons = available_backends()
    assert list(reasons) == ["opencv", "onnxruntime", "openvino"]
    assert [name for name, reason in reasons.items() if not reason] == installed


def test_why_openvino_is_not_there(monkeypatch, models):
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    assert available_backends()["openvino"] == (
        "backend='openvino' needs the package openvino: pip install 'spherecv[openvino]'"
    )
    with pytest.raises(MissingDependencyError, match=r"pip install 'spherecv\[openvino\]'"):
        Session(models["dense"], backend="openvino")
    assert Session(models["dense"], backend="auto").backend == "opencv"


def test_an_import_that_fails_is_one_line_with_the_cure(monkeypatch, models):
    original = builtins.__import__

    def refuse(name, *rest):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BackendError, match=r"libGL\.so\.1.*pip install opencv-contrib-python-headless"):
        Session(models["dense"])
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError("no native part")))
    assert available_backends()["onnxruntime"] == (
        "ONNX Runtime cannot be imported (no native part): pip install onnxruntime"
    )


def test_why_cuda_is_not_there(monkeypatch):
    monkeypatch.setattr(cv2.dnn, "getAvailableTargets", lambda backend: [])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    reasons = available_devices()
    assert reasons["cpu"] == ""
    assert "was built without CUDA" in reasons["cuda"]
    assert "pip install 'spherecv[gpu]'" in reasons["cuda"]
    # A provider that is listed and cannot start has run nothing: there is no GPU to be told usable.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert "could not" in available_devices()["cuda"] or "cannot" in available_devices()["cuda"]


def test_a_device_is_usable_after_it_ran_a_net(monkeypatch):
    assert trial.trial("opencv") == ""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(trial, "trial", lambda backend, device="cpu": "" if device == "cpu" else f"{backend} failed")
    assert available_devices()["cuda"].endswith("onnxruntime failed")
    monkeypatch.setattr(trial, "trial", lambda backend, device="cpu": "")
    assert available_devices() == {"cpu": "", "cuda": ""}
    monkeypatch.undo()

    class Wrong:
        def __init__(self, *_, **__): ...
        def run(self, _):
            return {"y": np.zeros((1, 1, 2, 2), np.float32)}

    monkeypatch.setattr(trial, "Session", Wrong)
    assert "wrong numbers" in trial.trial("opencv")


@pytest.mark.parametrize(
    ("backend", "device", "cuda", "pairs"),
    [
        ("opencv", "cpu", ("opencv",), [("opencv", "cpu")]),
        ("opencv", "auto", ("opencv",), [("opencv", "cuda"), ("opencv", "cpu")]),
        ("opencv", "auto", (), [("opencv", "cpu")]),
        ("opencv", "cuda", (), [("opencv", "cuda")]),
        ("auto", "cpu", ("opencv", "onnxruntime"), [("openvino", "cpu")]),
        ("auto", "cuda", ("opencv",), [("opencv", "cuda")]),
        ("auto", "cuda", ("opencv", "onnxruntime"), [("onnxruntime", "cuda")]),
        ("auto", "auto", ("onnxruntime",), [("onnxruntime", "cuda"), ("openvino", "cpu")]),
        ("openvino", "auto", ("opencv",), [("openvino", "cpu")]),
    ],
)
def test_what_is_tried_and_in_which_order(backend, device, cuda, pairs, monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: True)
    monkeypatch.setattr(devices, "_cuda_missing", lambda name: "" if name in cuda else "not here")
    assert devices.backends_for(backend, device) == pairs


@pytest.mark.parametrize(
    ("installed", "usual", "fastest"),
    [
        ((), "opencv", "opencv"),
        (("onnxruntime",), "onnxruntime", "onnxruntime"),
        (("onnxruntime", "openvino"), "onnxruntime", "openvino"),
        (("openvino",), "opencv", "openvino"),
    ],
)
def test_what_is_taken_where_nobody_names_a_backend(installed, usual, fastest, monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: name if name in installed else None)
    assert devices.usual_backend() == usual
    assert devices.usual_backend("cuda") == devices.usual_backend("cpu", "bfloat16") == "auto"
    assert devices.backends_for("auto", "cpu") == [(fastest, "cpu")]


def test_what_onnx_runtime_prints_on_import_is_kept_from_the_terminal(monkeypatch, capfd):
    """It warns of unknown GPUs from native code, straight to file descriptor 2."""

    def noisy(name):
        os.write(2, b"[W:onnxruntime:Default, device_discovery.cc:164] GPU device discovery failed\n")
        os.write(2, b"what another thread has to say\n")
        return SimpleNamespace(InferenceSession=object)

    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(importlib, "import_module", noisy)
    devices.import_onnxruntime()
    os.write(2, b"and after\n")
    assert capfd.readouterr().err == "what another thread has to say\nand after\n"
    monkeypatch.setattr(devices.tempfile, "TemporaryFile", lambda: (_ for _ in ()).throw(OSError(30, "Read-only")))
    devices.import_onnxruntime()


def test_importing_the_runtime_loads_no_library():
    script = """
import sys
from spherecv.runtime import Session, available_devices
print([name for name in sys.modules if name in ("cv2", "onnxruntime", "openvino", "onnx", "google.protobuf")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 5, 8}, raising=False)
    assert devices.usable_cores() == 3
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS and Windows
    assert devices.usable_cores() == 64
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert devices.usable_cores() == 1
