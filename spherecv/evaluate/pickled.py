"""A reader of lists of bytes and booleans in pickle files, which runs nothing that the file asks for."""

from __future__ import annotations

import codecs
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from spherecv.errors import DatasetError
from spherecv.files import Reading

_CODINGS = ("raw", "escaped", "utf-8", "raw_unicode_escape")
_BYTES_BY_NAME = {("_codecs", "encode"): "encode", ("__builtin__", "bytes"): "empty", ("builtins", "bytes"): "empty"}
_LONGEST_LINE = 64
"""Of a number or name; the bytes of images in lines (protocol 0) may be as long as they like."""
_MOST_NUMBER_BYTES = 8
_MOST_DIGITS = 20
_MOST_ITEMS = 50_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the bytes of one object lie in the file.

    Attributes
    ----------
    start, stop : int
        In bytes from the file's beginning.
    coding : int
        Position in raw bytes, Python 2's escapes, UTF-8 and raw-unicode-escape.
    """

    start: int
    stop: int
    coding: int = 0

    def raw(self, stream: BinaryIO) -> bytes:
        """Return the bytes as they are written; raises `DatasetError` where the file ends before them."""
        stream.seek(self.start)
        data = stream.read(self.stop - self.start)
        if len(data) != self.stop - self.start:
            raise DatasetError(f"the file ends at byte {self.start + len(data)}, but should reach {self.stop}")
        return data

    def read(self, stream: BinaryIO) -> bytes:
        """Return the bytes that are meant; raises `DatasetError` where they cannot be what the file says."""
        data = self.raw(stream)
        if self.coding == 0:
            return data
        try:
            if self.coding == 1:
                return codecs.escape_decode(data)[0]
            return data.decode(_CODINGS[self.coding]).encode("latin-1")
        except ValueError as error:
            raise DatasetError(f"bytes {self.start} to {self.stop} are not escaped as they ought: {error}") from None


@dataclass(frozen=True, slots=True)
class _Text:
    """A text of the file: only ever the argument of the encoding that protocols 0 to 2 write bytes with."""

    piece: Piece


class _Mark:
    pass


class _Arguments(tuple[Any, ...]):
    """A tuple that holds more than data: only ever the arguments of such an encoding."""

    __slots__ = ()


_MARK = _Mark()
_INNER = str | _Text | _Mark | _Arguments
Loaded = list[Any] | tuple[Any, ...] | Piece | int | bool


def read_plain_pickle(path: str | os.PathLike[str]) -> Loaded:
    """Read a pickle of nothing but lists, tuples, bytes, whole numbers and booleans.

    The file's instructions are interpreted here, one by one: no class is looked up and nothing is called. Bytes are not
    read; their places are given, so that the memory needed is that of the places.

    Parameters
    ----------
    path : path
        Of protocol 0 to 5, as Python 2 or 3 writes it.

    Returns
    -------
    list, tuple, Piece, int or bool
        Python 2's `str` counts as bytes.

    Raises
    ------
    DatasetError
        The file cannot be read, is truncated, not a pickle, or holds anything else; the message names the place.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                raise DatasetError(f"{file} is empty")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data, file).run()
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None


