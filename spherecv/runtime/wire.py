"""A walk over the fields of a protobuf message where it lies: nothing is decoded but what is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap

Buffer = bytes | mmap
Span = tuple[int, int]
"""Where something lies in the buffer: its start and its end."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(buffer: Buffer, span: Span) -> Iterator[tuple[int, int | Span]]:
    """Yield the number and the value of each field of a message: an integer, or the place of anything with a length.

    Fixed-width fields, which are floats, are passed over.

    Raises
    ------
    ValueError
        The message is cut short or is none.
    """
    at, end = span
    while at < end:
        tag, at = _varint(buffer, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(buffer, at, end)
            yield number, value
        elif kind == _BYTES:
            length, at = _varint(buffer, at, end)
            if length > end - at:
                raise ValueError(f"field {number} claims {length:,} bytes where {end - at:,} are left")
            yield number, (at, at + length)
            at += length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            if at > end:
                raise ValueError("it is cut short")
        else:
            raise ValueError(f"there is no field of wire type {kind}")


def messages(buffer: Buffer, span: Span) -> Iterator[tuple[int, Span]]:
    """Yield only the fields that have a length: messages, texts and bytes."""
    for number, value in fields(buffer, span):
        if isinstance(value, tuple):
            yield number, value


def integers(buffer: Buffer, value: int | Span) -> list[int]:
    """Return the signed integers of one occurrence of a repeated field, packed or not."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, (at, end) = [], value
    while at < end:
        number, at = _varint(buffer, at, end)
        numbers.append(_signed(number))
    return numbers


def text(buffer: Buffer, span: Span) -> str:
    """Decode a text."""
    return buffer[span[0] : span[1]].decode("utf-8", "replace")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("it is cut short")
