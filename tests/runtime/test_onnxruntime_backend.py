"""ONNX Runtime: a device that it silently leaves out is an error; threads; quiet."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from spherecv.errors import DeviceError
from spherecv.runtime import Session
from spherecv.runtime.onnxruntime_backend import _reason

pytestmark = pytest.mark.runtime

BOTH = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def opened(monkeypatch):
    """What InferenceSession was called with; the session then has the providers in `opened.loads`."""
    calls = SimpleNamespace(loads=BOTH, options=None, providers=None, fallback=True)

    def open_session(source, options, *, providers, enable_fallback):
        calls.options, calls.providers, calls.fallback = options, providers, bool(enable_fallback)
        return SimpleNamespace(get_providers=lambda: calls.loads, disable_fallback=lambda: None)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: BOTH)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcudnn.so"), raising=False)
    return calls


def test_cuda_that_loads(models, opened, capfd):
    session = Session(models["dense"], backend="onnxruntime", device="cuda")
    assert session.device == "cuda"
    assert opened.providers == BOTH
    assert not opened.fallback
    assert capfd.readouterr() == ("", "")


def test_cuda_that_does_not_load_is_an_error(models, opened):
    opened.loads = ["CPUExecutionProvider"]
    with pytest.raises(DeviceError, match="could not start its CUDA provider: check nvidia-smi"):
        Session(models["dense"], backend="onnxruntime", device="cuda")


def test_auto_takes_the_cpu_when_cuda_does_not_load(models, opened):
    opened.loads = ["CPUExecutionProvider"]
    session = Session(models["dense"], backend="onnxruntime", device="auto")
    assert session.device == "cpu"
    assert opened.providers == ["CPUExecutionProvider"]


def test_auto_of_both_takes_cuda(models, opened):
    session = Session(models["dense"], backend="auto", device="auto")
    assert (session.backend, session.device) == ("onnxruntime", "cuda")


def test_the_cpu_asked_for_is_the_cpu(models, opened):
    assert Session(models["dense"], backend="onnxruntime").device == "cpu"
    assert opened.providers == ["CPUExecutionProvider"]


def test_threads_are_passed_on(models, opened, monkeypatch):
    assert Session(models["dense"], backend="onnxruntime", threads=3).threads == 3
    assert opened.options.intra_op_num_threads == 3
    assert opened.options.log_severity_level == 4
    assert opened.options.get_session_config_entry("session.force_spinning_stop") == "1"
    # A process that may use only some of the machine's cores must not leave the choice to ONNX Runtime.
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert Session(models["dense"], backend="onnxruntime").threads == 1
    assert opened.options.intra_op_num_threads == 1


def test_reasons_come_without_codes():
    error = RuntimeError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : No graph was found in the protobuf.")
    assert _reason(error) == "No graph was found in the protobuf."


def test_a_release_that_does_not_know_the_quick_form_gets_the_model_itself(models, noise, monkeypatch):
    x = noise(2, 3, 28, 24)
    wanted = Session(models["dense"], backend="onnxruntime").run(x)["fc5"]
    real, given = onnxruntime.InferenceSession, []

    def older(source, *rest, **settings):
        given.append(source)
        if len(given) == 1:
            raise RuntimeError("Could not find an implementation for Max(13)")
        return real(source, *rest, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", older)
    session = Session(models["dense"], backend="onnxruntime")
    assert len(given) == 2
    np.testing.assert_allclose(session.run(x)["fc5"], wanted, rtol=1e-4, atol=1e-5)
