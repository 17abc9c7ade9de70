"""What runs after a net: read from the model's metadata, checked, and told where it is damaged."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import BackendError, InvalidArgumentError, ModelFileError, SphereCVError
from spherecv.runtime import Session
from spherecv.runtime.signature import TAIL_KEY

pytestmark = pytest.mark.runtime

BACKENDS = ["opencv", "onnxruntime"]


def _array(values):
    values = np.asarray(values, np.float32)
    return {"shape": list(values.shape), "float32": base64.b64encode(values.tobytes()).decode()}


def _step(inputs, outputs, **work):
    return {"inputs": inputs, "outputs": outputs, **work}


def _filter(inputs, outputs):
    return _step(inputs, outputs, function="Filter", settings={}, arrays=[])


def _net(inside="x", outside="h"):
    """A net (N, 3) -> twice as much."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", [inside, "two"], [outside])],
        "net",
        [onnx.helper.make_tensor_value_info(inside, 1, ["batch", 3])],
        [onnx.helper.make_tensor_value_info(outside, 1, ["batch", 3])],
        [onnx.numpy_helper.from_array(np.float32([2, 2, 2]), "two")],
    )
    return onnx.helper.make_model(graph, ir_version=7, opset_imports=[onnx.helper.make_opsetid("", 13)])


@pytest.fixture(scope="module")
def with_tail():
    """The net with a tail, given as JSON or as text."""

    def make(tail):
        model = _net()
        model.metadata_props.add(key=TAIL_KEY, value=tail if isinstance(tail, str) else json.dumps(tail))
        return model.SerializeToString()

    return make


def _tail(steps, outputs, *, head=("h",), inputs=None):
    return {"inputs": inputs or {}, "outputs": outputs, "head": list(head), "steps": steps}


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_run_one_after_the_other(backend, with_tail):
    inner = base64.b64encode(_net("kept", "more").SerializeToString()).decode()
    steps = [
        _filter(["h", "mark"], ["kept"]),
        _step(["kept"], ["more"], onnx=inner),
        _step([], ["c"], constant=_array([[5, 6]])),
    ]
    outputs = {"kept": "kept", "four times": "more", "half": "h", "c": "c"}
    model = with_tail(_tail(steps, outputs, inputs={"mark": ["batch"]}))
    session = Session(model, backend=backend)
    assert session.inputs == {"x": (None, 3), "mark": (None,)}
    assert session.outputs == tuple(outputs)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    answers = session.run({"x": x, "mark": np.float32([0, 1, 0, 7])})
    np.testing.assert_array_equal(answers["kept"], 2 * x[[1, 3]])
    np.testing.assert_array_equal(answers["four times"], 4 * x[[1, 3]])
    np.testing.assert_array_equal(answers["half"], 2 * x)
    np.testing.assert_array_equal(answers["c"], [[5, 6]])
    none = session.run({"x": x, "mark": np.zeros(4, np.float32)})
    assert none["four times"].shape == (0, 3)
    with pytest.raises(InvalidArgumentError, match="no output 'more'"):
        Session(model, backend=backend, outputs=["more"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_what_is_wanted_runs(backend, with_tail):
    broken = _step(["h"], ["bad"], function="Filter", settings={}, arrays=[])
    session = Session(with_tail(_tail([broken], {"h": "h", "bad": "bad"})), backend=backend, outputs=["h"])
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(session.run(x)["h"], 2 * x)


def test_a_constant_alone_needs_no_net(with_tail):
    session = Session(with_tail(_tail([_step([], ["c"], constant=_array([1, 2]))], {"c": "c"})))
    np.testing.assert_array_equal(session.run(np.zeros((5, 3), np.float32))["c"], [1, 2])


def test_answers_are_the_caller_s_own(with_tail):
    session = Session(with_tail(_tail([_step([], ["c"], constant=_array([1, 2]))], {"c": "c", "x": "x"})))
    x = np.zeros((5, 3), np.float32)
    answers = session.run(x)
    answers["c"][:] = 9
    answers["x"][:] = 9
    np.testing.assert_array_equal(session.run(x)["c"], [1, 2])
    assert not x.any()


def test_inputs_of_the_tail_are_checked(with_tail):
    session = Session(with_tail(_tail([_filter(["h", "m"], ["k"])], {"k": "k"}, inputs={"m": ["batch"]})))
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(InvalidArgumentError, match="'m'"):
        session.run(x)
    with pytest.raises(InvalidArgumentError, match="where 4 was given before"):
        session.run({"x": x, "m": np.ones(3, np.float32)})


def test_a_batch_that_is_fixed_is_not_run_item_by_item(with_tail):
    """The tail would take every item for the first."""
    model = with_tail(_tail([_filter(["h", "m"], ["k"])], {"k": "k"}, inputs={"m": [1]}))
    fixed = onnx.load_from_string(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    session = Session(fixed.SerializeToString())
    assert session.inputs == {"x": (1, 3), "m": (1,)}
    with pytest.raises(InvalidArgumentError, match=r"must have shape \(1, 3\)"):
        session.run({"x": np.ones((2, 3), np.float32), "m": np.ones(2, np.float32)})
    assert session.run({"x": np.ones((1, 3), np.float32), "m": np.ones(1, np.float32)})["k"].tolist() == [[2, 2, 2]]


def test_a_step_that_fails_says_so(with_tail):
    step = _step(["h"], ["p"], function="DetectionOutput", settings={}, arrays=[])
    with pytest.raises(BackendError, match="the tail of the model failed"):
        Session(with_tail(_tail([step], {"p": "p"}))).run(np.zeros((2, 3), np.float32))


GOOD = json.dumps(_tail([_filter(["h", "m"], ["k"])], {"k": "k"}, inputs={"m": ["batch"]}))


DAMAGES = [
    ('["h", "m"]', "3"),
    ('["batch"]', "[0]"),
    ('["batch"]', "[[]]"),
    ('["k"]', "[4]"),
    ('{"k": "k"}', '{"k": 5}'),
    ('"arrays": []', '"arrays": [{"shape": [2], "float32": ""}]'),
    ('"arrays": []', '"arrays": [{"shape": [2], "float32": "?"}]'),
    ('"settings"', '"sett"'),
    ('"function": "Filter"', '"onnx": "?"'),
]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", GOOD[:-1], '{"inputs": 3}', "[" * 100_000, *(GOOD.replace(*damage) for damage in DAMAGES)],
)
def test_damaged_tails(text, with_tail):
    with pytest.raises(ModelFileError):
        Session(with_tail(text))


def test_an_unknown_function_is_told(with_tail):
    with pytest.raises(ModelFileError, match=r"'Thing'.*spherecv\.caffe\.register"):
        Session(with_tail(GOOD.replace('"Filter"', '"Thing"')))


@settings(max_examples=150, deadline=10_000, derandomize=True)
@given(place=st.integers(0, len(GOOD)), cut=st.integers(0, 12), put=st.text(max_size=4))
def test_mutated_tails(place, cut, put, with_tail):
    text = GOOD[:place] + put + GOOD[place + cut :]
    with suppress(SphereCVError):
        session = Session(with_tail(text))
        shapes = {name: [side or 2 for side in sides] for name, sides in session.inputs.items()}
        session.run({name: np.ones(shape, np.float32) for name, shape in shapes.items()})
