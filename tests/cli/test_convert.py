"""`spherecv convert`: any blob, any shape, and the proof of the numbers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from spherecv import FaceEmbedder, FacePipeline
from spherecv.caffe import load, write_blob
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.cli import parity
from spherecv.errors import BackendError
from spherecv.zoo import ModelSource, models_dir, open_model

TEXT = """layer { name: "in" type: "Data" top: "data" top: "label" }
layer { name: "conv/1" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 5 } }
layer { name: "fancy" type: "Fancy" bottom: "f" top: "z" fancy_param { x: 1 } }
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    numbers = np.random.default_rng(0)
    weights = NetParameter()
    for name, *shapes in (("conv/1", (4, 3, 3, 3), (4,)), ("fc", (5, 144), (5,))):
        stored = weights.layer.add(name=name)
        for shape in shapes:
            write_blob(numbers.uniform(-1, 1, shape), stored.blobs.add())
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(TEXT)
    caffemodel.write_bytes(weights.SerializeToString())
    return prototxt, caffemodel


SHAPE = ("--input-shape", "data=1,3,8,8")


def test_a_blob_before_an_unknown_layer(run, failure, files, tmp_path: Path) -> None:
    assert "--input-shape data=1,3,HEIGHT,WIDTH" in failure(run("convert", *files, "--summary", "--output", "f"))
    assert "layer 'fancy' (Fancy, line 5)" in failure(run("convert", *files, "--summary", *SHAPE))
    goal = tmp_path / "net.onnx"
    result = run("convert", *files, "-o", goal, "--output", "f", "--output", "c", *SHAPE)
    assert result.exit_code == 0, result.output
    assert "outputs f, c" in result.stdout
    import onnx

    assert [output.name for output in onnx.load(goal).graph.output] == ["f", "c"]


@pytest.mark.parametrize("text", ["data", "data=", "=1,2", "data=1,x", "data=1,-3", "data=99999999999"])
def test_shapes_that_are_none(run, failure, files, text) -> None:
    assert "must read like data=1,3,112,96" in failure(run("convert", *files, "--summary", "--input-shape", text))


def test_a_net_is_verified_in_every_backend(run, files) -> None:
    result = run("convert", *files, "--verify", "--output", "f", *SHAPE, "--json")
    assert result.exit_code == 0, result.output
    verdict = json.loads(result.stdout)["verify"]
    assert (verdict["agrees"], verdict["reference"]) == (True, "onnxruntime")
    rows = {row["runtime"]: row["relative"] for row in verdict["differences"]}
    assert "opencv" in rows
    assert all(value < 1e-4 for value in rows.values())
    table = run("convert", *files, "--verify", "--output", "f", *SHAPE).stdout
    assert table.startswith("compared with onnxruntime")


def test_a_difference_above_the_tolerance_is_exit_code_1(run, files, monkeypatch) -> None:
    compare = parity.compare

    def worse(*args):
        found = compare(*args)
        first = replace(found.differences[0], largest=float("inf"), relative=float("inf"))
        return replace(found, differences=(first, *found.differences[1:]))

    monkeypatch.setattr(parity, "compare", worse)
    result = run("convert", *files, "--verify", "--output", "f", *SHAPE)
    assert result.exit_code == 1
    assert "above 0.0001" in result.stdout
    result = run("convert", *files, "--verify", "--output", "f", *SHAPE, "--json")
    assert (result.exit_code, json.loads(result.stdout)["verify"]["agrees"]) == (1, False)


def test_the_tolerance_must_be_a_number(run, failure, files) -> None:
    for text in ("-1", "nan", "inf"):
        assert "--tolerance" in failure(run("convert", *files, "--verify", "--tolerance", text, *SHAPE))


def _compared(monkeypatch, net, files, **runs):
    monkeypatch.setattr(parity, "_runtimes", lambda *args: iter(runs.items()))
    return parity.compare(net, *files)


def _answering(change):
    return lambda: lambda feeds: {"f": change(np.ones((1, 5), np.float32) * 4)}


def test_differences_are_shares_of_the_largest_value(files, monkeypatch) -> None:
    net = load(*files, outputs=["f"], input_shapes={"data": (1, 3, 8, 8)})
    runs = {
        "onnxruntime": _answering(lambda x: x),
        "opencv": _answering(lambda x: x + [[0, 0, 0, 0, 1]]),
        "openvino": _answering(lambda x: x * np.nan),
        parity.IMPORTER: _answering(lambda x: x[:, :4]),
    }
    found = _compared(monkeypatch, net, files, **runs)
    assert [(row.runtime, row.largest, row.relative) for row in found.differences] == [
        ("opencv", 1, 0.25), ("openvino", np.inf, np.inf), (parity.IMPORTER, np.inf, np.inf),
    ]  # fmt: skip
    assert not found.agrees(1)
    assert found.differences[1].to_dict() == {"output": "f", "runtime": "openvino", "largest": None, "relative": None}
    caffe = _compared(monkeypatch, net, files, caffe=_answering(lambda x: x * 2), onnxruntime=_answering(lambda x: x))
    assert (caffe.reference, caffe.differences[0].relative) == ("caffe", 0.5)


def test_one_runtime_alone_proves_nothing(files, monkeypatch) -> None:
    def broken():
        raise RuntimeError("no such\nlayer")

    net = load(*files, outputs=["f"], input_shapes={"data": (1, 3, 8, 8)})
    with pytest.raises(
        BackendError, match=r"onnxruntime alone ran the net: nothing to compare with \(opencv: no such layer\)"
    ):
        _compared(monkeypatch, net, files, onnxruntime=_answering(lambda x: x), opencv=broken)
    found = _compared(monkeypatch, net, files, onnxruntime=_answering(abs), openvino=_answering(abs), opencv=broken)
    assert (found.failures, found.agrees(0)) == ({"opencv": "no such layer"}, True)


