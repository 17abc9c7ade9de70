from __future__ import annotations

import numpy as np
import pytest

from spherecv.caffe import load, write_blob
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, BlobShape, NetParameter
from spherecv.errors import CaffeModelError

TEXT = (
    b'input: "x" input_shape { dim: 1 dim: 2 dim: 4 dim: 4 }\n'
    b'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 3 kernel_size: 2 } }'
)


def _weights(*shapes, name="c"):
    net = NetParameter()
    layer = net.layer.add(name=name)
    for shape in shapes:
        write_blob(np.ones(shape), layer.blobs.add())
    return net


def test_weights_are_found_by_name_and_others_passed_over():
    weights = _weights((3, 2, 2, 2), (3,))
    weights.layer.add(name="data")
    weights.layer.add(name="loss").blobs.add(data=[1])
    net = load(TEXT, weights.SerializeToString())
    assert [blob.shape for blob in net.layers[0].blobs] == [(3, 2, 2, 2), (3,)]


def test_ones_in_front_are_no_difference():
    net = load(TEXT, _weights((3, 2, 2, 2), (1, 1, 1, 3)).SerializeToString())
    assert net.layers[0].blobs[1].shape == (3,)


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        (_weights((3, 2, 2, 2), (3,), name="conv_1"), r"no weights for layer 'c' .*it has conv_1$"),
        (_weights(), "no weights for layer 'c'"),
        (_weights((3, 2, 2, 2)), "needs 2 blobs, but the caffemodel has 1"),
        (_weights((3, 2, 2, 2), (3,), (1,)), "needs 2 blobs, but the caffemodel has 3"),
        (_weights((3, 2, 3, 2), (3,)), r"blob 0 of layer 'c' .* shape \(3, 2, 3, 2\) .* asks for \(3, 2, 2, 2\)"),
        (_weights((2, 3, 2, 2), (3,)), "asks for"),
        (_weights((3, 2, 2, 2), (3, 1)), "blob 1"),
    ],
)
def test_weights_of_another_net(weights, complaint):
    with pytest.raises(CaffeModelError, match=complaint):
        load(TEXT, weights.SerializeToString())


def test_a_shape_that_overflows():
    weights = _weights((3, 2, 2, 2), (3,))
    weights.layer[0].blobs[0].CopyFrom(BlobProto(shape=BlobShape(dim=[1 << 62, 4]), data=[1]))
    with pytest.raises(CaffeModelError, match="states the shape 4611686018427387904x4 but holds 1 numbers"):
        load(TEXT, weights.SerializeToString())


def test_the_models_of_two_nets_swapped(data_dir):
    folder = data_dir / "mtcnn-caffe"
    with pytest.raises(CaffeModelError, match=r"det3.caffemodel: .*layer 'conv1' \(Convolution, line 11\)"):
        load(folder / "det2.prototxt", folder / "det3.caffemodel")
