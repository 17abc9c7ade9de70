from __future__ import annotations

import pytest

from spherecv.caffe import load
from spherecv.caffe.graph import check_wiring, fits_a_blob, in_phase, layers_of, open_ends, single_assignment
from spherecv.caffe.reader import read_definition
from spherecv.caffe.spherecv_caffe_pb2 import TEST, TRAIN, NetParameter
from spherecv.errors import CaffeModelError, PrototxtError, UnsupportedLayerError


def _layers(text: str):
    definition = read_definition(text.encode())
    return layers_of(definition.message, definition.outline)


def _layer(name: str, bottoms: str = "", tops: str | None = None, extra: str = "") -> str:
    words = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in (tops or name).split()]
    return f'layer {{ name: "{name}" type: "ReLU" {" ".join(words)} {extra} }}\n'


def test_layers_know_their_lines():
    layers = _layers(_layer("a") + "\n# comment\n" + _layer("b"))
    assert [str(layer) for layer in layers] == ["layer 'a' (ReLU, line 1)", "layer 'b' (ReLU, line 4)"]


def test_weights_inside_a_definition_do_not_stay_in_the_settings():
    net = NetParameter()
    net.layer.add(name="a").blobs.add(data=[1])
    assert not layers_of(net)[0].param.blobs
    assert net.layer[0].blobs


RULES = [
    ("", True, True),
    ("include { phase: TRAIN }", True, False),
    ("include { phase: TEST }", False, True),
    ("exclude { phase: TEST }", True, False),
    ("include { phase: TRAIN } include { phase: TEST stage: 'deploy' }", True, True),
    ("include { stage: 'deploy' }", True, True),
    ("include { stage: 'other' }", False, False),
    ("include { not_stage: 'deploy' }", False, False),
    ("include { min_level: 3 }", False, False),
    ("exclude { max_level: 3 }", False, False),
    ("include { min_level: 1 max_level: 2 }", True, True),
]


@pytest.mark.parametrize(("rules", "train", "test"), RULES)
def test_include_and_exclude(rules, train, test):
    definition = read_definition(("state { level: 2 stage: 'deploy' }\n" + _layer("a", extra=rules)).encode())
    layers = layers_of(definition.message)
    assert bool(in_phase(layers, definition.message, TRAIN)) is train
    assert bool(in_phase(layers, definition.message, TEST)) is test


def test_both_kinds_of_rules_are_refused():
    layers = _layers(_layer("a", extra="include { } exclude { }"))
    with pytest.raises(PrototxtError, match="include and exclude"):
        in_phase(layers, NetParameter())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (_layer("a", "nowhere"), "its bottom 'nowhere' is not made"),
        (_layer("a", "data") + _layer("a", "data", "b"), "same name"),
        (_layer("a", "data") + _layer("b", "data", "a"), "its top 'a' was made before"),
        (_layer("a", "data", "x x"), "one top twice"),
        (_layer("a", "b") + _layer("b", "data"), "its bottom 'b' is not made"),
    ],
)
def test_wiring(text, complaint):
    with pytest.raises(PrototxtError, match=complaint):
        check_wiring(_layers(text), ["data"])


def test_in_place_layers_are_written_once_each():
    layers = _layers(_layer("c", "data") + _layer("r", "c", "c") + _layer("d", "c", "c@2") + _layer("s", "c", "c"))
    check_wiring(layers, ["data"])
    unique, final = single_assignment(layers, ["data"])
    assert [(layer.bottoms, layer.tops) for layer in unique] == [
        (("data",), ("c",)),
        (("c",), ("c@3",)),
        (("c@3",), ("c@2",)),
        (("c@3",), ("c@4",)),
    ]
    assert final == {"data": "data", "c": "c@4", "c@2": "c@2"}


def test_many_in_place_layers_take_linear_time():
    layers = _layers(_layer("c", "data") + "".join(_layer(f"r{n}", "c", "c") for n in range(5000)))
    _, final = single_assignment(layers, ["data"])
    assert final["c"] == "c@5001"


def test_outputs_are_what_nobody_reads():
    layers = _layers(_layer("a", "data") + _layer("b", "a") + _layer("c", "a", "x y") + _layer("d", "y", "y"))
    assert open_ends(layers) == ("b", "x", "y")


@pytest.mark.parametrize(
    ("shape", "fits"),
    [((), True), ((1, 2), True), ((0,), False), ((-1, 2), False), ((1 << 31,), False), ((1,) * 33, False)],
)
def test_what_a_blob_can_hold(shape, fits):
    assert fits_a_blob(shape) is fits


def test_names_that_would_break_the_line_of_an_error():
    text = b'input: "x" input_shape { dim: 1 dim: 2 } layer { name: "a\\n" type: "Fan\\ncy" bottom: "x" top: "a" }'
    with pytest.raises(UnsupportedLayerError, match=r"layer 'a\\n' \(Fan\\ncy, line 1\): unknown type"):
        load(text)
    known = text.replace(b"Fan\\ncy", b"PReLU")
    weights = NetParameter()
    weights.layer.add(name="b\x1c\n")
    with pytest.raises(CaffeModelError, match=r"it has b\\x1c\\n$"):
        load(known, weights.SerializeToString())
