"""Trials: what a backend or device is worth is known after it has run a net."""

from __future__ import annotations

from functools import cache

import numpy as np

from spherecv.errors import BackendError, DeviceError, MissingDependencyError
from spherecv.runtime.devices import (
    BACKENDS,
    import_cv2,
    import_onnxruntime,
    onnxruntime_cuda_missing,
    opencv_cuda_missing,
)
from spherecv.runtime.session import Session

_SIZE = 4


def available_devices() -> dict[str, str]:
    """Say which devices can be used here: those on which a small net was run.

    Returns
    -------
    dict of str to str
        Of every device: the reason why no backend can use it, with the cure; empty where one can.
    """
    on_cpu = [trial(backend) for backend in BACKENDS]
    reasons = []
    for name, load, missing in (
        ("opencv", import_cv2, opencv_cuda_missing),
        ("onnxruntime", import_onnxruntime, onnxruntime_cuda_missing),
    ):
        try:
            reason = missing(load()) or trial(name, "cuda")
        except BackendError as error:
            reason = str(error)
        reasons.append(reason)
    return {"cpu": "" if "" in on_cpu else "; ".join(on_cpu), "cuda": "" if "" in reasons else "; ".join(reasons)}


def trial(backend: str, device: str = "cpu") -> str:
    """Run a small net and look at its answer; returns why that did not work, or nothing."""
    try:
        answer = Session(_net(), backend=backend, device=device).run(np.ones((1, 1, _SIZE, _SIZE), np.float32))["y"]
    except (BackendError, DeviceError, MissingDependencyError) as error:
        return str(error)
    right = np.full((1, 1, _SIZE - 2, _SIZE - 2), 9.0, np.float32)
    if answer.shape == right.shape and np.abs(answer - right).max() < 1e-3:
        return ""
    return f"backend {backend!r} gives wrong numbers on device {device!r} (a 3x3 sum of ones: {answer.ravel()[:1]})"


@cache
def _net() -> bytes:
    """A convolution that adds up 3x3 numbers."""
    from onnx import TensorProto, helper

    across = [1, 1, _SIZE, _SIZE]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "trial",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, across)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, _SIZE - 2, _SIZE - 2])],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], np.ones(9).tolist())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8  # what every backend that is supported reads
    return bytes(model.SerializeToString())
