"""The walk over protobuf fields agrees with the protobuf package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto

from spherecv.runtime.wire import fields, integers, messages, text


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=5), st.text(max_size=20), st.floats(width=32))
def test_reads_what_protobuf_writes(numbers, name, number):
    written = AttributeProto(name=name, f=number, ints=numbers).SerializeToString()
    read = list(fields(written, (0, len(written))))
    assert [n for field, value in read if field == 8 for n in integers(written, value)] == numbers
    assert [text(written, span) for field, span in messages(written, (0, len(written))) if field == 1] == [name]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=9))
def test_packed_numbers(numbers):
    written = TensorProto(int64_data=numbers).SerializeToString()
    assert [n for field, value in fields(written, (0, len(written))) for n in integers(written, value)] == numbers


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x0a\x05abc", r"field 1 claims 5 bytes where 3 are left"),
        (b"\x0a\xff\xff\xff\xff\x0f", r"claims 4,294,967,295 bytes where 0 are left"),
        (b"\x08", "cut short"),
        (b"\x08\x80", "cut short"),
        (b"\x08" + b"\x80" * 11, "cut short"),
        (b"\x0d\x00\x00", "cut short"),
        (b"\x09\x00\x00\x00\x00", "cut short"),
        (b"\x0b", "no field of wire type 3"),
    ],
)
def test_damage(content, message):
    with pytest.raises(ValueError, match=message):
        list(fields(content, (0, len(content))))
