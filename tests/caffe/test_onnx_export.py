from __future__ import annotations

import numpy as np
import onnx
import pytest

from spherecv.runtime import Session

IMAGE = 'input: "x" input_shape { dim: 1 dim: 3 dim: 12 dim: 12 }\n'
CONV = 'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 2 kernel_size: 3 } }'
DENSE = 'layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 5 } }'
ONE_ROW = 'layer { name: "r" type: "Reshape" bottom: "c" top: "r" reshape_param { shape { dim: 1 dim: -1 } } }'
POOL = 'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: %d stride: %d } }'


def _shapes(model):
    def dims(value):
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    graph = onnx.load_from_string(model).graph
    return [{value.name: dims(value) for value in values} for values in (graph.input, graph.output)]


@pytest.mark.parametrize(
    ("text", "inputs", "outputs"),
    [
        (CONV, ["batch", 3, "height", "width"], {"c": ["batch", 2, "c_height", "c_width"]}),
        (CONV + POOL % (2, 2), ["batch", 3, "height", "width"], {"p": ["batch", 2, "p_height", "p_width"]}),
        # A stride beyond the kernel has sizes where Caffe's result is undefined: only the declared one is sure.
        (CONV + POOL % (2, 3), ["batch", 3, 12, 12], {"p": ["batch", 2, 4, 4]}),
        (
            CONV + DENSE,
            ["batch", 3, 12, 12],
            {"f": ["batch", 5]},
        ),
        (
            CONV + 'layer { name: "f" type: "Flatten" bottom: "c" top: "f" }',
            ["batch", 3, "height", "width"],
            {"f": ["batch", "f_1"]},
        ),
        (
            CONV + ONE_ROW,
            ["batch", 3, "height", "width"],
            {"r": [1, "r_1"]},
        ),
        (CONV + ONE_ROW.replace("-1", "200"), [1, 3, 12, 12], {"r": [1, 200]}),
        # A weight for each row of the image fixes the height, and with it the width.
        (
            'layer { name: "s" type: "Scale" bottom: "x" top: "s" scale_param { axis: 2 } }',
            ["batch", 3, 12, 12],
            {"s": ["batch", 3, 12, 12]},
        ),
        (
            'layer { name: "n" type: "Normalize" bottom: "x" top: "n" }',
            ["batch", 3, 12, 12],
            {"n": ["batch", 3, 12, 12]},
        ),
        # Twice as many rows as images: equal names would promise equal sizes.
        (
            'layer { name: "c" type: "Concat" bottom: "x" bottom: "x" top: "c" concat_param { axis: 0 } }',
            ["batch", 3, "height", "width"],
            {"c": ["c_0", 3, "c_height", "c_width"]},
        ),
    ],
)
def test_what_a_net_allows_stays_open(text, inputs, outputs, convert):
    _, model = convert(IMAGE + text)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    assert _shapes(model) == [{"x": inputs}, outputs]


def test_the_same_net_gives_the_same_bytes(convert):
    text = IMAGE + CONV + POOL % (2, 2)
    assert convert(text)[1] == convert(text)[1]


def test_outputs_may_be_inner_blobs_and_needless_layers_go(convert, run_onnxruntime, numbers):
    text = IMAGE + CONV + POOL % (3, 2) + 'layer { name: "r" type: "ReLU" bottom: "p" top: "p" }'
    net, _ = convert(text)
    model = net.to_onnx(outputs=["c"])
    assert [node.op_type for node in onnx.load_from_string(model).graph.node] == ["Conv"]
    assert run_onnxruntime(model, {"x": numbers((2, 3, 5, 6))})["c"].shape == (2, 2, 3, 4)


def test_an_in_place_blob_is_its_last_value(convert, run_onnxruntime, numbers):
    net, _ = convert(IMAGE + CONV + 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }')
    assert run_onnxruntime(net.to_onnx(outputs=["c"]), {"x": numbers((1, 3, 12, 12))})["c"].min() == 0


