"""The walk over protobuf fields agrees with the protobuf package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto

from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, LayerParameter
from spherecv.protobuf import Field, encode_bytes, fields, integers, messages, text


def test_finds_what_protobuf_wrote():
    layer = LayerParameter(name="conv1", phase=1, loss_weight=[0.5], propagate_down=[True])
    layer.blobs.add(data=[1, 2], double_data=[3])
    written = layer.SerializeToString()
    found = {field.number: field for field in fields(written)}
    assert text(written, found[1].span) == "conv1"
    assert found[10].value == 1
    assert written[found[5].start : found[5].end] == b"\0\0\0?"
    assert {field.number for field in fields(written, found[7].span)} == {5, 8}


@pytest.mark.parametrize("kind", [bytes, memoryview])
@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=5), st.text(max_size=20), st.floats(width=32))
def test_reads_what_protobuf_writes(kind, numbers, name, number):
    written = kind(AttributeProto(name=name, f=number, ints=numbers).SerializeToString())
    assert [n for field in fields(written) if field.number == 8 for n in integers(written, field)] == numbers
    assert [text(written, span) for number, span in messages(written) if number == 1] == [name]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=9))
def test_packed_numbers(numbers):
    written = TensorProto(int64_data=numbers).SerializeToString()
    assert [n for field in fields(written) for n in integers(written, field)] == numbers


def test_a_field_of_fixed_width_holds_no_integers():
    (field,) = fields(AttributeProto(f=1.5).SerializeToString())
    assert integers(b"", field) == []


@given(number=st.integers(1, 1 << 20), payload=st.binary(max_size=300))
def test_encoded_bytes_are_read_back(number, payload):
    encoded = encode_bytes(number, payload)
    (field,) = fields(encoded)
    assert (field.number, encoded[field.start : field.end]) == (number, payload)


def test_encoded_bytes_are_protobufs():
    assert BlobProto.FromString(encode_bytes(5, b"\0\0\x80?" * 200)).data == [1.0] * 200


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\x0a\x05abc", "the field at byte 0 claims 5 bytes where 3 are left"),
        (b"\x0a\xff\xff\xff\xff\x0f", "claims 4,294,967,295 bytes where 0 are left"),
        (b"\x0a", "ends in the middle of a number at byte 1"),
        (b"\x08\x80", "ends in the middle of a number at byte 2"),
        (b"\x08" + b"\xff" * 12, "more than ten bytes"),
        (b"\x0d\0\0", "claims 4 bytes where 2 are left"),
        (b"\x09\0\0\0\0", "claims 8 bytes where 4 are left"),
        (b"\x0b", "starts a group"),
        (b"\x0f", "wire type 7"),
        (b"\x02\x01a", "damaged"),  # field number zero
    ],
)
def test_damage_is_told(data, complaint):
    with pytest.raises(ValueError, match=complaint):
        list(fields(data))


def test_a_field_may_not_reach_past_its_message():
    with pytest.raises(ValueError, match="claims 3 bytes where 2 are left"):
        list(fields(b"\x0a\x03abc", (0, 4)))


@given(data=st.binary(max_size=64))
def test_any_bytes_end_in_fields_or_the_one_error(data):
    try:
        found = list(fields(data))
    except ValueError:
        return
    assert all(isinstance(field, Field) and 0 <= field.start <= field.end <= len(data) for field in found)
    assert sum(field.end - field.start for field in found) <= len(data)
