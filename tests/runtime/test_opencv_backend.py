"""OpenCV: which engine, how many threads, where a net is read from."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest

from spherecv.errors import BackendError, DeviceError
from spherecv.runtime import Session, opencv_backend
from spherecv.runtime.backend import Model
from spherecv.runtime.opencv_backend import _engines, _load
from spherecv.runtime.opencv_settings import nets
from spherecv.runtime.signature import read_signature

pytestmark = pytest.mark.runtime

TWO_ENGINES = hasattr(cv2.dnn, "ENGINE_NEW") and hasattr(cv2.dnn, "ENGINE_CLASSIC")


def loaded(model: bytes) -> Model:
    return Model(model, read_signature(model, "the model"), "the model")


# The choice of an engine

FIVE = SimpleNamespace(dnn=SimpleNamespace(ENGINE_CLASSIC=1, ENGINE_NEW=2))
LATER = SimpleNamespace(dnn=SimpleNamespace(ENGINE_NEW=2))
FOUR = SimpleNamespace(dnn=SimpleNamespace())


@pytest.mark.parametrize("name", ["dense", "depthwise", "any_size", "two_inputs"])
def test_the_new_engine_comes_first(name, models, graph):
    signature = read_signature(models[name], "it")
    assert _engines(FIVE, signature, "cpu") == [2, 1]
    assert _engines(FIVE, signature, "cuda") == [1]
    assert _engines(LATER, signature, "cpu") == [2]
    assert _engines(FOUR, signature, "cpu") == [0]


def test_the_classic_engine_never_gets_what_it_reads_beyond(graph):
    sizes = graph.constant(np.array([1, 3, 5, 5], np.int64))
    graph.op("Resize", "data", "", "", sizes, to="y", mode="linear")
    model = graph.model({"data": [1, 3, 3, 3]}, {"y": [1, 3, 5, 5]})
    assert _engines(FIVE, read_signature(model, "it"), "cpu") == [2]


@pytest.mark.skipif(not TWO_ENGINES, reason="this OpenCV has one engine")
def test_the_classic_engine_is_left_where_it_is_wrong(graph, noise, expected, difference):
    """It ignores count_include_pad; of the converter's nets too it is taken only after it was seen to agree."""
    settings = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "count_include_pad": 1}
    graph.op("AveragePool", graph.conv("data", 3, 4), to="y", **settings)
    data = noise(2, 3, 7, 9)
    for producer in ("", "spherecv"):
        model = onnx.load_from_string(graph.model({"data": ["N", 3, 7, 9]}, {"y": ["N", None, None, None]}))
        model.producer_name = producer
        session = Session(model.SerializeToString())
        assert session._backend.version == f"{cv2.__version__} engine {cv2.dnn.ENGINE_NEW}"
        answer = session.run(data)["y"]
        assert difference(answer, expected(model.SerializeToString(), {"data": data})["y"]) < 1e-5


@pytest.mark.skipif(not TWO_ENGINES, reason="this OpenCV has one engine")
def test_the_engine_asked_for_is_the_engine_used(models):
    """OpenCV 5.0 does not heed the engine when it reads from a buffer, so a net must come from a file."""
    layers = {}
    for name in ("dense", "depthwise"):
        model = loaded(models[name])
        order = [cv2.dnn.ENGINE_CLASSIC, cv2.dnn.ENGINE_NEW]
        net, engine = _load(cv2, model, order[::-1] if name == "depthwise" else order)
        layers[name] = (engine, net.getLayerNames()[0])
    assert layers["dense"][0] == cv2.dnn.ENGINE_CLASSIC
    assert layers["dense"][1].startswith("onnx_node!")
    assert layers["depthwise"][0] == cv2.dnn.ENGINE_NEW
    assert not layers["depthwise"][1].startswith("onnx_node!")


OPERATORS = {
    "AveragePool": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1},
    "Dropout": {},
    "Flatten": {"axis": 1},
    "GlobalAveragePool": {},
    "Identity": {},
    "LeakyRelu": {"alpha": 0.25},
    "MaxPool": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "Relu": {},
    "Sigmoid": {},
    "Softmax": {"axis": 1},
    "Tanh": {},
}


OTHERS = {"Add", "Concat", "Conv", "Gemm", "Mul", "PRelu", "Reshape", "Slice"}