def test_real_caffe_is_the_reference_where_it_can_be_imported(files, monkeypatch) -> None:
    """A stand-in with the interface of pycaffe that answers with what ONNX Runtime gives, times two."""
    import importlib.machinery
    import sys
    import types

    from spherecv.runtime import Session

    net = load(*files, outputs=["f"], input_shapes={"data": (1, 3, 8, 8)})
    session = Session(net.to_onnx(), backend="onnxruntime")

    class Blob:
        data = np.zeros((2, 3, 9, 9), np.float32)

        def reshape(self, *shape):
            self.data = np.zeros(shape, np.float32)

    class Net:
        def __init__(self, prototxt, caffemodel, phase):
            assert (prototxt, caffemodel, phase) == (*map(str, files), 1)
            self.blobs = {"data": Blob(), "f": Blob()}

        def forward(self):
            self.blobs["f"].data = 2 * session.run(self.blobs["data"].data)["f"]

    caffe = types.ModuleType("caffe")
    caffe.__spec__ = importlib.machinery.ModuleSpec("caffe", None)
    vars(caffe).update(Net=Net, TEST=1, set_mode_cpu=lambda: None)
    monkeypatch.setitem(sys.modules, "caffe", caffe)
    found = parity.compare(net, *files)
    assert found.reference == "caffe"
    assert {row.runtime for row in found.differences} >= {"opencv", "onnxruntime"}
    assert all(
        row.relative == pytest.approx(0.5, abs=1e-4) for row in found.differences if row.runtime != parity.IMPORTER
    )


@pytest.mark.runtime
def test_opencv_4s_importer_is_a_second_opinion(data_dir: Path) -> None:
    import cv2

    if not cv2.__version__.startswith("4"):
        pytest.skip("OpenCV 5 has no Caffe importer")
    det1 = data_dir / "mtcnn-caffe" / "det1"
    files = det1.with_suffix(".prototxt"), det1.with_suffix(".caffemodel")
    found = parity.compare(load(*files), *files)
    rows = [row for row in found.differences if row.runtime == parity.IMPORTER]
    assert sorted(row.output for row in rows) == ["conv4-2", "prob1"]
    assert all(row.relative < 1e-4 for row in rows)


FILTERED = b"""input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layer { name: "loc" type: "Flatten" bottom: "data" top: "loc" }
layer { name: "one" type: "Reduction" bottom: "data" top: "one" reduction_param { axis: 1 } }
layer { name: "keep" type: "Filter" bottom: "loc" bottom: "one" top: "kept" }
layer { name: "after" type: "ReLU" bottom: "kept" top: "after" }
layer { name: "plain" type: "Power" bottom: "data" top: "plain" }"""


def test_detections_are_compared_by_what_they_are_made_from() -> None:
    net = load(FILTERED)
    assert net.outputs == ("after", "plain")
    assert parity._of_fixed_shape(net) == ("loc", "one", "plain")


def test_what_is_computed_after_the_net_is_said(run, tmp_path: Path) -> None:
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_bytes(FILTERED)
    caffemodel.write_bytes(NetParameter(layer=[{"name": "plain", "type": "Power"}]).SerializeToString())
    result = run("convert", prototxt, caffemodel, "-o", tmp_path / "net.onnx")
    assert result.exit_code == 0
    found = [port.name for port in onnx.load(tmp_path / "net.onnx").graph.output]
    assert f"computes after after the net; other software that reads the file gets {', '.join(found)}" in result.stdout


def test_int8_of_photographs(run, data_dir: Path, tmp_path: Path) -> None:
    """Faces are found and aligned in them; what has no face, or is no image, is passed over."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("img1.jpg", "img4.jpg", "img7.jpg"):
        shutil.copy(data_dir / "deepface-pairs" / name, photos)
    cv2.imwrite(str(photos / "wall.png"), np.full((300, 400, 3), 90, np.uint8))
    (photos / "broken.jpg").write_bytes(b"no image")
    mini = [models_dir() / f"sphereface-mini.{kind}" for kind in ("prototxt", "caffemodel")]
    out = tmp_path / "int8.onnx"
    asked = ("--precision", "int8", "--calibrate", photos, "--recipe", "sphereface-mini", "--out", out)
    assert run("convert", *mini, *asked).exit_code == 0
    held = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert json.loads(held["spherecv.int8"])["calibration"]["images"] == 3
    source = open_model("sphereface-mini")
    short = FaceEmbedder(ModelSource.from_onnx(out, recipe=source.recipe), backend="onnxruntime")
    assert short.precision == "int8"
    exact = FacePipeline(FaceEmbedder(source, backend="onnxruntime"))
    (face,) = exact.faces(data_dir / "deepface-pairs" / "img2.jpg")
    got, wanted = short.embed(face.crop[None])[0], face.embedding
    cosine = float(got @ wanted / (np.linalg.norm(got) * np.linalg.norm(wanted)))
    assert 0.97 < cosine < 0.999999


def test_int8_needs_faces(run, failure, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((300, 400, 3), 90, np.uint8))
    mini = [models_dir() / f"sphereface-mini.{kind}" for kind in ("prototxt", "caffemodel")]
    asked = ("--precision", "int8", "--recipe", "sphereface-mini", "--out", tmp_path / "int8.onnx")
    assert "--precision int8 and --calibrate IMAGES go together" in failure(run("convert", *mini, *asked))
    assert "has a face that could be found" in failure(run("convert", *mini, *asked, "--calibrate", tmp_path))
    assert not (tmp_path / "int8.onnx").exists()
