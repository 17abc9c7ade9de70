"""Trained files in OpenCV's own Caffe importer (4.x), and through our converter."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from spherecv.caffe import load
from spherecv.caffe.architectures import sphereface_training
from spherecv.caffe.reader import read_caffemodel
from spherecv.caffe.writer import write_prototxt
from spherecv.errors import CaffeModelError, InvalidArgumentError
from spherecv.train.backend import Backend, open_backend
from spherecv.train.deploy import export
from spherecv.train.net import Net
from spherecv.train.policies import Policy
from spherecv.train.run import open_run
from spherecv.train.solver import Solver, SolverSettings
from spherecv.train.weights import load_weights, to_caffemodel


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """SphereFace-10 after two steps, exported; a picture and its embedding by the trainer."""
    folder = tmp_path_factory.mktemp("trained")
    backend = open_backend("cpu")
    definition = sphereface_training(10, identities=5, batch_size=2)
    net = Net(definition, {"data": (2, 3, 112, 96), "label": (2,)}, backend)
    solver, rng = Solver(net.params, SolverSettings(policy=Policy(base_lr=0.01), momentum=0.9), backend), None
    rng = np.random.default_rng(0)
    for iteration in range(2):
        net.forward({"data": rng.normal(size=(2, 112, 96, 3)).astype(np.float32), "label": rng.integers(0, 5, 2)})
        net.backward()
        solver.step(iteration)
    write_prototxt(definition, folder / "train.prototxt")
    from spherecv.caffe.writer import write_caffemodel

    write_caffemodel(to_caffemodel(net), folder / "snapshot.caffemodel")
    outputs = export(
        folder / "train.prototxt",
        folder / "snapshot.caffemodel",
        folder / "d.prototxt",
        folder / "d.caffemodel",
        shape=(1, 3, 112, 96),
    )
    assert outputs == ("fc5",)
    x = rng.uniform(-1, 1, (1, 112, 96, 3)).astype(np.float32)
    embedding = net.forward({"data": x, "label": np.array([0])}, keep=["fc5"], learn=False).blobs["fc5"].copy()
    return folder / "d.prototxt", folder / "d.caffemodel", x.transpose(0, 3, 1, 2).copy(), embedding


def _close(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found.reshape(expected.shape) - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.runtime
def test_opencvs_caffe_importer_agrees(trained: tuple[Path, Path, np.ndarray, np.ndarray]) -> None:
    prototxt, caffemodel, x, expected = trained
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 has no Caffe importer")
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    net.enableWinograd(False)
    net.setInput(x)
    _close(net.forward("fc5"), expected)


@pytest.mark.runtime
def test_our_converter_agrees(trained: tuple[Path, Path, np.ndarray, np.ndarray]) -> None:
    from spherecv import runtime

    prototxt, caffemodel, x, expected = trained
    session = runtime.Session(load(prototxt, caffemodel).to_onnx(), winograd=False)
    _close(session.run(x)["fc5"], expected)


def test_round_trip_through_the_trainer(trained: tuple[Path, Path, np.ndarray, np.ndarray], single: Backend) -> None:
    prototxt, caffemodel, x, expected = trained
    net = Net.from_prototxt(prototxt, single)
    assert load_weights(net, caffemodel).complete
    _close(net.forward({"data": x.transpose(0, 2, 3, 1).copy()}, learn=False).blobs["fc5"], expected)


def test_weights_that_are_no_numbers_are_refused(
    trained: tuple[Path, Path, np.ndarray, np.ndarray], single: Backend
) -> None:
    prototxt, caffemodel, *_ = trained
    weights = read_caffemodel(caffemodel)
    name = next(layer.name for layer in weights.layer if layer.blobs)
    next(layer for layer in weights.layer if layer.blobs).blobs[0].data[0] = np.nan
    with pytest.raises(CaffeModelError, match=f"blob 0 of layer '{name}' holds 1 weights of .* NaN or infinite"):
        load_weights(Net.from_prototxt(prototxt, single), weights)


def test_size_must_be_known(small_run: Path) -> None:
    with open_run(small_run, workers=0) as run:
        run.trainer.run(4)
    folder = small_run.parent
    files = folder / "train.prototxt", folder / "run" / "small_iter_4.caffemodel"
    with pytest.raises(InvalidArgumentError, match="pass the size"):
        export(*files, folder / "d.prototxt", folder / "d.caffemodel")
    export(*files, folder / "d.prototxt", folder / "d.caffemodel", shape=(1, 3, 12, 10))
    net = load(folder / "d.prototxt", folder / "d.caffemodel")
    assert (net.inputs, net.outputs) == ({"data": (1, 3, 12, 10)}, ("fc5",))
    assert [layer.name for layer in net.layers] == ["conv1", "relu1", "conv2", "relu2", "res", "drop", "fc5"]


def test_nothing_is_written_for_weights_of_another_net(small_run: Path, data_dir: Path) -> None:
    folder = small_run.parent
    with pytest.raises(CaffeModelError):
        export(
            folder / "train.prototxt",
            data_dir / "mtcnn-caffe" / "det1.caffemodel",
            folder / "d.prototxt",
            folder / "d.caffemodel",
            shape=(1, 3, 12, 10),
        )
    assert not list(folder.glob("d.*"))
