"""The protobuf wire format, enough of it to look a file over before parsing and to reach packed numbers in bulk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from spherecv.errors import CaffeModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_GROUPS = (3, 4)


class Field(NamedTuple):
    """One field of a message: its number, wire type, value (of a varint) and payload (of anything else)."""

    number: int
    wire: int
    value: int
    payload: memoryview


def fields(data: memoryview, origin: int = 0) -> Iterator[Field]:
    """Walk over the fields of one message without entering any of them.

    Parameters
    ----------
    data : memoryview
        The message, as bytes.
    origin : int
        Where the message starts in its file; only for the text of errors.

    Raises
    ------
    CaffeModelError
        Where a field claims to be longer than what is left, or is none of the format's kinds.
    """
    at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at, origin)
        number, wire = tag >> 3, tag & 7
        value, length = 0, 0
        if wire == VARINT:
            value, at = _varint(data, at, origin)
        elif wire == BYTES:
            length, at = _varint(data, at, origin)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            kind = "a group" if wire in _GROUPS else f"wire type {wire}"
            raise CaffeModelError(f"byte {origin + start} starts {kind}, which no Caffe file holds: it is damaged")
        if number == 0 or length > len(data) - at:
            raise CaffeModelError(
                f"the field at byte {origin + start} claims {length:,} bytes where {len(data) - at:,} are left: "
                "the file is truncated or damaged"
            )
        yield Field(number, wire, value, data[at : at + length])
        at += length


def encode_bytes(number: int, payload: bytes | memoryview) -> bytes:
    """Return one length-delimited field: tag, length, payload."""
    return b"".join((_encode_varint(number << 3 | BYTES), _encode_varint(len(payload)), payload))


def _varint(data: memoryview, at: int, origin: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise CaffeModelError(f"the file ends in the middle of a number at byte {origin + at}: it is truncated")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise CaffeModelError(f"the number before byte {origin + at} has more than ten bytes: the file is damaged")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