def test_an_input_that_is_also_an_output(convert, run_onnxruntime, numbers):
    _, model = convert(IMAGE + 'layer { name: "s" type: "Split" bottom: "x" top: "a" top: "b" }')
    x = numbers((2, 3, 4, 4))
    outputs = run_onnxruntime(model, {"x": x})
    np.testing.assert_array_equal(outputs["a"], x)
    np.testing.assert_array_equal(outputs["b"], x)


@pytest.mark.parametrize("backend", ["opencv", "onnxruntime"])
def test_an_input_may_be_overwritten_and_given(backend, convert, numbers):
    _, model = convert(IMAGE + 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }')
    x = numbers((2, 3, 12, 12))
    np.testing.assert_array_equal(Session(model, backend=backend).run(x)["x"], np.maximum(x, 0))


def test_an_input_may_be_overwritten_on_the_way(convert, run_onnxruntime, numbers):
    _, model = convert(IMAGE + 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }' + CONV)
    assert run_onnxruntime(model, {"x": numbers((1, 3, 12, 12))})["c"].shape == (1, 2, 10, 10)


def test_names_of_layers_and_blobs_may_be_the_same_or_strange(convert, run_onnxruntime, numbers):
    text = (
        IMAGE
        + 'layer { name: "x" type: "ReLU" bottom: "x" top: "x/Relu" }'
        + 'layer { name: "a b\\"c" type: "Sigmoid" bottom: "x/Relu" top: "\xe4/1" }'
        + 'layer { name: "" type: "TanH" bottom: "\xe4/1" top: "x@2" }'
    )
    net, model = convert(text)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    x = numbers((1, 3, 2, 2))
    expected = np.tanh(1 / (1 + np.exp(-np.maximum(x, 0))))
    np.testing.assert_allclose(run_onnxruntime(model, {"x": x})[net.outputs[0]], expected, rtol=1e-5)


def test_inputs_of_different_batches_are_not_promised_to_be_equal(convert):
    text = (
        'input: "a" input: "b" input_shape { dim: 3 dim: 2 } input_shape { dim: 4 dim: 2 }'
        'layer { name: "c" type: "Concat" bottom: "a" bottom: "b" top: "c" concat_param { axis: 0 } }'
    )
    assert _shapes(convert(text)[1]) == [{"a": ["a_0", 2], "b": ["b_0", 2]}, {"c": ["c_0", 2]}]


@pytest.mark.runtime
def test_one_model_runs_at_changing_batches_and_sizes(convert, run_onnxruntime, run_opencv, numbers, deviation):
    text = (
        IMAGE
        + CONV
        + 'layer { name: "r" type: "PReLU" bottom: "c" top: "c" }'
        + POOL % (3, 2)
        + 'layer { name: "u" type: "Deconvolution" bottom: "p" top: "u" '
        "convolution_param { num_output: 2 kernel_size: 2 stride: 2 group: 2 } }"
        'layer { name: "s" type: "Softmax" bottom: "u" top: "s" }'
    )
    _, model = convert(text)
    shapes = [(1, 3, 12, 12), (7, 3, 12, 12), (2, 3, 31, 17), (1, 3, 100, 64), (3, 3, 12, 12)]
    feeds = [{"x": numbers(shape, seed)} for seed, shape in enumerate(shapes)]
    wanted = [run_onnxruntime(model, feed)["s"] for feed in feeds]
    for engine, results in run_opencv(model, feeds, ["s"]):
        for result, expected in zip(results, wanted, strict=True):
            assert deviation(result["s"], expected) < 1e-5, engine


def test_openvino_agrees(convert, run_onnxruntime, numbers, deviation):
    openvino = pytest.importorskip("openvino")
    text = IMAGE + CONV + POOL % (3, 2) + 'layer { name: "s" type: "Softmax" bottom: "p" top: "s" }'
    _, model = convert(text)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for shape in ((1, 3, 12, 12), (4, 3, 23, 18)):
        feed = {"x": numbers(shape)}
        assert deviation(compiled(feed)["s"], run_onnxruntime(model, feed)["s"]) < 1e-5
