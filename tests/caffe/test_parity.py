"""Real nets, in every runtime, against OpenCV 4.14's own Caffe importer: live on 4.x, stored outputs on 5.x."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from spherecv.caffe import load

REFERENCES = Path(__file__).resolve().parent / "references"
MAKE = SimpleNamespace(**runpy.run_path(str(REFERENCES / "make.py")))
LIMITS = {"direct": 1e-5, "winograd": 1e-4}

pytestmark = pytest.mark.runtime


@pytest.fixture(scope="module", params=MAKE.CASES)
def model(request, numbers, seeded_weights):
    """A model's name, two files, net, ONNX and inputs."""
    name = request.param
    tools = {"numbers_of": numbers, "weights_of": seeded_weights}
    data = request.getfixturevalue("data_dir") if isinstance(MAKE.CASES[name][0], str) else None
    prototxt, caffemodel = MAKE.caffe_files(name, data, tools)
    net = load(prototxt, caffemodel)
    inputs = MAKE.make_inputs(name, net.inputs["data"][1], tools)
    return SimpleNamespace(
        name=name, prototxt=prototxt, caffemodel=caffemodel, net=net, onnx=net.to_onnx(), inputs=inputs
    )


@pytest.mark.parametrize("mode", LIMITS)
def test_opencv_gives_the_outputs_of_the_caffe_importer(model, mode, run_opencv, deviation):
    stored = np.load(REFERENCES / f"{model.name}.npz")
    feeds = [{"data": array} for array in model.inputs]
    winograd = MAKE.WINOGRAD[mode]
    live = None
    if hasattr(cv2.dnn, "readNetFromCaffe"):
        live = MAKE.run_caffe(model.prototxt, model.caffemodel, model.inputs, winograd=winograd)
    for engine, results in run_opencv(model.onnx, feeds, model.net.outputs, winograd=winograd):
        for index, result in enumerate(results):
            for output, values in result.items():
                sample, largest = (stored[f"{mode}/{index}/{output}/{what}"] for what in ("sample", "largest"))
                off = np.abs(MAKE.sample(values) - sample).max() / largest
                assert off < LIMITS[mode], f"{engine}, {output} of input {index}: off by {off:.2g}"
                if live is not None:
                    assert deviation(values, live[index][output]) < LIMITS[mode]


def test_onnxruntime_gives_the_outputs_of_the_caffe_importer(model, run_onnxruntime):
    stored = np.load(REFERENCES / f"{model.name}.npz")
    for index, array in enumerate(model.inputs[:2]):
        for output, values in run_onnxruntime(model.onnx, {"data": array}).items():
            sample, largest = (stored[f"direct/{index}/{output}/{what}"] for what in ("sample", "largest"))
            assert np.abs(MAKE.sample(values) - sample).max() / largest < 1e-5


def test_signals_neither_vanish_nor_explode(model):
    stored = np.load(REFERENCES / f"{model.name}.npz")
    largest = [float(stored[key]) for key in stored.files if key.endswith("largest")]
    assert 1e-2 < min(largest)
    assert max(largest) < 1e4
