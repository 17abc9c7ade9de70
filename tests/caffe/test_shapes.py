from __future__ import annotations

import pytest

from spherecv.caffe import load
from spherecv.caffe.shapes import infer
from spherecv.errors import PrototxtError, UnsupportedLayerError


def _caffe_shapes(name, data_dir):
    net = load(data_dir / f"{name}.prototxt")
    shapes = infer(net.layers, net.inputs)
    return {layer.name: found.tops[0] for layer, found in zip(net.layers, shapes, strict=True)}


def test_the_shapes_of_the_papers_nets(data_dir):
    """MTCNN's figure 2 and SphereFace's table 2 state these sizes."""
    onet = _caffe_shapes("mtcnn-caffe/det3", data_dir)
    sizes = [onet[name] for name in ("conv1", "pool1", "conv2", "pool2", "conv3", "pool3", "conv4", "conv5")]
    assert sizes == [
        (1, 32, 46, 46),
        (1, 32, 23, 23),
        (1, 64, 21, 21),
        (1, 64, 10, 10),
        (1, 64, 8, 8),
        (1, 64, 4, 4),
        (1, 128, 3, 3),
        (1, 256),
    ]
    sphereface = _caffe_shapes("sphereface-prototxt/sphereface_deploy", data_dir)
    assert [sphereface[f"conv{n}_1"][1:] for n in range(1, 5)] == [
        (64, 56, 48),
        (128, 28, 24),
        (256, 14, 12),
        (512, 7, 6),
    ]


def test_an_unknown_type_is_named_with_its_line_and_what_is_supported():
    text = b'input: "x" input_shape { dim: 1 }\nlayer { name: "f" type: "Frobnicate" bottom: "x" top: "f" }'
    with pytest.raises(UnsupportedLayerError) as caught:
        load(text)
    message = str(caught.value)
    start = "<prototxt>: layer 'f' (Frobnicate, line 2): unknown type; supported are AbsVal, ArgMax, Axpy,"
    assert message.startswith(start)
    assert "MarginInnerProduct" in message


@pytest.mark.parametrize(
    ("bottoms", "tops", "complaint"),
    [((), ("a",), "has 0 bottoms, but needs 1"), (("x", "x"), ("a",), "has 2 bottoms"), (("x",), (), "has 0 tops")],
)
def test_the_number_of_blobs(bottoms, tops, complaint):
    words = " ".join([*(f'bottom: "{b}"' for b in bottoms), *(f'top: "{t}"' for t in tops)])
    text = f'input: "x" input_shape {{ dim: 1 dim: 2 }} layer {{ name: "s" type: "Sigmoid" {words} }}'
    with pytest.raises(PrototxtError, match=complaint):
        load(text.encode())


def test_blobs_larger_than_caffe_can_hold():
    text = (
        b'input: "x" input_shape { dim: 1 dim: 2 dim: 30000 dim: 30000 } '
        b'layer { name: "c" type: "Concat" bottom: "x" bottom: "x" top: "c" }'
    )
    with pytest.raises(PrototxtError, match="more than a blob can hold"):
        load(text)
