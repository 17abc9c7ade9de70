"""Batches of every size, in bounded chunks; and models that have none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from spherecv.errors import BackendError, InvalidArgumentError
from spherecv.runtime import Session
from spherecv.runtime.backend import ChunkLimit

pytestmark = pytest.mark.runtime


class Recorder:
    """Stands between a Session and its backend, and notes how many items each call has."""

    def __init__(self, session: Session) -> None:
        self._backend = session._backend
        self.name, self.limit = self._backend.name, self._backend.limit
        self.batches: list[int] = []
        session._backend = self

    def run(self, feeds):
        self.batches.append(len(next(iter(feeds.values()))))
        return self._backend.run(feeds)


def test_a_large_batch_runs_in_bounded_chunks(backend, models, noise, difference):
    session = Session(models["dense"], backend=backend)
    recorder = Recorder(session)
    data = noise(300, 3, 28, 24)
    recorder.limit = ChunkLimit(items=1000, numbers=1 << 30)
    whole = session.run(data)["fc5"]
    assert recorder.batches == [300]
    for limit in (ChunkLimit(items=64, numbers=1 << 30), ChunkLimit(items=1000, numbers=64 * 3 * 28 * 24)):
        recorder.batches.clear()
        recorder.limit = limit
        assert difference(session.run(data)["fc5"], whole) < 1e-6
        assert recorder.batches == [60] * 5


def test_ten_thousand_crops_never_reach_a_backend_at_once(backend, models):
    session = Session(models["dense"], backend=backend)
    recorder = Recorder(session)
    recorder.run = lambda feeds: (recorder.batches.append(len(feeds["data"])), [np.zeros((len(feeds["data"]), 8))])[1]
    session.run(np.broadcast_to(np.float32(0), (10_000, 3, 28, 24)))
    assert sum(recorder.batches) == 10_000
    assert max(recorder.batches) <= 1024
    # One item that is larger than the limit must still be run.
    recorder.limit = ChunkLimit(items=8, numbers=1)
    recorder.batches.clear()
    session.run(np.zeros((3, 3, 28, 24), np.float32))
    assert recorder.batches == [1, 1, 1]


def test_memory_does_not_grow_with_the_batch():
    """In a process of its own, whose peak no other test has raised; the net's activations are 256 KB an item."""
    script = """
import resource, sys
import numpy as np
from importlib.util import find_spec
from onnx import TensorProto, helper, numpy_helper
from spherecv.runtime import Session
weights = numpy_helper.from_array(np.ones((64, 1, 3, 3), np.float32), "w")
nodes = [helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
         helper.make_node("GlobalAveragePool", ["a"], ["y"])]
shapes = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 32, 32])], [
    helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64, 1, 1])]
model = helper.make_model(helper.make_graph(nodes, "g", *shapes, [weights]),
                          opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString()
for backend in ("opencv", "onnxruntime", "openvino"):
    if backend == "openvino" and not find_spec("openvino"):
        continue
    session = Session(model, backend=backend)
    session.run(np.broadcast_to(np.float32(1), (600, 1, 32, 32)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = session.run(np.broadcast_to(np.float32(1), (3000, 1, 32, 32)))["y"]
    assert answer.shape == (3000, 64, 1, 1)
    print(backend, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    pytest.importorskip("resource", reason="peak memory is not to be had on this system")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=_root(), check=False)
    assert done.returncode == 0, done.stderr
    growth = {name: int(megabytes) for name, megabytes in (line.split() for line in done.stdout.splitlines())}
    assert {"opencv", "onnxruntime"} <= growth.keys()
    # All at once would be 750 MB; the outputs are 0.75 MB.
    assert max(growth.values()) < 60, growth


def _root() -> Path:
    return Path(__file__).resolve().parents[2]


def test_a_model_without_a_batch_runs_as_it_is(backend, graph, noise):
    graph.op("Concat", "left", "right", to="y", axis=0)
    model = graph.model({"left": ["N", 3], "right": ["M", 3]}, {"y": ["K", 3]})
    session = Session(model, backend=backend)
    for rows in ((2, 5), (40, 1)):
        left, right = (noise(count, 3) for count in rows)
        assert np.array_equal(session.run({"left": left, "right": right})["y"], np.concatenate([left, right]))
    with pytest.raises(InvalidArgumentError, match="only a batch may have no items"):
        session.run({"left": noise(0, 3), "right": noise(2, 3)})


def test_a_batch_of_a_fixed_size(backend, noise, models):
    import onnx

    model = onnx.load_from_string(models["dense"])
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 4
    session = Session(model.SerializeToString(), backend=backend)
    assert session.inputs == {"data": (4, 3, 28, 24)}
    assert session.run(noise(4, 3, 28, 24))["fc5"].shape == (4, 8)
    with pytest.raises(InvalidArgumentError, match=r"must have shape \(4, 3, 28, 24\)"):
        session.run(noise(3, 3, 28, 24))


def test_a_single_number(backend, graph, noise):
    graph.op("ReduceMean", "data", to="y", axes=[0, 1], keepdims=0)
    model = graph.model({"data": [2, 3]}, {"y": []})
    if backend == "opencv" and cv2.__version__.startswith("4."):
        with pytest.raises(BackendError, match="an output is a single number"):
            Session(model, backend=backend)
    else:
        data = noise(2, 3)
        assert Session(model, backend=backend).run(data)["y"] == pytest.approx(data.mean(), rel=1e-5)


def test_a_backend_that_loses_the_batch_is_an_error(models, noise):
    session = Session(models["dense"])
    Recorder(session).run = lambda feeds: [np.zeros((1, 8 * len(feeds["data"])), np.float32)]
    with pytest.raises(BackendError, match=r"in batches.* 'fc5' has shape \(1, 16\) for 2 items"):
        session.run(noise(2, 3, 28, 24))
