"""RecordIO files of MXNet, as CASIA-WebFace and MS1M are distributed: `.rec` read without MXNet."""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from spherecv.errors import DatasetError
from spherecv.files import Reading

SUFFIX = ".rec"
_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_LENGTH = (1 << 29) - 1
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class Record(NamedTuple):
    """One image of a `.rec`.

    Attributes
    ----------
    offset, size : int
        Of the record with its frame, in bytes; `payload` takes the image out of them.
    label : int
    """

    offset: int
    size: int
    label: int


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """Find the images of a `.rec`; of InsightFace's files the records that only describe others are passed over.

    Parameters
    ----------
    path : path
        The file is gone through from frame to frame; a `.idx` beside it, where there is one, must name the same places.

    Returns
    -------
    list of Record
        In the file's order.

    Raises
    ------
    DatasetError
        The file cannot be read, is truncated or damaged, holds no images, or its `.idx` is of another file.
    """
    file = Path(path)
    records: list[Record] = []
    places: set[int] = set()
    try:
        with file.open("rb") as stream:
            if not os.fstat(stream.fileno()).st_size:
                raise DatasetError(f"{file} is empty")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for offset, size, first in _frames(data, file):
                    places.add(offset)
                    flag, label, _, _ = _header(data, first, file)
                    skipped = _HEADER.size + 4 * flag
                    if size > _FRAME.size + skipped + 3:  # what is left is more than padding: an image
                        value = label if not flag else struct.unpack_from("<f", data, first + _HEADER.size)[0]
                        records.append(Record(offset, size, _whole_label(value, offset, file)))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    if not records:
        raise DatasetError(f"{file} holds no images")
    _check_index(file.with_suffix(".idx"), places)
    return records


def payload(record: bytes) -> bytes:
    """Take the image out of a record with its frame.

    Parameters
    ----------
    record : bytes
        `Record.size` bytes from `Record.offset`. A record whose image holds the frames' own mark was written in parts.

    Returns
    -------
    bytes
        The encoded image.

    Raises
    ------
    DatasetError
        Not a whole record.
    """
    parts = []
    at = 0
    while at + _FRAME.size <= len(record):
        magic, word = _FRAME.unpack_from(record, at)
        length = word & _LENGTH
        at += _FRAME.size
        if magic != _MAGIC or at + length > len(record):
            raise DatasetError("a record is damaged: its frame is not where it should be")
        parts.append(record[at : at + length])
        at += length + -length % 4
    content = _MAGIC_BYTES.join(parts)
    if len(content) < _HEADER.size:
        raise DatasetError("a record is damaged: it has no header")
    flag = _HEADER.unpack_from(content)[0]
    return content[_HEADER.size + 4 * flag :]


def read_record(path: str | os.PathLike[str], record: Record) -> bytes:
    """Read the encoded image of one record; raises `DatasetError`."""
    try:
        with Path(path).open("rb") as stream:
            stream.seek(record.offset)
            data = stream.read(record.size)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) != record.size:
        raise DatasetError(f"{path} is truncated: it ends inside of the record at byte {record.offset}")
    return payload(data)


def _frames(data: mmap.mmap, file: Path) -> Iterator[tuple[int, int, int]]:
    """Offset and size of each record, parts together, and where its content begins."""
    at, began, pages = 0, -1, Reading(data)
    while at < len(data):
        if at + _FRAME.size > len(data):
            raise DatasetError(f"{file} is truncated: it ends inside of the record at byte {at}")
        magic, word = _FRAME.unpack_from(data, at)
        kind, length = word >> 29, word & _LENGTH
        if magic != _MAGIC or kind > _LAST or (kind in (_MIDDLE, _LAST)) != (began >= 0):
            raise DatasetError(f"{file}, byte {at}: no RecordIO record begins here")
        stop = at + _FRAME.size + length + -length % 4
        if stop > len(data):
            raise DatasetError(f"{file} is truncated: the record at byte {at} should reach byte {stop}")
        began = at if kind in (_WHOLE, _FIRST) else began
        pages.reached(at)
        if kind in (_WHOLE, _LAST):
            yield began, stop - began, began + _FRAME.size
            began = -1
        at = stop
    if began >= 0:
        raise DatasetError(f"{file} is truncated: the record at byte {began} has no last part")


def _header(data: mmap.mmap, first: int, file: Path) -> tuple[int, float, int, int]:
    if first + _HEADER.size > len(data):
        raise DatasetError(f"{file} is truncated: the record at byte {first - _FRAME.size} has no header")
    flag, label, one, two = _HEADER.unpack_from(data, first)
    if first + _HEADER.size + 4 * flag > len(data):
        raise DatasetError(f"{file}, byte {first}: a record claims {flag} labels")
    return flag, label, one, two


def _whole_label(value: float, offset: int, file: Path) -> int:
    if not math.isfinite(value) or value < 0 or value != int(value):
        raise DatasetError(f"{file}, byte {offset}: a label must be a whole number from 0, but got {value}")
    return int(value)


def _check_index(path: Path, places: set[int]) -> None:
    if not path.is_file():
        return
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
        named = {int(row[1]) for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise DatasetError(f"{path} cannot be read as the index of a .rec: {error}") from None
    strange = named - places
    if strange:
        raise DatasetError(f"{path} is of another file: no record of the .rec begins at byte {min(strange)}")
