"""Prototxt as text, read as the parser in Caffe (protobuf's for C++, 3.21) reads it.

Python's own text format takes other texts: no space after a minus, a plus before a number, UTF-8 only, and what it
takes changes from one version to the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from spherecv.caffe.forks import fork_of, has_effect
from spherecv.errors import PrototxtError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

    MessageT = TypeVar("MessageT", bound=Message)

MAX_BYTES = 4 << 20  # a net of a thousand layers has one or two
_MAX_DEPTH = 16  # a solver with a net inside it nests five deep
_LONGEST_NUMBER = 40  # digits; beyond any integer of 64 bits
_LARGEST_FLOAT = 3.4028235677973366e38  # what rounds to infinity in float32
_TOKEN = re.compile(
    r"""[ \t\r\n\v\f]+ | \#[^\n]*
      | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<number>0[xX][0-9a-fA-F]+ | 0[0-9]+ | (?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)
      | (?P<string>"(?:[^"\\\n]|\\[^\n])*" | '(?:[^'\\\n]|\\[^\n])*')
      | (?P<symbol>[^"'])
      | (?P<open>["'])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    rb"""\\(?: ([0-7]{1,3}) | [xX]([0-9a-fA-F]{1,2}) | u([0-9a-fA-F]{4}) | U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})
      | ([abfnrtv\\?'"]) | (.?))""",
    re.VERBOSE | re.DOTALL,
)
_LETTERS = dict(zip(b"abfnrtv\\?'\"", b"\a\b\f\n\r\t\v\\?'\"", strict=True))
_TRUTH = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_CLOSING = {"{": "}", "<": ">"}


class Unknown(NamedTuple):
    """A field that the schema lacks: where it is, the place of its layer in the net, and what to say of it.

    Fields of a layer itself, not of its settings, have their name and their value too.
    """

    line: int
    column: int
    layer: int | None
    reason: str
    field: str | None = None
    value: object = None


@dataclass(frozen=True)
class Outline:
    """Where the layers of a prototxt start, and what in it is not known.

    Attributes
    ----------
    layer, layers : tuple of int
        The line (from 1) of every `layer` block and of every legacy `layers` block, in the order of the file.
    unknown : tuple of Unknown
        Fields that were passed over.
    """

    layer: tuple[int, ...]
    layers: tuple[int, ...]
    unknown: tuple[Unknown, ...] = ()


class _Field(NamedTuple):
    descriptor: FieldDescriptor
    repeated: bool
    kind: str


def decode(data: bytes, name: str) -> str:
    """Return a prototxt's bytes as characters of one byte each, refusing what cannot be a prototxt."""
    if len(data) > MAX_BYTES:
        raise PrototxtError(f"{name} has {len(data):,} bytes, more than any prototxt: pass the right file")
    if b"\0" in data:
        raise PrototxtError(f"{name} is binary, not a prototxt: were the prototxt and the caffemodel swapped?")
    return data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")


def as_text(value: str | bytes) -> str:
    """Return a name as text, whatever encoding its file has: UTF-8, else GB 18030 (Chinese), else Latin-1."""
    if isinstance(value, str):
        return value
    for encoding in ("utf-8", "gb18030"):
        try:
            return value.decode(encoding)
        except UnicodeDecodeError:
            continue
    return value.decode("latin-1")


def parse(text: str, message: Message, name: str) -> Outline:
    """Fill a message from text.

    Parameters
    ----------
    text : str
        From `decode`.
    message : Message
        An empty one.
    name : str
        Of the file, for errors.

    Returns
    -------
    Outline
        Fields that the schema lacks are passed over, and listed in it.

    Raises
    ------
    PrototxtError
        With line and column, for a mistake in the text.
    """
    return _Parser(text, name).parse(message)


def render(message: Message) -> str:
    """Return a message as prototxt text."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(message, as_utf8=True))


def gather(found: dict[str, object], name: str, value: object) -> None:
    """Add a value under a name; several of one name are a list."""
    if name not in found:
        found[name] = value
    else:
        before = found[name]
        several = before if isinstance(before, _Several) else _Several([before])
        several.extend(value if isinstance(value, list) else [value])
        found[name] = several


class _Several(list[object]):
    """Values of a field that is given several times."""


def _plain(text: str) -> object:
    """Return a number or a word without its type being known."""
    if text in ("true", "false"):
        return text == "true"
    if not (text[0].isdigit() or text[0] == "."):
        return {"inf": math.inf, "nan": math.nan}.get(text, text)
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    if text[0] == "0" and text.isdigit():
        return int(text, 8)
    if text.isdigit():
        return int(text) if len(text) <= _LONGEST_NUMBER else float(text)
    return float(text.rstrip("fF"))


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    from google.protobuf.descriptor import FieldDescriptor

    kinds = {
        FieldDescriptor.CPPTYPE_INT32: "int32",
        FieldDescriptor.CPPTYPE_INT64: "int64",
        FieldDescriptor.CPPTYPE_UINT32: "uint32",
        FieldDescriptor.CPPTYPE_UINT64: "uint64",
        FieldDescriptor.CPPTYPE_FLOAT: "float",
        FieldDescriptor.CPPTYPE_DOUBLE: "float",
        FieldDescriptor.CPPTYPE_BOOL: "bool",
        FieldDescriptor.CPPTYPE_ENUM: "enum",
        FieldDescriptor.CPPTYPE_MESSAGE: "message",
    }
    known = {}
    for field in descriptor.fields:
        kind = kinds.get(field.cpp_type, "bytes" if field.type == FieldDescriptor.TYPE_BYTES else "string")
        # protobuf 5 knows `label` only, protobuf 7 `is_repeated` only
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        known[field.name] = _Field(field, bool(repeated), kind)
    return known


class _Parser:
    """One token is looked at (`_kind`, `_text`, `_start`) while the rest of the text waits."""

    def __init__(self, text: str, name: str) -> None:
        self._source, self._name = text, name
        self._matches = _TOKEN.finditer(text)
        self._starts: dict[str, list[int]] = {"layer": [], "layers": []}
        self._counted = [0, 0]  # up to which place lines are counted, and how many
        self._block: int | None = None
        self._unknown: list[Unknown] = []
        self._advance()

    def parse(self, message: Message) -> Outline:
        fields = _fields(message.DESCRIPTOR)
        is_net = message.DESCRIPTOR.name == "NetParameter"
        while self._kind != "end":
            word = self._text
            self._block = None
            if is_net and word in self._starts:
                self._block = len(self._starts[word])
                self._starts[word].append(self._line())
            self._field(message, fields, 1)
        return Outline(tuple(self._starts["layer"]), tuple(self._starts["layers"]), tuple(self._unknown))

    def _advance(self) -> None:
        for match in self._matches:
            kind = match.lastgroup
            if kind is None:
                continue
            self._kind, self._text, self._start = kind, match[0], match.start()
            if kind == "number":
                self._check_number(match.end())
            elif kind == "open":
                raise self._mistake("a string that does not end on its line")
            elif kind == "symbol" and (self._text > "~" or self._text < " "):
                shown = repr(as_text(self._text.encode("latin-1")))
                raise self._mistake(f"the character {shown}, which only comments and strings may hold")
            return
        self._kind, self._text, self._start = "end", "", len(self._source)

    def _check_number(self, end: int) -> None:
        following = self._source[end : end + 1]
        octal = self._text[0] == "0" and self._text[1:2].isdigit()
        if following and (following.isalnum() or following in "_."):
            raise self._mistake(f"{self._shown()} runs into {following!r}: a number and a word need a space between")
        if octal and not set(self._text) <= set("01234567"):
            raise self._mistake(f"{self._shown()}: numbers that start with 0 are octal")

    def _field(self, message: Message, fields: dict[str, _Field], depth: int) -> None:
        if self._kind != "word":
            raise self._mistake(f"expected the name of a field, but got {self._shown()}")
        name, start = self._text, self._start
        field = fields.get(name)
        self._advance()
        if field is None:
            value = self._skip_value(depth)
            if has_effect(message.DESCRIPTOR.name, name):
                self._note_unknown(message.DESCRIPTOR.name, name, start, value)
        elif field.kind == "message":
            self._take(":")
            self._values(field, message, start, lambda: self._message(field, message, depth + 1))
        else:
            self._expect(":")
            self._values(field, message, start, lambda: self._scalar(field, message))
        if self._text in (";", ",") and self._kind == "symbol":
            self._advance()

    def _values(self, field: _Field, message: Message, start: int, read: Callable[[], None]) -> None:
        if not field.repeated:
            if message.HasField(field.descriptor.name):
                owner = message.DESCRIPTOR.name
                raise self._mistake(f"{owner} has the field {field.descriptor.name!r} already, which is no list", start)
            read()
        elif self._take("["):
            while not self._take("]"):
                read()
                if not self._is(",") and not self._is("]"):
                    raise self._mistake(f"expected , or ] in a list, but got {self._shown()}")
                if self._take(",") and self._is("]"):
                    raise self._mistake("a list ends with a comma")
        else:
            read()

    def _message(self, field: _Field, owner: Message, depth: int) -> None:
        if not (self._is("{") or self._is("<")):
            raise self._mistake(f"expected {{ after {field.descriptor.name!r}, but got {self._shown()}")
        if depth > _MAX_DEPTH:
            raise self._mistake(f"nested {_MAX_DEPTH} deep: this is no prototxt")
        closing = _CLOSING[self._text]
        self._advance()
        target: Any = getattr(owner, field.descriptor.name)
        if field.repeated:
            target = target.add()
        else:
            target.SetInParent()
        fields = _fields(target.DESCRIPTOR)
        while not (self._kind == "symbol" and self._text in "}>"):
            if self._kind == "end":
                raise self._mistake(f"the text ends before the {closing} of {field.descriptor.name!r}")
            self._field(target, fields, depth)
        self._expect(closing)

    def _scalar(self, field: _Field, message: Message) -> None:
        name, kind = field.descriptor.name, field.kind
        value: Any
        if kind in ("string", "bytes"):
            raw = self._string()
            value = as_text(raw) if kind == "string" else raw
        elif kind == "float":
            value = self._float()
        elif kind == "bool":
            value = self._bool(name)
        elif kind == "enum":
            value = self._enum(field)
        else:
            value = self._integer(kind)
        if field.repeated:
            getattr(message, name).append(value)
        else:
            setattr(message, name, value)

    def _string(self) -> bytes:
        if self._kind != "string":
            raise self._mistake(f"expected a string, but got {self._shown()}")
        parts = []
        while self._kind == "string":
            parts.append(_ESCAPE.sub(self._unescape, self._text[1:-1].encode("latin-1")))
            self._advance()
        return b"".join(parts)

    def _unescape(self, match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, short, long, letter, wrong = match.groups()
        if octal is not None:
            return bytes([int(octal, 8) & 0xFF])
        if hexadecimal is not None:
            return bytes([int(hexadecimal, 16)])
        if letter is not None:
            return bytes([_LETTERS[letter[0]]])
        if wrong is not None:
            raise self._mistake(f"a string with the escape \\{as_text(wrong)}, which there is not")
        return chr(int(short or long, 16)).encode("utf-8", "surrogatepass")

    def _float(self) -> float:
        sign = -1.0 if self._take("-") else 1.0
        text = self._text
        if self._kind == "number":
            if text[0] == "0" and text[1:2] in tuple("xX01234567"):
                raise self._mistake(f"expected a decimal number, but got {self._shown()}")
            value = float(text.rstrip("fF"))
        elif self._kind == "word" and text.lower() in ("inf", "infinity", "nan"):
            value = float(text.lower())
        else:
            raise self._mistake(f"expected a number, but got {self._shown()}")
        self._advance()
        return sign * (value if value < _LARGEST_FLOAT or value != value else float("inf"))

    def _integer(self, kind: str) -> int:
        start = self._start
        bits = 64 if kind.endswith("64") else 32
        negative = kind.startswith("int") and self._take("-")
        text = self._text
        if self._kind != "number" or not (text.isdigit() or text[:2] in ("0x", "0X")):
            raise self._mistake(f"expected a whole number, but got {self._shown()}")
        digits = len(text)
        base = 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" else 10
        value = int(text, base) if digits <= _LONGEST_NUMBER else 1 << 64
        most = (1 << bits) - 1 if kind.startswith("uint") else (1 << (bits - 1)) - 1 + negative
        if value > most:
            raise self._mistake(f"{'-' if negative else ''}{self._shown()} is out of the range of {kind}", start)
        self._advance()
        return -value if negative else value

    def _bool(self, name: str) -> bool:
        if self._kind == "number":
            start = self._start
            value = self._integer("uint32")
            if value > 1:
                raise self._mistake(f"{name!r} must be true or false, but got {value}", start)
            return bool(value)
        if self._kind != "word" or self._text not in _TRUTH:
            raise self._mistake(f"{name!r} must be true or false, but got {self._shown()}")
        truth = _TRUTH[self._text]
        self._advance()
        return truth

    def _enum(self, field: _Field) -> int:
        enum, start, shown = field.descriptor.enum_type, self._start, self._shown()
        if self._kind == "word":
            value = enum.values_by_name.get(self._text)
            self._advance()
        else:
            value = enum.values_by_number.get(self._integer("int32"))
        if value is None:
            raise self._mistake(
                f"{field.descriptor.name!r} has no value {shown}; it has {', '.join(enum.values_by_name)}", start
            )
        return int(value.number)

    def _note_unknown(self, owner: str, name: str, start: int, value: object) -> None:
        line, column = self._place(start)
        fork = fork_of(owner, name)
        where = f": {fork} has it" if fork else ""
        named = name if owner in ("LayerParameter", "V1LayerParameter") else None
        reason = f"{owner} has no field {name[:80]!r}{where}"
        self._unknown.append(Unknown(line, column, self._block, reason, named, value))

    def _skip_value(self, depth: int) -> object:
        """Pass over what follows an unknown field's name, which may be anything that could be a value; return it."""
        self._take(":")
        if self._is("{") or self._is("<"):
            return self._skip_message(depth + 1)
        if self._take("["):
            values = []
            while not self._take("]"):
                values.append(self._skip_value(depth + 1))
                if not self._is("]"):
                    self._expect(",")
            return values
        if self._kind == "string":
            return as_text(self._string())
        sign = -1 if self._take("-") else 1
        if self._kind not in ("word", "number"):
            raise self._mistake(f"expected a value, but got {self._shown()}")
        value = _plain(self._text)
        self._advance()
        return sign * value if isinstance(value, int | float) and sign < 0 else value

    def _skip_message(self, depth: int) -> dict[str, object]:
        if depth > _MAX_DEPTH:
            raise self._mistake(f"nested {_MAX_DEPTH} deep: this is no prototxt")
        closing = _CLOSING[self._text]
        found: dict[str, object] = {}
        self._advance()
        while not (self._kind == "symbol" and self._text in "}>"):
            if self._kind != "word":
                raise self._mistake(f"expected the name of a field, but got {self._shown()}")
            name = self._text
            self._advance()
            gather(found, name, self._skip_value(depth))
            if self._is(";") or self._is(","):
                self._advance()
        self._expect(closing)
        return found

    def _is(self, symbol: str) -> bool:
        return self._kind == "symbol" and self._text == symbol

    def _take(self, symbol: str) -> bool:
        found = self._is(symbol)
        if found:
            self._advance()
        return found

    def _expect(self, symbol: str) -> None:
        if not self._take(symbol):
            raise self._mistake(f"expected {symbol}, but got {self._shown()}")

    def _shown(self) -> str:
        if self._kind == "end":
            return "the end of the text"
        word = as_text(self._text[:60].encode("latin-1"))
        return word if self._kind in ("word", "number", "string") else repr(word)

    def _line(self) -> int:
        self._counted[1] += self._source.count("\n", self._counted[0], self._start)
        self._counted[0] = self._start
        return self._counted[1] + 1

    def _place(self, start: int) -> tuple[int, int]:
        line = self._source.count("\n", 0, start) + 1
        before = self._source[self._source.rfind("\n", 0, start) + 1 : start]
        return line, len(as_text(before.encode("latin-1"))) + 1

    def _mistake(self, reason: str, start: int | None = None) -> PrototxtError:
        line, column = self._place(self._start if start is None else start)
        return PrototxtError(f"{self._name}:{line}:{column}: {' '.join(reason.split())}", line=line, column=column)
