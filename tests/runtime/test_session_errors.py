"""What a Session refuses: one line each, before anything is lost."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest

from spherecv.errors import BackendError, DeviceError, InvalidArgumentError, ModelFileError, SphereCVError
from spherecv.runtime import Session

pytestmark = pytest.mark.runtime


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
        ({"backend": "caffe"}, r"backend must be one of opencv, onnxruntime, openvino, auto, but got 'caffe'"),
        ({"device": "tpu"}, r"device must be one of cpu, cuda, auto, but got 'tpu'"),
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


def test_a_missing_device_is_an_error_and_never_the_cpu(backend, models):
    if backend == "onnxruntime" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    if backend == "opencv" and cv2.cuda.getCudaEnabledDeviceCount():
        pytest.skip("this OpenCV has CUDA")
    with pytest.raises(DeviceError, match="cannot use device 'cuda'"):
        Session(models["dense"], backend=backend, device="cuda")
