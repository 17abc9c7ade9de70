"""A Session gives what the ONNX reference gives, whatever the backend, the batch and the thread."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from spherecv.errors import BackendError, DeviceError, InvalidArgumentError, ModelFileError, SphereCVError
from spherecv.runtime import Session
from spherecv.runtime.backend import ChunkLimit

pytestmark = pytest.mark.runtime

NAMES = ("dense", "depthwise", "any_size", "two_inputs", "one_at_a_time")


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_reference(name, backend, models, shapes, expected, noise, difference):
    session = Session(models[name], backend=backend)
    for sizes in shapes[name]:
        feeds = {key: noise(*shape) for key, shape in sizes.items()}
        answers = session.run(feeds)
        batch = len(next(iter(feeds.values())))
        wanted = expected(models["dense" if name == "one_at_a_time" else name], feeds)
        assert tuple(answers) == session.outputs == tuple(wanted)
        for key, answer in answers.items():
            assert answer.dtype == np.float32
            assert answer.flags.c_contiguous
            assert len(answer) == batch
            assert difference(answer, wanted[key]) < 1e-5


@pytest.mark.parametrize("name", ["det1", "det2", "det3", "det4", "mobilefacenet"])
def test_real_nets_agree_with_onnx_runtime(name, backend, caffe_onnx, noise, difference):
    if backend == "onnxruntime":
        pytest.skip("it is the oracle")
    model = caffe_onnx(name)
    oracle = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    exact, fast = Session(model, backend=backend, winograd=False), Session(model, backend=backend, winograd=True)
    channels, *sides = exact.inputs["data"][1:]
    sizes = [tuple(sides)] if None not in sides else [(40, 51), (12, 12), (83, 20)]
    for batch in (1, 2, 7, 1):
        for size in sizes:
            data = noise(batch, channels, *size)
            wanted = dict(zip(exact.outputs, oracle.run(list(exact.outputs), {"data": data}), strict=True))
            for session, most in ((exact, 1e-5), (fast, 1e-4)):
                answers = session.run(data)
                assert max(difference(answers[key], wanted[key]) for key in wanted) < most


@pytest.mark.parametrize("name", NAMES)
def test_no_items_give_no_items_of_the_right_shape(name, backend, models, shapes):
    session = Session(models[name], backend=backend)
    for sizes in shapes[name][:1]:
        one = session.run({key: np.zeros((1, *shape[1:]), np.float32) for key, shape in sizes.items()})
        none = session.run({key: np.zeros((0, *shape[1:]), np.float32) for key, shape in sizes.items()})
        assert {key: array.shape for key, array in none.items()} == {
            key: (0, *array.shape[1:]) for key, array in one.items()
        }
        assert all(array.dtype == np.float32 for array in none.values())


def test_outputs_belong_to_the_caller(backend, models, noise):
    session = Session(models["dense"], backend=backend)
    data = noise(3, 3, 28, 24)
    first = session.run(data)["fc5"]
    kept = first.copy()
    second = session.run(data * 2)["fc5"]
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)
    second[:] = 0
    assert np.array_equal(session.run(data)["fc5"], kept)
    del session
    gc.collect()
    assert np.array_equal(first, kept)


def test_inputs_are_left_alone_and_may_be_views(backend, models, noise):
    session = Session(models["dense"], backend=backend)
    images = noise(5, 28, 24, 3)
    view = images.transpose(0, 3, 1, 2)[::-1]
    view.flags.writeable = False
    before = images.copy()
    answer = session.run(view)["fc5"]
    assert np.array_equal(images, before)
    assert np.array_equal(answer, session.run(np.ascontiguousarray(view))["fc5"])


def test_outputs_asked_for_in_the_order_asked_for(backend, models, noise):
    data = noise(1, 3, 20, 20)
    both = Session(models["any_size"], backend=backend).run(data)
    turned = Session(models["any_size"], backend=backend, outputs=["boxes", "scores"])
    assert turned.outputs == ("boxes", "scores")
    answers = turned.run(data)
    assert list(answers) == ["boxes", "scores"]
    assert all(np.array_equal(answers[key], both[key]) for key in both)
    assert list(Session(models["any_size"], backend=backend, outputs=["boxes"]).run(data)) == ["boxes"]


def test_from_a_path_as_from_bytes(backend, models, noise, tmp_path):
    path = tmp_path / "нет é.onnx"
    path.write_bytes(models["dense"])
    data = noise(2, 3, 28, 24)
    wanted = Session(models["dense"], backend=backend).run(data)["fc5"]
    for source in (path, str(path), bytearray(models["dense"]), memoryview(models["dense"])):
        assert np.array_equal(Session(source, backend=backend).run(data)["fc5"], wanted)


def test_what_a_session_says_of_itself(models):
    session = Session(models["any_size"], threads=1)
    assert session.inputs == {"data": (None, 3, None, None)}
    assert session.outputs == ("scores", "boxes")
    assert (session.backend, session.device, session.threads) == ("opencv", "cpu", 1)
    assert repr(session) == "Session(data (None, 3, None, None) -> scores, boxes; opencv, cpu)"
    assert Session(models["one_at_a_time"]).inputs == {"data": (None, 3, 28, 24)}


# Batches


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


# Threads


def test_many_threads_share_one_session(backend, models, noise):
    """Eight threads, batches of their own, and exactly what one thread alone gets."""
    session = Session(models["dense"], backend=backend)
    batches = [noise(size, 3, 28, 24) for size in (1, 2, 3, 5, 8, 13, 21, 34)]
    wanted = [session.run(batch)["fc5"] for batch in batches]
    wrong: list[object] = []
    ready = threading.Barrier(len(batches))

    def work(index: int) -> None:
        ready.wait()
        try:
            for _ in range(12):
                answer = session.run(batches[index])["fc5"]
                if not np.array_equal(answer, wanted[index]):
                    wrong.append((index, np.abs(answer - wanted[index]).max()))
        except SphereCVError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_number_of_threads_does_not_change_the_answer(backend, models, noise, difference):
    data = noise(4, 3, 28, 24)
    one, two = (Session(models["dense"], backend=backend, threads=count) for count in (1, 2))
    assert (one.threads, two.threads) == (1, 2)
    assert difference(one.run(data)["fc5"], two.run(data)["fc5"]) < 1e-6
    assert Session(models["dense"], backend=backend).threads >= 1


# Errors: one line each, before anything is lost


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("dense", np.zeros((2, 3, 28, 24)), r"'data' must be a NumPy array of float32, but got float64"),
        ("dense", np.zeros((2, 3, 28, 24), np.uint8), r"but got uint8"),
        ("dense", np.zeros((2, 3, 28, 24), ">f4"), r"but got >f4"),
        ("dense", [[1.0]], r"but got list"),
        ("dense", None, r"but got NoneType"),
        ("dense", np.zeros((3, 28, 24), np.float32), r"must have shape \(N, 3, 28, 24\), but got \(3, 28, 24\)"),
        ("dense", np.zeros((2, 4, 28, 24), np.float32), r"must have shape \(N, 3, 28, 24\), but got \(2, 4, 28, 24\)"),
        ("dense", {"date": np.zeros((2, 3, 28, 24), np.float32)}, r"has the inputs 'data', but got 'date'"),
        ("dense", {}, r"has the inputs 'data', but got "),
        ("one_at_a_time", np.zeros((1, 3, 28, 25), np.float32), r"must have shape \(N, 3, 28, 24\)"),
        ("any_size", np.zeros((2, 3, 0, 24), np.float32), r"only a batch may have no items"),
        ("any_size", np.zeros((2, 3, 40, 8), np.float32), r"'data' must be 11 x 11 at least, but got \(2, 3, 40, 8\)"),
        ("two_inputs", np.zeros((2, 5), np.float32), r"the inputs 'left', 'right': pass a dict"),
        ("two_inputs", {"left": np.zeros((2, 5), np.float32)}, r"but got 'left'"),
        (
            "two_inputs",
            {"left": np.zeros((2, 5), np.float32), "right": np.zeros((3, 3), np.float32)},
            r"'right' has 3 along axis 0, where 2 was given before",
        ),
    ],
)
def test_inputs_are_checked(name, inputs, message, backend, models):
    session = Session(models[name], backend=backend)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        session.run(inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "caffe"}, r"backend must be one of 'opencv', 'onnxruntime', 'openvino', 'auto', but got 'caffe'"),
        ({"device": "tpu"}, r"device must be one of 'cpu', 'cuda', 'auto', but got 'tpu'"),
        ({"threads": 0}, r"threads must be a whole number from 1 to 1024, but got 0"),
        ({"threads": 1.5}, r"but got 1.5"),
        ({"threads": True}, r"but got True"),
        ({"outputs": ["fc6"]}, r"the model has no output 'fc6': it has 'fc5'"),
        ({"outputs": "fc5"}, r"outputs must be a sequence of names"),
        ({"outputs": []}, r"outputs must be a sequence of names"),
    ],
)
def test_options_are_checked(options, message, models):
    with pytest.raises(InvalidArgumentError, match=message):
        Session(models["dense"], **options)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 this is no model", b"\x08\x07\x12\x04abc"])
def test_what_is_no_model_is_said_so(content, tmp_path, backend):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ModelFileError) as caught:
            Session(source, backend=backend)
        assert "\n" not in str(caught.value)
    assert str(path) in str(_error(path))


def _error(source: object) -> SphereCVError:
    with pytest.raises(SphereCVError) as caught:
        Session(source)
    return caught.value


def test_files_that_cannot_be_read(tmp_path):
    assert str(_error(tmp_path / "none.onnx")) == f"{tmp_path / 'none.onnx'} cannot be read: No such file or directory"
    assert "Is a directory" in str(_error(tmp_path))
    assert isinstance(_error(17), InvalidArgumentError)


def test_a_model_cut_short_is_an_error(backend, models, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(models["dense"][:-1000])
    with pytest.raises(ModelFileError, match=r"net\.onnx is not a whole ONNX model"):
        Session(path, backend=backend)


def test_models_that_do_not_work_on_floats(graph):
    from onnx import TensorProto

    graph.op("Relu", "ids", to="y")
    with pytest.raises(ModelFileError, match="input 'ids' of the model is int64: a Session feeds float32 only"):
        Session(graph.model({"ids": ["N", 3]}, {"y": ["N", 3]}, element=TensorProto.INT64))


def test_a_net_that_a_backend_cannot_load_or_run_is_one_quiet_line(backend, graph, noise, capfd):
    graph.op("NoSuchOperator", "data", to="y")
    unknown = graph.model({"data": ["N", 3]}, {"y": ["N", 3]})
    with pytest.raises(BackendError, match=r"the model: .*NoSuchOp") as caught:
        Session(unknown, backend=backend)
    assert "\n" not in str(caught.value)

    graph.nodes.clear()
    graph.op("MatMul", "left", "right", to="y")
    session = Session(graph.model({"left": ["N", 3, "H"], "right": ["N", "K", 4]}, {"y": ["N", 3, 4]}), backend=backend)
    assert session.run({"left": noise(2, 3, 8), "right": noise(2, 8, 4)})["y"].shape == (2, 3, 4)
    with pytest.raises(BackendError, match="failed on the model") as caught:
        session.run({"left": noise(2, 3, 8), "right": noise(2, 5, 4)})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert session.run({"left": noise(1, 3, 8), "right": noise(1, 8, 4)})["y"].shape == (1, 3, 4)
    assert capfd.readouterr() == ("", "")


def test_nan_passes_through(backend, models, noise):
    data = noise(2, 3, 28, 24)
    data[1] = np.nan
    answer = Session(models["dense"], backend=backend).run(data)["fc5"]
    assert np.isfinite(answer[0]).all()
    assert np.isnan(answer[1]).all()


# Devices


def test_a_missing_device_is_an_error_and_never_the_cpu(backend, models):
    if backend == "onnxruntime" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    if backend == "opencv" and cv2.cuda.getCudaEnabledDeviceCount():
        pytest.skip("this OpenCV has CUDA")
    with pytest.raises(DeviceError, match="cannot use device 'cuda'"):
        Session(models["dense"], backend=backend, device="cuda")


def test_auto_finds_something_that_works(models, noise, installed):
    session = Session(models["dense"], backend="auto", device="auto")
    assert session.backend in installed
    assert session.device in ("cpu", "cuda")
    assert session.run(noise(2, 3, 28, 24))["fc5"].shape == (2, 8)