@pytest.mark.parametrize("operator", sorted({*OPERATORS, *OTHERS}))
def test_each_operator_with_batches_that_change(operator, graph, noise, expected, difference):
    """What the engine that comes first can do of itself; and OpenCV 4.x, which has no other."""
    hidden = graph.conv("data", 3, 4)
    if operator in OPERATORS:
        graph.op(operator, hidden, to="y", **OPERATORS[operator])
    elif operator in ("Add", "Mul"):
        graph.op(operator, hidden, graph.conv("data", 3, 4), to="y")
    elif operator == "Concat":
        graph.op("Concat", hidden, graph.conv("data", 3, 2), to="y", axis=1)
    elif operator == "Slice":
        begin, end, axis = (graph.constant(np.array([number])) for number in (1, 3, 1))
        graph.op("Slice", hidden, begin, end, axis, to="y")
    elif operator == "PRelu":
        graph.prelu(hidden, 4)
        graph.nodes[-1].output[0] = "y"
    elif operator == "Reshape":
        rows = graph.op("Reshape", hidden, graph.constant(np.array([-1, 4 * 7 * 9])))
        planes = graph.op("Reshape", rows, graph.constant(np.array([0, 4, 9, -1])))
        graph.op("Reshape", planes, graph.constant(np.array([0, 2, 14, 9])), to="y")
    elif operator == "Gemm":
        graph.dense(graph.op("Flatten", hidden, axis=1), 4 * 7 * 9, 5, "y")
    else:
        assert operator == "Conv"
        graph.nodes[-1].output[0] = "y"
    rank = 2 if operator in ("Flatten", "Gemm") else 4
    model = graph.model({"data": ["N", 3, 7, 9]}, {"y": ["N", *(None for _ in range(rank - 1))]})
    session = Session(model, winograd=False)
    for batch in (3, 1, 7, 2):
        data = noise(batch, 3, 7, 9)
        answer = session.run(data)["y"]
        assert difference(answer, expected(model, {"data": data})["y"]) < 1e-5


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 1, 3), (2, 3, 4, 5), (2, 2, 3, 4, 5)])
def test_arrays_of_every_rank(shape, noise, graph):
    graph.op("Relu", "data", to="y")
    dims = ["N", *shape[1:]]
    session = Session(graph.model({"data": dims}, {"y": dims}))
    for batch in (shape[0], 1, 4):
        data = noise(batch, *shape[1:])
        assert np.array_equal(session.run(data)["y"], np.maximum(data, 0))


def test_an_output_of_one_axis(noise, graph):
    graph.op("ReduceMean", "data", to="y", axes=[1], keepdims=0)
    session = Session(graph.model({"data": ["N", 3]}, {"y": ["N"]}))
    for batch in (1, 4):
        data = noise(batch, 3)
        assert np.allclose(session.run(data)["y"], data.mean(axis=1), atol=1e-6)


# Where a net is read from


def test_a_net_of_bytes_leaves_no_file(models, noise, monkeypatch, tmp_path):
    data = noise(2, 3, 28, 24)
    wanted = Session(models["dense"]).run(data)["fc5"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delattr(os, "memfd_create", raising=False)
    session = Session(models["dense"])
    assert np.array_equal(session.run(data)["fc5"], wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_room_for_a_file(models, noise, monkeypatch):
    data = noise(2, 3, 16, 16)
    wanted = Session(models["depthwise"]).run(data)["fc1"]

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "memfd_create", full, raising=False)
    assert np.array_equal(Session(models["depthwise"]).run(data)["fc1"], wanted)
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    assert np.array_equal(Session(models["depthwise"]).run(data)["fc1"], wanted)


def test_a_name_that_windows_cannot_pass_on(models, noise, monkeypatch, tmp_path):
    path = tmp_path / "né.onnx"
    net = onnx.load_from_string(models["depthwise"])
    net.producer_name = "spherecv"  # which is loaded from the file itself
    onnx.save(net, str(path))
    data = noise(2, 3, 16, 16)
    wanted = Session(path).run(data)["fc1"]
    monkeypatch.setattr("sys.platform", "win32")
    opened = []
    read = cv2.dnn.readNetFromONNX
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda net, *engine: (opened.append(net), read(net, *engine))[1])
    assert np.array_equal(Session(path).run(data)["fc1"], wanted)
    assert isinstance(opened[0], np.ndarray)


# Threads and the log belong to the process


@pytest.fixture
def process_threads():
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


def test_the_number_of_threads_is_put_back(models, noise, process_threads):
    cv2.setNumThreads(2)
    session = Session(models["dense"], threads=1)
    seen = []
    net = session._backend._net
    session._backend._net = SimpleNamespace(
        setInput=net.setInput, forward=lambda names: (seen.append(cv2.getNumThreads()), net.forward(names))[1]
    )
    session.run(noise(2, 3, 28, 24))
    assert seen == [1]
    assert cv2.getNumThreads() == 2
    assert Session(models["dense"]).threads == 2


