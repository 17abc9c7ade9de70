"""The reader of signatures says what the onnx package says, and never more than one kind of error."""

from __future__ import annotations

import re

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from spherecv.errors import ModelFileError
from spherecv.runtime import Session
from spherecv.runtime.normalise import normalise
from spherecv.runtime.signature import Batch, Node, Port, read_signature

NAMES = ("dense", "depthwise", "any_size", "two_inputs", "one_at_a_time")


def by_onnx(model: bytes) -> tuple[list, list, list]:
    graph = onnx.load_from_string(model).graph
    constants = {tensor.name for tensor in graph.initializer}

    def port(info):
        tensor = info.type.tensor_type
        sizes = tuple(dim.dim_param or dim.dim_value or None for dim in tensor.shape.dim)
        return info.name, tensor.elem_type, sizes if tensor.HasField("shape") else None

    def node(proto):
        integers = {a.name: (a.i,) if a.type == a.INT else tuple(a.ints) for a in proto.attribute}
        return proto.op_type, tuple(proto.input), tuple(proto.output), integers

    inputs = [port(info) for info in graph.input if info.name not in constants]
    return inputs, [port(info) for info in graph.output], [node(proto) for proto in graph.node]


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_onnx_reads(name, models):
    signature = read_signature(models[name], "it")
    inputs, outputs, nodes = by_onnx(models[name])
    assert [(port.name, port.element, port.dims) for port in signature.inputs] == inputs
    assert [(port.name, port.element, port.dims) for port in signature.outputs] == outputs
    assert [(node.operator, node.inputs, node.outputs, node.integers) for node in signature.nodes] == nodes


def test_real_nets(data_dir):
    for path in (data_dir / "teacher" / "mobilefacenet.onnx", data_dir / "yunet" / "yunet_n_640_640.onnx"):
        model = path.read_bytes()
        signature = read_signature(model, "it")
        inputs, outputs, nodes = by_onnx(model)
        assert [(port.name, port.element, port.dims) for port in signature.inputs] == inputs
        assert [(port.name, port.element, port.dims) for port in signature.outputs] == outputs
        assert [(node.operator, node.inputs, node.outputs) for node in signature.nodes] == [node[:3] for node in nodes]
        assert signature.fixed_size


def test_weights_that_are_listed_as_inputs_are_none(graph):
    graph.dense("data", 4, 2, "y")
    model = graph.model({"data": ["N", 4]}, {"y": ["N", 2]}, ir_version=3, constants_are_inputs=True)
    signature = read_signature(model, "it")
    assert [port.name for port in signature.inputs] == ["data"]


def test_weights_in_another_file_are_an_error_with_its_cure(models, tmp_path):
    place = tmp_path / "net.onnx"
    onnx.save(onnx.load_from_string(models["dense"]), place, save_as_external_data=True, location="w", size_threshold=0)
    with pytest.raises(ModelFileError, match=r"its weights lie in another file, 'w'; put them into one: onnx\.save"):
        Session(place)
    with pytest.raises(ModelFileError, match="its weights lie in another file"):
        normalise(place.read_bytes(), "it")
    whole = tmp_path / "whole.onnx"
    onnx.save(onnx.load(place), whole)
    assert Session(whole).outputs == Session(models["dense"]).outputs


def test_sizes_that_are_not_said(graph):
    graph.op("Relu", "data", to="y")
    signature = read_signature(graph.model({"data": [None, 0, -1, 3]}, {"y": None}), "it")
    assert signature.inputs == (Port("data", 1, (None, None, None, 3)),)
    assert signature.outputs == (Port("y", 1, None),)
    assert not signature.fixed_size


def test_negative_attributes(graph):
    graph.op("Flatten", "data", to="y", axis=-1)
    assert read_signature(graph.model({"data": [1, 3]}, {"y": [1, 3]}), "it").nodes == (
        Node("Flatten", ("data",), ("y",), {"axis": (-1,)}),
    )


def test_other_things_than_tensors():
    info = helper.make_tensor_sequence_value_info("data", TensorProto.FLOAT, None)
    out = helper.make_tensor_value_info("y", TensorProto.INT64, [])
    graph = helper.make_graph([helper.make_node("SequenceLength", ["data"], ["y"])], "g", [info], [out])
    signature = read_signature(helper.make_model(graph).SerializeToString(), "it")
    assert signature.inputs == (Port("data", 0, None),)
    assert signature.inputs[0].type_name == "of ONNX type 0"
    assert signature.outputs[0].type_name == "int64"


@pytest.mark.parametrize(
    ("inputs", "outputs", "batch"),
    [
        ({"a": ["N", 3]}, {"x": ["N", 3], "y": ["N", 2]}, Batch.ANY),
        ({"a": [None, 3]}, {"x": [None, 3]}, Batch.ANY),
        ({"a": [1, 3]}, {"x": [1, 3]}, Batch.ONE),
        ({"a": [4, 3]}, {"x": [4, 3]}, Batch.NONE),
        ({"a": ["N", 3]}, {"x": ["M", 3]}, Batch.NONE),
        ({"a": ["N", 3]}, {"x": [1, 3]}, Batch.NONE),
        ({"a": ["N", 3]}, {"x": None}, Batch.NONE),
        ({"a": ["N", 3]}, {"x": []}, Batch.NONE),
        ({"a": ["N", 3], "b": [3]}, {"x": ["N", 3]}, Batch.NONE),
    ],
)
def test_what_the_first_axis_means(inputs, outputs, batch, graph):
    graph.op("Relu", "a", to="x")
    signature = read_signature(graph.model(inputs, outputs), "it")
    assert signature.batch(tuple(outputs)) is batch


def test_only_the_outputs_asked_for_decide(graph):
    graph.op("Relu", "a", to="x")
    signature = read_signature(graph.model({"a": ["N", 3]}, {"x": ["N", 3], "y": [7]}), "it")
    assert signature.batch(("x",)) is Batch.ANY
    assert signature.batch(("x", "y")) is Batch.NONE


def answer(model: bytes) -> str:
    """Nothing for a model that could be read, else the one kind of error there may be."""
    try:
        signature = read_signature(model, "half")
    except ModelFileError as error:
        return str(error)
    return "" if signature.inputs and signature.outputs else "nothing goes in or comes out"


ONE_LINE = re.compile(r"(half is not a whole ONNX model: .+)?")


def test_a_model_cut_anywhere_is_an_error_or_its_beginning(models):
    model = models["any_size"]
    answers = [answer(model[:length]) for length in range(0, len(model), 7)]
    assert all(ONE_LINE.fullmatch(line) for line in answers)
    assert sum(map(bool, answers)) > len(answers) * 0.9


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_models_are_one_kind_of_error(data, models):
    model = bytearray(models["any_size"])
    places = data.draw(st.lists(st.integers(0, len(model) - 1), min_size=1, max_size=8))
    for place in places:
        model[place] = data.draw(st.integers(0, 255))
    assert ONE_LINE.fullmatch(answer(bytes(model)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(content):
    with pytest.raises(ModelFileError):
        read_signature(content, "it")
