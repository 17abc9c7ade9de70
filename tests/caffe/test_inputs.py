from __future__ import annotations

import numpy as np
import pytest

from spherecv.caffe import load
from spherecv.errors import InvalidArgumentError, PrototxtError, UnsupportedLayerError

RELU = ' layer { name: "r" type: "ReLU" bottom: "data" top: "r" }'


@pytest.mark.parametrize(
    "text",
    [
        'input: "data" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5',
        'input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 5 }',
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 4, 5] } } }',
        """layer { name: "d" type: "MemoryData" top: "data"
        memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 } }""",
        'layer { name: "d" type: "DummyData" top: "data" dummy_data_param { shape { dim: [2, 3, 4, 5] } } }',
        """layer { name: "d" type: "ImageData" top: "data" top: "label"
        image_data_param { source: "x" batch_size: 2 new_height: 4 new_width: 5 } }""",
    ],
)
def test_every_way_to_declare_an_input(text):
    net = load((text + RELU).encode())
    assert net.inputs == {"data": (2, 3, 4, 5)}
    assert net.outputs == ("r",)


def test_a_crop_decides_the_size():
    text = (
        'layer { name: "d" type: "ImageData" top: "data" top: "label" transform_param { crop_size: 7 } '
        'image_data_param { source: "x" batch_size: 2 new_height: 9 new_width: 9 is_color: false } }'
    )
    assert load((text + RELU).encode()).inputs == {"data": (2, 1, 7, 7)}
    text = """layer { name: "d" type: "MemoryData" top: "data" transform_param { crop_size: 7 }
    memory_data_param { batch_size: 2 channels: 3 height: 9 width: 8 } }"""
    assert load((text + RELU).encode()).inputs == {"data": (2, 3, 7, 7)}


def test_two_inputs_and_one_shape_for_both():
    text = b'layer { name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 } } }'
    assert load(text).inputs == {"a": (2,), "b": (2,)}
    text = b'input: "a" input: "b"' + b" input_dim: 1" * 8
    assert load(text).inputs == {"a": (1,) * 4, "b": (1,) * 4}


def test_the_caller_knows_better():
    text = ('input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }' + RELU).encode()
    assert load(text, input_shapes={"data": (1, 3, 9, 7)}).inputs == {"data": (1, 3, 9, 7)}
    with pytest.raises(InvalidArgumentError, match="no input 'image' to give a shape to; it has data"):
        load(text, input_shapes={"image": (1, 3, 9, 7)})
    for senseless in ((1, 0), (1.5, 2), (1 << 40,)):
        with pytest.raises(InvalidArgumentError, match=r"input_shapes\['data'\] must hold sizes from 1"):
            load(text, input_shapes={"data": senseless})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('input: "data"', "has no shape in the prototxt"),
        ('input: "data" input_dim: 1 input_dim: 3', "each input takes four"),
        ('input: "data" input_dim: 1 input_dim: 3 input_dim: 0 input_dim: 5', "senseless"),
        ('input: "data" input_shape { dim: 1 dim: -3 }', "senseless"),
        ('input: "data" input_shape { dim: 100000 dim: 100000 }', "senseless"),
        ('input: "data" input: "more" input_shape { dim: 1 }', "2 inputs are declared, but 1 shapes"),
        ('input: "data" input: "data" input_shape { dim: 1 } input_shape { dim: 1 }', "same name"),
        ("", "declares no input"),
        (
            'layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 } shape { dim: 1 } } }',
            "gives 2 shapes for 1 tops",
        ),
        ('layer { name: "i" type: "Input" top: "data" }', r"layer 'i' \(Input, line 1\) has no shape"),
        (
            'layer { name: "d" type: "ImageData" top: "data" top: "label" image_data_param { source: "x" } }',
            r"layer 'd' \(ImageData, line 1\) has no shape.*input_shapes=\{'data': \(1, 3, height, width\)\}",
        ),
    ],
)
def test_inputs_that_make_no_sense(text, complaint):
    with pytest.raises(PrototxtError, match=complaint):
        load((text + RELU).encode())


LABELLED = """
layer { name: "feed" type: "%s" top: "data" top: "label" python_param { module: "m" layer: "D" } fork_param { x: 1 } }
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
layer { name: "margin" type: "LabelSpecificAdd" bottom: "r" bottom: "label" top: "m" label_specific_add_param { m: 1 } }
layer { name: "s" type: "Power" bottom: "m" top: "s" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "s" bottom: "label" top: "loss" }
layer { name: "other" type: "FancyLoss" bottom: "r" top: "other" fancy_param { x: [1, 2] } }
layer { name: "end" type: "ReLU" bottom: "r" top: "end" }
"""


