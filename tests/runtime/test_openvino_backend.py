"""OpenVINO: full precision, the threads asked for, and the CPU alone."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from spherecv.errors import DeviceError
from spherecv.runtime import Session
from spherecv.runtime.openvino_backend import _reason

openvino = pytest.importorskip("openvino", reason="openvino is not installed")

pytestmark = pytest.mark.runtime


def test_computes_in_float32_where_the_processor_would_rather_not(models, noise):
    session = Session(models["dense"], backend="openvino")
    compiled = session._backend._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    data = noise(4, 3, 28, 24)
    (wanted,) = ReferenceEvaluator(models["dense"]).run(None, {"data": data})
    # bfloat16 has eight bits: its error would be a hundred times this.
    assert np.abs(session.run(data)["fc5"] - wanted).max() / np.abs(wanted).max() < 1e-5


def test_threads_and_latency(models):
    session = Session(models["dense"], backend="openvino", threads=1)
    compiled = session._backend._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == session.threads == 1
    assert compiled.get_property("NUM_STREAMS") == 1


def test_only_the_cpu(models):
    with pytest.raises(DeviceError, match="'openvino' cannot use device 'cuda', only 'cpu': use backend='onnxruntime'"):
        Session(models["dense"], backend="openvino", device="cuda")
    assert Session(models["dense"], backend="openvino", device="auto").device == "cpu"


def test_reasons_come_without_positions_in_the_source():
    text = "Exception from src/inference/core.cpp:105:\nCheck 'false' failed at src/x.cpp:151:\nNot converted.\n\n"
    assert _reason(RuntimeError(text)).strip() == "Not converted."
