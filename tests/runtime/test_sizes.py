"""The smallest image is the smallest that ONNX Runtime takes."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.runtime.signature import read_signature
from spherecv.runtime.sizes import smallest_sides


def runs(model: bytes, side: int) -> bool:
    """Whether every layer has something to give."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    try:
        answers = session.run(None, {"data": np.zeros((1, 1, side, 40), np.float32)})
    except Exception:  # its exceptions have no base of their own
        return False
    return all(answer.size for answer in answers)


@st.composite
def windows(draw):
    kind, kernel = draw(st.sampled_from(["Conv", "MaxPool"])), draw(st.integers(1, 5))
    return {
        "kind": kind,
        "kernel": kernel,
        # ONNX Runtime lets a pool of a larger stride begin in an image that it does not fit into.
        "stride": draw(st.integers(1, 3)) if kind == "Conv" else 1,
        "pad": draw(st.integers(0, kernel - 1)),
        "dilation": draw(st.integers(1, 2)),
    }


@settings(max_examples=40, deadline=None)
@given(st.lists(windows(), min_size=1, max_size=3))
def test_is_what_onnx_runtime_needs(layers):
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, value = [], [], "data"
    for index, layer in enumerate(layers):
        inputs = [value]
        if layer["kind"] == "Conv":
            weights = np.ones((1, 1, layer["kernel"], 1), np.float32)
            constants.append(numpy_helper.from_array(weights, f"w{index}"))
            inputs.append(f"w{index}")
        value = f"v{index}"
        nodes.append(helper.make_node(layer["kind"], inputs, [value], kernel_shape=[layer["kernel"], 1],
                                      strides=[layer["stride"], 1], pads=[layer["pad"], 0, layer["pad"], 0],
                                      dilations=[layer["dilation"], 1]))  # fmt: skip
    shape = [1, 1, "H", "W"]
    given = [helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)]
    asked = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1, 1, None, None]) for node in nodes]
    graph = helper.make_graph(nodes, "g", given, asked, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7).SerializeToString()
    height, width = smallest_sides(read_signature(model, "it"))["data"]
    assert width == 1
    assert runs(model, height)
    if height > 1:
        assert not runs(model, height - 1)


def test_ceiling_pools(graph):
    graph.conv(graph.op("MaxPool", "data", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), 3, 4, pad=0)
    model = graph.model({"data": ["N", 3, "H", "W"]}, {"v1": ["N", 4, "h", "w"]})
    # Three places along an axis: pairs at 0, 2 and, half outside, 4.
    assert smallest_sides(read_signature(model, "it")) == {"data": (5, 5)}


def test_p_net(caffe_onnx):
    # conv 3, pool 2 with the ceiling, conv 3, conv 3: 11 -> 9 -> 5 -> 3 -> 1
    assert smallest_sides(read_signature(caffe_onnx("det1"), "it")) == {"data": (11, 11)}


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "strides": [0, 0]},
        {"kernel_shape": [3]},
        {"kernel_shape": [3, 3], "pads": [1]},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
        {},
    ],
)
def test_what_cannot_be_seen_is_no_bound(attributes, graph):
    graph.op("MaxPool", "data", to="y", **attributes)
    model = graph.model({"data": ["N", 3, "H", "W"]}, {"y": ["N", 3, "h", "w"]})
    assert smallest_sides(read_signature(model, "it")) == {"data": (1, 1)}


def test_only_images_have_sides(models):
    assert smallest_sides(read_signature(models["two_inputs"], "it")) == {}
