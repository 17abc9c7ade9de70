from __future__ import annotations

import numpy as np
import pytest

from spherecv.caffe import read_blob, write_blob
from spherecv.caffe.blobs import blob_shape
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, BlobShape
from spherecv.errors import CaffeModelError


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3, 4, 5), (0,), (1, 1, 1, 7)])
def test_round_trip(shape):
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    blob = write_blob(array)
    np.testing.assert_array_equal(np.array(blob.data, np.float32), array.ravel())  # protobuf's own view of it
    back = read_blob(blob)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.reshape(shape), array)


def test_any_layout_and_type_is_written_in_order():
    array = np.arange(24).reshape(4, 6).T[::2]
    np.testing.assert_array_equal(read_blob(write_blob(array)), array)


def test_writing_replaces_what_a_blob_held():
    blob = BlobProto(num=1, channels=1, height=1, width=2, data=[5, 6], diff=[1, 1])
    assert write_blob(np.ones((2, 2)), blob) is blob
    assert blob == BlobProto(shape=BlobShape(dim=[2, 2]), data=[1, 1, 1, 1])


def test_legacy_shape_and_double_data():
    blob = BlobProto(num=1, channels=1, height=2, width=3, double_data=range(6))
    np.testing.assert_array_equal(read_blob(blob), np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3))


def test_without_a_shape_the_data_says_it():
    assert blob_shape(BlobProto(data=[1, 2, 3])) == (3,)
    assert read_blob(BlobProto(data=[1, 2, 3])).tolist() == [1, 2, 3]


def test_unpacked_data_of_other_writers():
    raw = b"".join(b"\x2d" + np.float32(value).tobytes() for value in (1.5, 2.5))
    assert read_blob(BlobProto.FromString(raw)).tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    "blob",
    [
        BlobProto(shape=BlobShape(dim=[2, 2]), data=[1, 2, 3]),
        BlobProto(shape=BlobShape(dim=[-1, -3]), data=[1, 2, 3]),
        BlobProto(shape=BlobShape(dim=[1 << 62, 1 << 62, 4]), data=[1]),
        BlobProto(shape=BlobShape(dim=[1] * 33), data=[1]),
        BlobProto(num=1, channels=1, height=1, width=-1),
    ],
)
def test_shape_and_data_must_agree(blob):
    with pytest.raises(CaffeModelError, match="blob 0 of layer 'x' states the shape"):
        read_blob(blob, where="blob 0 of layer 'x'")
