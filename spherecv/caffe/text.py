"""Prototxt as text: protobuf's own parser, after one look that bounds it and finds where each layer starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from spherecv.errors import PrototxtError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    MessageT = TypeVar("MessageT", bound=Message)

MAX_BYTES = 4 << 20  # a net of a thousand layers has one or two
_MAX_DEPTH = 16  # a solver with a net inside it nests five deep
_TOKEN = re.compile(
    r"""\#[^\n]*                          # comment
      | "(?:[^"\\\n]|\\.)*"               # strings, which may hold braces
      | '(?:[^'\\\n]|\\.)*'
      | (?P<brace>[{}<>])
      | (?P<word>[A-Za-z_]\w*)
      | (?P<newline>\n)""",
    re.VERBOSE,
)
UPGRADE_ADVICE = "upgrade it with Caffe's own upgrade_net_proto_text (or upgrade_net_proto_binary) and take the result"


@dataclass(frozen=True)
class Outline:
    """Where the layers of a prototxt start.

    Attributes
    ----------
    layer, layers : tuple of int
        The line (from 1) of every `layer` block and of every legacy `layers` block, in the order of the file.
    """

    layer: tuple[int, ...]
    layers: tuple[int, ...]


def decode(data: bytes, name: str) -> str:
    """Return a prototxt's bytes as text, refusing what cannot be one."""
    if len(data) > MAX_BYTES:
        raise PrototxtError(f"{name} has {len(data):,} bytes, more than any prototxt: pass the right file")
    if b"\0" in data:
        raise PrototxtError(f"{name} is binary, not a prototxt: were the prototxt and the caffemodel swapped?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise PrototxtError(
            f"{name}:{line}:{column}: not UTF-8 text: save the file as UTF-8", line=line, column=column
        ) from None


def outline(text: str, name: str) -> Outline:
    """Find the layers of a prototxt, and refuse nesting that no Caffe file has, and the V0 format."""
    starts: dict[str, list[int]] = {"layer": [], "layers": []}
    open_words: list[str] = []
    line, word, word_line = 1, "", 1
    for match in _TOKEN.finditer(text):
        if match["newline"]:
            line += 1
        elif match["word"]:
            word, word_line = match["word"], line
        elif match["brace"] in ("{", "<"):
            if not open_words and word in starts:
                starts[word].append(word_line)
            if open_words == ["layers"] and word == "layer":
                raise PrototxtError(f"{name}:{word_line}: this is Caffe's V0 format; {UPGRADE_ADVICE}", line=word_line)
            open_words.append(word)
            if len(open_words) > _MAX_DEPTH:
                raise PrototxtError(f"{name}:{line}: nested {_MAX_DEPTH} deep: this is no prototxt", line=line)
        elif match["brace"] and open_words:
            open_words.pop()
    return Outline(tuple(starts["layer"]), tuple(starts["layers"]))


def parse(text: str, message: MessageT, name: str) -> MessageT:
    """Fill a message from text.

    Raises
    ------
    PrototxtError
        With line and column, for a mistake in the text.
    """
    from google.protobuf import text_format

    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _readable(error, name) from None
    except (ValueError, TypeError, OverflowError, RecursionError, UnicodeError) as error:
        # The parser lets some of its own conversions through unwrapped (surrogates in strings, for one).
        raise PrototxtError(f"{name}: {_one_line(str(error)) or type(error).__name__}") from None
    return message


def render(message: Message) -> str:
    """Return a message as prototxt text."""
    from google.protobuf import text_format

    return str(text_format.MessageToString(message, as_utf8=True))


def _readable(error: Exception, name: str) -> PrototxtError:
    line, column = error.GetLine(), error.GetColumn()  # type: ignore[attr-defined]
    reason = re.sub(r"^\d+:\d+ : ", "", _one_line(str(error))).replace("spherecv_caffe.", "")
    place = name if line is None else f"{name}:{line}:{column}"
    return PrototxtError(f"{place}: {reason}", line=line, column=column)


def _one_line(reason: str) -> str:
    return " ".join(reason.split())[:300]
