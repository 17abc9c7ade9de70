from __future__ import annotations

import pytest

from spherecv.caffe import load
from spherecv.errors import InvalidArgumentError, PrototxtError

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
