"""Protobuf's wire format: a walk over the fields of a message where it lies, and the encoding of bulk bytes.

Nothing is decoded but what is looked at, so that a file can be looked over before it is parsed, and weights skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

Buffer = bytes | memoryview | mmap
Span = tuple[int, int]
"""Where something lies in a buffer: its start and its end."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_GROUPS = (3, 4)
_64_BITS = (1 << 64) - 1


class Field(NamedTuple):
    """One field of a message: its number, wire type, value (of a varint) and place in the buffer (of anything else)."""

    number: int
    wire: int
    value: int
    start: int
    end: int

    @property
    def span(self) -> Span:
        """Where its content lies."""
        return self.start, self.end


def fields(buffer: Buffer, span: Span | None = None) -> Iterator[Field]:
    """Walk over the fields of one message without entering any of them.

    Parameters
    ----------
    buffer : bytes, memoryview of bytes, or mmap
    span : (int, int), optional
        Where the message lies in it; by default it is all of it.

    Raises
    ------
    ValueError
        Where a field claims to be longer than what is left, or is none of the format's kinds.
    """
    return map(Field._make, _walk(buffer, span))


def _walk(buffer: Buffer, span: Span | None) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield plain tuples: making records of them all would double the time of a start."""
    at, last = span or (0, len(buffer))
    while at < last:
        start = at
        tag, at = (buffer[at], at + 1) if buffer[at] < 0x80 else _varint(buffer, at, last)
        number, wire = tag >> 3, tag & 7
        value = length = 0
        if wire == BYTES:
            length, at = (buffer[at], at + 1) if at < last and buffer[at] < 0x80 else _varint(buffer, at, last)
        elif wire == VARINT:
            value, at = (buffer[at], at + 1) if at < last and buffer[at] < 0x80 else _varint(buffer, at, last)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            kind = "a group" if wire in _GROUPS else f"wire type {wire}"
            raise ValueError(f"byte {start} starts {kind}, which no such file holds: it is damaged")
        if number == 0 or length > last - at:
            raise ValueError(
                f"the field at byte {start} claims {length:,} bytes where {last - at:,} are left: "
                "the file is truncated or damaged"
            )
        yield number, wire, value, at, at + length
        at += length


def messages(buffer: Buffer, span: Span | None = None) -> Iterator[tuple[int, Span]]:
    """Yield number and place of only the fields that have a length: messages, texts and bytes."""
    for number, wire, _, start, end in _walk(buffer, span):
        if wire == BYTES:
            yield number, (start, end)


def integers(buffer: Buffer, field: Field) -> list[int]:
    """Return the signed integers of one occurrence of a repeated field, packed or not."""
    if field.wire == VARINT:
        return [_signed(field.value)]
    numbers, (at, end) = [], field.span
    while at < end and field.wire == BYTES:
        number, at = _varint(buffer, at, end)
        numbers.append(_signed(number))
    return numbers


def text(buffer: Buffer, span: Span) -> str:
    """Decode a text."""
    return str(buffer[span[0] : span[1]], "utf-8", "replace")


def encode_bytes(number: int, payload: bytes | memoryview) -> bytes:
    """Return one length-delimited field: tag, length, payload."""
    return b"".join((_encode_varint(number << 3 | BYTES), _encode_varint(len(payload)), payload))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError(f"the file ends in the middle of a number at byte {at}: it is truncated")
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _64_BITS, at
    raise ValueError(f"the number before byte {at} has more than ten bytes: the file is damaged")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