class _Reader:
    def __init__(self, data: mmap.mmap, file: Path) -> None:
        self._data = data
        self._pages = Reading(data)
        self._file = file
        self._size = len(data)
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._does = _instructions(self)

    def run(self) -> Loaded:
        while True:
            code = self._take(1)
            if code == b".":
                return self._finished()
            if code not in self._does:
                self._refuse(f"instruction {code!r}, which lists of bytes and booleans do not need", self._at - 1)
            self._does[code]()
            if len(self._stack) > _MOST_ITEMS:
                self._refuse(f"more than {_MOST_ITEMS:,} objects")

    def _finished(self) -> Loaded:
        if len(self._stack) != 1 or isinstance(self._stack[0], _INNER):
            self._refuse("an end where there is not one list")
        if self._at != self._size:
            self._refuse(f"{self._size - self._at} bytes behind its end")
        answer: Loaded = self._stack[0]
        return answer

    def _refuse(self, what: str, at: int | None = None) -> Any:
        place = self._at if at is None else at
        raise DatasetError(f"{self._file}, byte {place}: {what}; only a pickle of lists of bytes and booleans is read")

    def _take(self, count: int) -> bytes:
        if count > self._size - self._at:
            raise DatasetError(f"{self._file} is truncated: it ends at byte {self._size}, inside of its lists")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _line(self, longest: int | None = _LONGEST_LINE) -> tuple[int, int]:
        end = self._data.find(b"\n", self._at, self._size if longest is None else self._at + longest)
        if end < 0:
            self._refuse("a line without an end")
        start, self._at = self._at, end + 1
        return start, end

    def _short(self) -> bytes:
        start, end = self._line()
        return self._data[start:end]

    def span(self, form: str, coding: int = 0) -> Piece:
        """Take the bytes whose length comes first."""
        length = self._number(form)
        if not 0 <= length <= self._size - self._at:
            raise DatasetError(f"{self._file} is truncated: {length:,} bytes should follow byte {self._at}")
        self._at += length
        self._pages.reached(self._at)
        return Piece(self._at - length, self._at, coding)

    def quoted(self) -> Piece:
        start, end = self._line(None)
        if self._data[end - 1 : end] == b"\r":
            end -= 1
        quotes = self._data[start : start + 1], self._data[end - 1 : end]
        if end - start < 2 or quotes[0] != quotes[1] or quotes[0] not in (b"'", b'"'):
            self._refuse("a string without quotes", start)
        return Piece(start + 1, end - 1, 1)

    def text_line(self) -> _Text:
        return _Text(Piece(*self._line(None), 3))

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            self._refuse("an instruction that needs an object before it")
        return self._stack.pop()

    def pop_marked(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if isinstance(self._stack[place], _Mark):
                items = self._stack[place + 1 :]
                del self._stack[place:]
                return items
        return list(self._refuse("an instruction that needs a mark before it"))

    def extend(self, items: list[Any]) -> None:
        if not self._stack or not isinstance(self._stack[-1], list):
            self._refuse("items without a list")
        self._stack[-1].extend(self.plain(items))

    def plain(self, items: list[Any]) -> list[Any]:
        """Refuse texts and names among the items of a list."""
        if any(isinstance(item, _INNER) for item in items):
            self._refuse("a text or a name in a list")
        return items

    def push_tuple(self, items: list[Any]) -> None:
        self._stack.append(_Arguments(items) if any(isinstance(item, _INNER) for item in items) else tuple(items))

    def remember(self, place: int) -> None:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            self._refuse("an instruction that needs an object before it")
        self._memo[place] = self._stack[-1]

    def recall(self, place: int) -> None:
        if place not in self._memo:
            self._refuse(f"object {place}, which was not remembered")
        self.push(self._memo[place])

    def whole(self) -> int | bool:
        line = self._short().strip()
        if line in (b"00", b"01"):
            return line == b"01"
        return self._parsed(line.rstrip(b"L"))

    def long(self, form: str) -> int:
        length = self._number(form)
        if not 0 <= length <= _MOST_NUMBER_BYTES:
            self._refuse(f"a number of {length} bytes")
        return int.from_bytes(self._take(length), "little", signed=True)

    def line_number(self) -> int:
        return self._parsed(self._short().strip())

    def _parsed(self, line: bytes) -> int:
        if not line.lstrip(b"-").isdigit() or len(line) > _MOST_DIGITS:
            self._refuse(f"{line!r} where a whole number should be")
        return int(line)

    def name(self) -> str:
        """Take the name of an object: only those by which protocols 0 to 2 write bytes, and they stay names."""
        start = self._at
        module, attribute = (self._short().decode("latin-1") for _ in range(2))
        if (module, attribute) not in _BYTES_BY_NAME:
            self._refuse(f"the object {module}.{attribute}, which is not looked up", start)
        return _BYTES_BY_NAME[module, attribute]

    def reduce(self) -> None:
        arguments, what = self.pop(), self.pop()
        if what == "empty" and isinstance(arguments, tuple) and not arguments:
            self.push(Piece(0, 0))
        elif what == "encode" and isinstance(arguments, tuple) and len(arguments) == 2:
            text, coding = arguments
            if not (isinstance(text, _Text) and isinstance(coding, _Text) and self._is_latin(coding.piece)):
                self._refuse("an encoding that is not latin1 of a text")
            self.push(text.piece)
        else:
            self._refuse("a call, which is not made")

    def _is_latin(self, piece: Piece) -> bool:
        return self._data[piece.start : piece.stop] in (b"latin1", b"latin-1")

    def take(self, form: str) -> int:
        """Take a number of this form."""
        return self._number(form)

    def protocol(self) -> None:
        number = self._number("<B")
        if number > 5:
            self._refuse(f"pickle protocol {number}")

    def frame(self) -> None:
        if self._number("<Q") > self._size - self._at:
            raise DatasetError(f"{self._file} is truncated: it ends at byte {self._size}, inside of its lists")

    @property
    def remembered(self) -> int:
        """How many objects were remembered."""
        return len(self._memo)


def _instructions(reader: _Reader) -> dict[bytes, Callable[[], None]]:
    """What each instruction does; those that are not here are refused."""
    push, pop, marked = reader.push, reader.pop, reader.pop_marked
    return {
        b"\x80": reader.protocol,
        b"\x95": reader.frame,
        b"(": lambda: push(_MARK),
        b"]": lambda: push([]),
        b"l": lambda: push(reader.plain(marked())),
        b"a": lambda: reader.extend([pop()]),
        b"e": lambda: reader.extend(marked()),
        b")": lambda: push(()),
        b"t": lambda: reader.push_tuple(marked()),
        b"\x85": lambda: reader.push_tuple([pop()]),
        b"\x86": lambda: reader.push_tuple([pop(), pop()][::-1]),
        b"\x87": lambda: reader.push_tuple([pop(), pop(), pop()][::-1]),
        b"B": lambda: push(reader.span("<I")),
        b"C": lambda: push(reader.span("<B")),
        b"\x8e": lambda: push(reader.span("<Q")),
        b"\x96": lambda: push(reader.span("<Q")),
        b"T": lambda: push(reader.span("<i")),
        b"U": lambda: push(reader.span("<B")),
        b"S": lambda: push(reader.quoted()),
        b"X": lambda: push(_Text(reader.span("<I", 2))),
        b"\x8c": lambda: push(_Text(reader.span("<B", 2))),
        b"\x8d": lambda: push(_Text(reader.span("<Q", 2))),
        b"V": lambda: push(reader.text_line()),
        b"c": lambda: push(reader.name()),
        b"R": reader.reduce,
        b"\x88": lambda: push(True),
        b"\x89": lambda: push(False),
        b"I": lambda: push(reader.whole()),
        b"L": lambda: push(reader.whole()),
        b"J": lambda: push(reader.take("<i")),
        b"K": lambda: push(reader.take("<B")),
        b"M": lambda: push(reader.take("<H")),
        b"\x8a": lambda: push(reader.long("<B")),
        b"\x8b": lambda: push(reader.long("<i")),
        b"p": lambda: reader.remember(reader.line_number()),
        b"q": lambda: reader.remember(reader.take("<B")),
        b"r": lambda: reader.remember(reader.take("<I")),
        b"\x94": lambda: reader.remember(reader.remembered),
        b"g": lambda: reader.recall(reader.line_number()),
        b"h": lambda: reader.recall(reader.take("<B")),
        b"j": lambda: reader.recall(reader.take("<I")),
    }