def test_the_number_of_threads_is_put_back_after_a_failure(models, process_threads):
    cv2.setNumThreads(2)
    session = Session(models["dense"], threads=1)
    with pytest.raises(BackendError):
        session._backend.run({"data": np.zeros((1, 3, 5, 5), np.float32)})
    assert cv2.getNumThreads() == 2


def test_calls_with_different_numbers_of_threads_do_not_mix(process_threads):
    cv2.setNumThreads(2)
    running: list[int] = []
    together, mixed, wrong = set(), [], []
    guard = threading.Lock()

    def work(threads: int | None) -> None:
        for _ in range(20):
            with nets.running(cv2, threads):
                with guard:
                    running.append(threads or 2)
                    together.add(len(running))
                    mixed.append(len(set(running)) > 1)
                    wrong.append(cv2.getNumThreads() != (threads or 2))
                time.sleep(0.001)
                with guard:
                    running.remove(threads or 2)

    workers = [threading.Thread(target=work, args=(count,)) for count in (1, 1, 1, None, None, None)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not any(mixed)
    assert not any(wrong)
    assert max(together) > 1, "calls with equal numbers run side by side"
    assert cv2.getNumThreads() == 2


def test_the_log_is_put_back(models, noise):
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    try:
        for level in (logging.LOG_LEVEL_WARNING, logging.LOG_LEVEL_ERROR):
            logging.setLogLevel(level)
            Session(models["dense"]).run(noise(1, 3, 28, 24))
            assert logging.getLogLevel() == level
        logging.setLogLevel(logging.LOG_LEVEL_INFO)
        with nets.running(cv2, None):
            assert logging.getLogLevel() == logging.LOG_LEVEL_INFO
    finally:
        logging.setLogLevel(before)


# CUDA, with an OpenCV that says it has it


def pretend_cuda(monkeypatch, devices: int) -> None:
    monkeypatch.setattr(cv2.dnn, "getAvailableTargets", lambda backend: [cv2.dnn.DNN_TARGET_CUDA])
    monkeypatch.setattr(cv2.cuda, "getCudaEnabledDeviceCount", lambda: devices)


def test_cuda_without_a_device(models, monkeypatch):
    pretend_cuda(monkeypatch, 0)
    with pytest.raises(DeviceError, match="OpenCV sees no CUDA device: check nvidia-smi"):
        Session(models["dense"], device="cuda")


def test_cuda_is_asked_of_the_net(models, monkeypatch):
    pretend_cuda(monkeypatch, 1)
    asked = []
    net = SimpleNamespace(
        empty=lambda: False,
        enableWinograd=lambda on: None,
        setPreferableBackend=lambda value: asked.append(value),
        setPreferableTarget=lambda value: asked.append(value),
    )
    monkeypatch.setattr("spherecv.runtime.agreement.disagreement", lambda *_: "")  # this net computes nothing
    engines = []
    monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda path, *engine: (engines.extend(engine), net)[1])
    session = Session(models["depthwise"], device="cuda")
    assert session.device == "cuda"
    assert asked == [cv2.dnn.DNN_BACKEND_CUDA, cv2.dnn.DNN_TARGET_CUDA]
    assert engines == ([cv2.dnn.ENGINE_CLASSIC] if TWO_ENGINES else [])


def test_cuda_of_an_opencv_whose_nets_run_on_the_cpu_only(models, monkeypatch):
    pretend_cuda(monkeypatch, 1)
    monkeypatch.setattr(cv2.dnn, "ENGINE_NEW", 2, raising=False)
    monkeypatch.delattr(cv2.dnn, "ENGINE_CLASSIC", raising=False)
    with pytest.raises(DeviceError, match="runs on the CPU only: use backend='onnxruntime'"):
        Session(models["dense"], device="cuda")


def test_reasons_are_one_line_without_positions_in_the_source():
    text = (
        "OpenCV(4.14.0) /io/opencv/modules/dnn/src/layers/gemm_layer.cpp:70: error: (-2:Unspecified error) in function "
        "'virtual bool f(const std::vector<int>&)'\n> DNN/Gemm: Invalid dimension of dim K (expected: 'K_a == K_b'), "
        "where\n>     'K_a' is 768\n> must be equal to\n>     'K_b' is 1152\n"
    )
    error = opencv_backend.backend_error("it failed", opencv_backend._reason(cv2.error(text)))
    assert str(error) == (
        "it failed: DNN/Gemm: Invalid dimension of dim K (expected: 'K_a == K_b'), where 'K_a' is 768 must be equal to "
        "'K_b' is 1152"
    )


def test_source_is_left_where_it_is(models, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(models["dense"])
    Session(path)
    assert list(tmp_path.iterdir()) == [path]
    assert Path(path).read_bytes() == models["dense"]