@pytest.mark.parametrize("kind", ["Python", "AnnotatedData", "Data"])
def test_what_reads_labels_is_left_out_whatever_its_type(kind):
    text = (LABELLED % kind).encode()
    with pytest.raises(
        PrototxtError, match=rf"the input 'data' of layer 'feed' \({kind}, line 2\) .*--input-shape data="
    ):
        load(text)
    net = load(text, input_shapes={"data": (1, 3, 8, 8)})
    assert ([layer.name for layer in net.layers], net.outputs) == (["r", "end"], ("end",))
    with pytest.raises(
        InvalidArgumentError, match=r"no blob 's' to output: layer 's' .* only training has; it has r, end"
    ):
        load(text, input_shapes={"data": (1, 3, 8, 8)}, outputs=["s"])


def test_a_data_layer_gives_every_top_that_has_a_shape():
    text = b"""layer { name: "in" type: "Python" top: "im" top: "info" top: "boxes" }
    layer { name: "c" type: "Concat" bottom: "info" bottom: "im" top: "c" }"""
    shapes = {"im": (1, 2), "info": (1, 3)}
    assert load(text, input_shapes=shapes).inputs == shapes
    only = b"""layer { name: "in" type: "HDF5Data" top: "label" top: "data" }""" + RELU.encode()
    assert load(only, input_shapes={"data": (1, 3)}).inputs == {"data": (1, 3)}


def test_labels_of_a_data_layer_of_their_own_need_no_shape():
    text = b"""layer { name: "d" type: "Data" top: "data" } layer { name: "l" type: "Data" top: "label" }
    layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
    layer { name: "loss" type: "EuclideanLoss" bottom: "r" bottom: "label" }"""
    net = load(text, input_shapes={"data": (2, 3)})
    assert (net.inputs, net.outputs) == ({"data": (2, 3)}, ("r",))


def test_data_that_only_training_reads_are_the_input_where_there_is_no_other():
    text = b'layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } }' + RELU.encode()
    assert load(text, input_shapes={"data": (1, 3)}).inputs == {"data": (1, 3)}


def test_a_stage_chooses_the_net_for_deployment():
    text = b"""layer { name: "d" type: "Data" top: "data" top: "label" include { stage: "train" } }
    layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } include { stage: "deploy" } }
    layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
    layer { name: "a" type: "RankAccuracy" bottom: "r" bottom: "label" top: "a" exclude { stage: "deploy" } }"""
    assert load(text, stages=["deploy"]).inputs == {"data": (1, 3)}
    with pytest.raises(PrototxtError, match=r"the input 'data' of layer 'd' \(Data, line 1\) has no shape"):
        load(text)


def test_an_input_declared_twice_is_refused():
    layer = b'layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 } } }'
    with pytest.raises(PrototxtError, match="its top 'data' was made before"):
        load(layer + layer)


def test_a_layer_that_reads_and_makes_nothing_is_not_passed_over():
    with pytest.raises(UnsupportedLayerError, match="unknown type"):
        load(b'input: "data" input_shape { dim: 1 } layer { name: "x" type: "Fancy" }' + RELU.encode())
    with pytest.raises(PrototxtError, match=r":1:59: InputParameter has no field 'shapes'"):
        load(b'layer { name: "i" type: "Input" top: "data" input_param { shapes: 1 } }' + RELU.encode())


BEHIND = b"""input: "data" input_shape { dim: 1 dim: 3 } input: "side" input_shape { dim: 1 dim: 3 }
layer { name: "a" type: "ReLU" bottom: "data" top: "a" }
layer { name: "a2" type: "Power" bottom: "a" top: "a" power_param { scale: 2 } }
layer { name: "b" type: "Fancy" bottom: "a" bottom: "side" top: "b" fancy_param { x: 1 } }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" }
layer { name: "d" type: "Power" bottom: "a" top: "d" power_param { shift: 1 } }"""


def test_what_lies_behind_an_output_is_neither_checked_nor_converted(run_onnxruntime):
    with pytest.raises(UnsupportedLayerError, match="layer 'b' "):
        load(BEHIND)
    net = load(BEHIND, outputs=["d", "a", "d"])
    assert (net.inputs, net.outputs, [layer.name for layer in net.layers]) == (
        {"data": (1, 3)}, ("d", "a"), ["a", "a2", "d"],
    )  # fmt: skip
    got = run_onnxruntime(net.to_onnx(), {"data": np.array([[-1, 1, 2]], np.float32)})
    assert {name: values.tolist() for name, values in got.items()} == {"d": [[1, 3, 5]], "a": [[0, 2, 4]]}
    with pytest.raises(InvalidArgumentError, match="no blob 'data' to output; it has a, b, c, d"):
        load(BEHIND, outputs=["data"])
    for needed in (["b"], ["c"]):
        with pytest.raises(UnsupportedLayerError, match=r"layer 'b' \(Fancy, line 4\)"):
            load(BEHIND, outputs=needed)
