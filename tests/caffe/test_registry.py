"""Layers of one's own: in ONNX, in NumPy after the net, with settings, weights and Python's names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from spherecv.caffe import LayerKind, NumpyLayer, cached_onnx, load, register, unregister, write_blob
from spherecv.caffe.registry import fingerprint
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.errors import InvalidArgumentError, ModelFileError, PrototxtError, UnsupportedLayerError
from spherecv.runtime import Session

BACKENDS = ["opencv", "onnxruntime"]
INPUT = 'input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }\n'


class Cube(LayerKind):
    def emit(self, layer, bottoms, tops, graph):
        x = bottoms[0].name
        return [graph.node("Mul", [x, graph.node("Mul", [x, x])])]


def shifted(inputs, settings, weights):
    (x,) = inputs
    return [np.roll(x, settings["shift_param"]["by"], axis=1) + (weights[0] if weights else 0)]


@pytest.fixture
def own():
    """Registers, and forgets when the test ends."""
    names = []

    def add(name, kind, **options):
        register(name, kind, **options)
        names.append(name)

    yield add
    for name in reversed(names):
        unregister(name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kind_in_onnx(backend, own, numbers):
    own("Cube", Cube())
    text = (
        INPUT
        + 'layer { name: "c" type: "Cube" bottom: "x" top: "c" }'
        + 'layer { name: "r" type: "ReLU" bottom: "c" top: "r" }'
    )
    x = numbers((5, 3, 4, 4))
    answer = Session(load(text.encode()).to_onnx(), backend=backend).run(x)["r"]
    np.testing.assert_allclose(answer, np.maximum(x**3, 0), atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_between_two_nets(backend, own, numbers):
    own("Shift", NumpyLayer(shifted))
    text = (
        INPUT
        + 'layer { name: "a" type: "AbsVal" bottom: "x" top: "a" }'
        + 'layer { name: "s" type: "Shift" bottom: "a" top: "s" shift_param { by: 2 names: "u" flag: true } }'
        + 'layer { name: "p" type: "Power" bottom: "s" top: "p" power_param { scale: -2 } }'
    )
    x = numbers((5, 3, 4, 4))
    answer = Session(load(text.encode()).to_onnx(), backend=backend).run(x)["p"]
    np.testing.assert_allclose(answer, -2 * np.roll(np.abs(x), 2, axis=1), atol=1e-6)


def test_settings_have_their_types(own):
    own("Shift", NumpyLayer(shifted))
    text = INPUT + (
        'layer { name: "s" type: "Shift" bottom: "x" top: "s" shift_param { by: -2 names: "u" names: "v" flag: true '
        "rate: 1.5e1 mode: FAST octal: 017 inner { deep: [1, 2] } } }"
    )
    (layer,) = load(text.encode()).layers
    assert layer.settings == {
        "shift_param": {"by": -2, "names": ["u", "v"], "flag": True, "rate": 15.0, "mode": "FAST", "octal": 15,
                        "inner": {"deep": [1, 2]}}
    }  # fmt: skip


def test_weights_go_to_the_function(own, numbers):
    own("Shift", NumpyLayer(shifted, blob_shapes=lambda layer, bottoms: [(1, bottoms[0][1], 1, 1)]))
    text = INPUT + 'layer { name: "s" type: "Shift" bottom: "x" top: "s" shift_param { by: 1 } }'
    weights = NetParameter()
    write_blob(numbers((1, 3, 1, 1), 7), weights.layer.add(name="s", type="Shift").blobs.add())
    x = numbers((2, 3, 4, 4))
    answer = Session(load(text.encode(), weights.SerializeToString()).to_onnx()).run(x)["s"]
    np.testing.assert_array_equal(answer, np.roll(x, 1, axis=1) + numbers((1, 3, 1, 1), 7))


def test_a_python_layer_is_found_by_module_and_class(own, numbers):
    def scaled(inputs, settings, weights):
        return [inputs[0] * np.float32(settings["param_str"])]

    text = INPUT + (
        'layer { name: "p" type: "Python" bottom: "x" top: "p" '
        'python_param { module: "mine" layer: "Scaled" param_str: "0.25" } }'
    )
    with pytest.raises(UnsupportedLayerError, match=r"mine\.Scaled.*spherecv\.caffe\.register"):
        load(text.encode())
    own("mine.Scaled", NumpyLayer(scaled))
    x = numbers((2, 3, 4, 4))
    np.testing.assert_array_equal(Session(load(text.encode()).to_onnx()).run(x)["p"], x * np.float32(0.25))


def test_a_type_of_ours_can_be_replaced_and_comes_back(own, numbers):
    text = INPUT + 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    x = numbers((2, 3, 4, 4))
    with pytest.raises(InvalidArgumentError, match="'ReLU' is known"):
        register("ReLU", Cube())
    register("ReLU", Cube(), replace=True)
    np.testing.assert_allclose(Session(load(text.encode()).to_onnx()).run(x)["r"], x**3, atol=1e-6)
    unregister("ReLU")
    np.testing.assert_array_equal(Session(load(text.encode()).to_onnx()).run(x)["r"], np.maximum(x, 0))


def test_a_model_needs_its_function_to_be_registered(own):
    register("Shift", NumpyLayer(shifted))
    text = INPUT + 'layer { name: "s" type: "Shift" bottom: "x" top: "s" shift_param { by: 1 } }'
    model = load(text.encode()).to_onnx()
    unregister("Shift")
    with pytest.raises(ModelFileError, match=r"'Shift'.*spherecv\.caffe\.register"):
        Session(model)
    with pytest.raises(UnsupportedLayerError, match=r"unknown type.*spherecv\.caffe\.register"):
        load(text.encode())


def test_settings_of_other_layers_are_still_refused(own):
    own("Shift", NumpyLayer(shifted))
    text = INPUT + 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" shift_param { by: 1 } }'
    with pytest.raises(PrototxtError, match="no field 'shift_param'"):
        load(text.encode())


def test_what_is_registered_has_its_own_cache(own, tmp_path):
    made = []

    def convert():
        made.append(fingerprint())
        return b"model"

    cached_onnx("key", convert, cache_dir=tmp_path)
    own("Cube", Cube())
    cached_onnx("key", convert, cache_dir=tmp_path)
    cached_onnx("key", convert, cache_dir=tmp_path)
    assert len(made) == 2
    assert made[0] == ""
    assert made[1]


@pytest.mark.parametrize(
    ("name", "kind", "complaint"),
    [
        ("", Cube(), "must be a name"),
        ("Cube", Cube, "not its class"),
        ("Cube", shifted, "must be a LayerKind, but got function"),
        ("Input", Cube(), "is known"),
    ],
)
def test_mistakes(name, kind, complaint):
    with pytest.raises(InvalidArgumentError, match=complaint):
        register(name, kind)
    with pytest.raises(InvalidArgumentError, match="was registered"):
        unregister("Nothing")


def test_the_example_of_the_page_works(numbers):
    page = (Path(__file__).resolve().parents[2] / "docs" / "caffe.md").read_text(encoding="utf8")
    example = re.search(r"## Layers of one's own\n.*?```python\n(.*?)```", page, re.DOTALL)[1]
    text = INPUT.replace("dim: 4 dim: 4", "") + (
        'layer { name: "c" type: "Cube" bottom: "x" top: "c" } '
        'layer { name: "s" type: "Sort" bottom: "c" top: "s" sort_param { descending: true } } '
        'layer { name: "g" type: "Python" bottom: "s" top: "g" '
        'python_param { module: "my_layers" layer: "Gain" param_str: "2" } }'
    )
    try:
        exec(compile(example, "caffe.md", "exec"), {})
        x = numbers((2, 3))
        answer = Session(load(text.encode()).to_onnx()).run(x)["g"]
    finally:
        for name in ("Cube", "Sort", "my_layers.Gain"):
            unregister(name)
    np.testing.assert_allclose(answer, 2 * -np.sort(-(x**3), axis=1), atol=1e-6)
