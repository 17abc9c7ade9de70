from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherecv.caffe import wire
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, LayerParameter
from spherecv.errors import CaffeModelError


def _walk(data: bytes) -> list[wire.Field]:
    return list(wire.fields(memoryview(data)))


def test_finds_what_protobuf_wrote():
    layer = LayerParameter(name="conv1", phase=1, loss_weight=[0.5], propagate_down=[True])
    layer.blobs.add(data=[1, 2], double_data=[3])
    found = {field.number: field for field in _walk(layer.SerializeToString())}
    assert bytes(found[1].payload) == b"conv1"
    assert found[10].value == 1
    assert bytes(found[5].payload) == b"\0\0\0?"
    assert {field.number for field in _walk(bytes(found[7].payload))} == {5, 8}


@given(number=st.integers(1, 1 << 20), payload=st.binary(max_size=300))
def test_encoded_bytes_are_read_back(number, payload):
    (field,) = _walk(wire.encode_bytes(number, payload))
    assert (field.number, bytes(field.payload)) == (number, payload)


def test_encoded_bytes_are_protobufs():
    assert BlobProto.FromString(wire.encode_bytes(5, b"\0\0\x80?" * 200)).data == [1.0] * 200


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x0a\x05abc", "claims 5 bytes where 3 are left"),
        (b"\x0a\xff\xff\xff\xff\x0f", "claims 4,294,967,295 bytes where 0 are left"),
        (b"\x0a", "ends in the middle of a number"),
        (b"\x08" + b"\xff" * 12, "more than ten bytes"),
        (b"\x0d\0\0", "claims 4 bytes where 2 are left"),
        (b"\x0b", "starts a group"),
        (b"\x0f", "wire type 7"),
        (b"\x02\x01a", "damaged"),  # field number zero
    ],
)
def test_damage_is_told(data, complaint):
    with pytest.raises(CaffeModelError, match=complaint):
        _walk(data)


@given(data=st.binary(max_size=64))
def test_any_bytes_end_in_fields_or_the_one_error(data):
    try:
        fields = _walk(data)
    except CaffeModelError:
        return
    assert sum(len(field.payload) for field in fields) <= len(data)
