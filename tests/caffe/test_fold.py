from __future__ import annotations

import onnx
import pytest

NORMS = (
    'layer { name: "bn" type: "BatchNorm" bottom: "l" top: "l" batch_norm_param { eps: 1e-3 } }'
    'layer { name: "sc" type: "Scale" bottom: "l" top: "l" scale_param { bias_term: true } }'
    'layer { name: "bi" type: "Bias" bottom: "l" top: "l" }'
)
SOURCES = {
    "Convolution": "convolution_param { num_output: 6 kernel_size: 3 group: 2 bias_term: %s }",
    "Deconvolution": "convolution_param { num_output: 6 kernel_size: 3 group: 2 stride: 2 bias_term: %s }",
    "InnerProduct": "inner_product_param { num_output: 6 bias_term: %s }",
}


def _net(kind, settings, more=""):
    return (
        'input: "x" input_shape { dim: 1 dim: 4 dim: 7 dim: 7 }'
        f'layer {{ name: "l" type: "{kind}" bottom: "x" top: "l" {settings} }}' + NORMS + more
    )


def _operators(model):
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("kind", SOURCES)
def test_a_chain_of_affine_layers_goes_into_the_weights(kind, bias, convert, run_onnxruntime, numbers, deviation):
    text = _net(kind, SOURCES[kind] % bias)
    folded, plain = convert(text)[1], convert(text, fold=False)[1]
    operator = {"Convolution": "Conv", "Deconvolution": "ConvTranspose", "InnerProduct": "Gemm"}[kind]
    assert [name for name in _operators(folded) if name != "Reshape"] == [operator]
    assert _operators(plain).count("Mul") == 2
    feed = {"x": numbers((3, 4, 7, 7), 1)}
    assert deviation(run_onnxruntime(folded, feed)["l"], run_onnxruntime(plain, feed)["l"]) < 1e-6


def test_a_transposed_inner_product(convert, run_onnxruntime, numbers, deviation):
    text = _net("InnerProduct", "inner_product_param { num_output: 6 transpose: true }")
    feed = {"x": numbers((3, 4, 7, 7), 1)}
    folded, plain = (run_onnxruntime(convert(text, fold=fold)[1], feed)["l"] for fold in (True, False))
    assert deviation(folded, plain) < 1e-6


def test_without_a_layer_before_them_they_become_one(convert, run_onnxruntime, numbers, deviation):
    text = _net("Sigmoid", "")
    folded, plain = convert(text)[1], convert(text, fold=False)[1]
    assert _operators(folded) == ["Sigmoid", "Mul", "Add"]
    feed = {"x": numbers((3, 4, 5, 5), 1)}
    assert deviation(run_onnxruntime(folded, feed)["l"], run_onnxruntime(plain, feed)["l"]) < 1e-6


def test_nothing_is_folded_that_another_layer_reads(convert, run_onnxruntime, numbers, deviation):
    text = (
        'input: "x" input_shape { dim: 1 dim: 4 dim: 7 dim: 7 }'
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" '
        "convolution_param { num_output: 4 kernel_size: 1 } }"
        'layer { name: "b" type: "BatchNorm" bottom: "c" top: "b" }'
        'layer { name: "s" type: "Eltwise" bottom: "c" bottom: "b" top: "s" }'
    )
    folded, plain = convert(text)[1], convert(text, fold=False)[1]
    feed = {"x": numbers((2, 4, 7, 7), 1)}
    assert deviation(run_onnxruntime(folded, feed)["s"], run_onnxruntime(plain, feed)["s"]) < 1e-6


def test_nothing_is_folded_that_is_asked_for(convert, run_onnxruntime, numbers, deviation):
    text = (
        'input: "x" input_shape { dim: 1 dim: 4 dim: 7 dim: 7 }'
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" '
        "convolution_param { num_output: 4 kernel_size: 1 } }"
        'layer { name: "b" type: "BatchNorm" bottom: "c" top: "b" }'
    )
    net, _ = convert(text)
    feed = {"x": numbers((2, 4, 7, 7), 1)}
    results = [run_onnxruntime(net.to_onnx(outputs=["c", "b"], fold=fold), feed) for fold in (True, False)]
    assert list(results[0]) == ["c", "b"]
    for name in ("c", "b"):
        assert deviation(results[0][name], results[1][name]) < 1e-6


def test_a_scale_over_other_axes_is_left_alone(convert, run_onnxruntime, numbers, deviation):
    text = (
        'input: "x" input_shape { dim: 1 dim: 4 dim: 4 dim: 4 }'
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" '
        "convolution_param { num_output: 4 kernel_size: 1 } }"
        'layer { name: "s" type: "Scale" bottom: "c" top: "s" scale_param { axis: 2 bias_term: true } }'
    )
    folded, plain = convert(text)[1], convert(text, fold=False)[1]
    assert _operators(folded) == ["Conv", "Mul", "Add"]
    feed = {"x": numbers((2, 4, 4, 4), 1)}
    assert deviation(run_onnxruntime(folded, feed)["s"], run_onnxruntime(plain, feed)["s"]) < 1e-6


def test_a_scale_of_columns_is_not_taken_for_one_of_channels(convert, run_onnxruntime, numbers, deviation):
    text = (
        'input: "x" input_shape { dim: 1 dim: 4 dim: 4 dim: 4 }'
        'layer { name: "s" type: "Scale" bottom: "x" top: "s" scale_param { axis: -1 } }'
        'layer { name: "b" type: "BatchNorm" bottom: "s" top: "b" }'
    )
    folded, plain = convert(text)[1], convert(text, fold=False)[1]
    feed = {"x": numbers((2, 4, 4, 4), 1)}
    assert deviation(run_onnxruntime(folded, feed)["b"], run_onnxruntime(plain, feed)["b"]) < 1e-6
