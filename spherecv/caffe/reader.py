"""Reading `.prototxt` and `.caffemodel` files into protobuf messages, with errors that say what is wrong with them."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from spherecv import protobuf as wire
from spherecv.caffe import text
from spherecv.caffe.graph import Layer
from spherecv.caffe.layers import is_known, unknown_type
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter, NetParameter
from spherecv.errors import CaffeModelError, InvalidArgumentError, ModelFileError, PrototxtError

Source = str | PathLike[str] | bytes
MessageT = TypeVar("MessageT", bound=Message)

_LAYER_FIELDS = (2, 100)  # `layers` (V1) and `layer` in NetParameter
_MAX_FIELDS = 200_000  # a net of a thousand layers has some ten thousand; empty messages would eat memory
_MAX_BYTES = (1 << 31) - 1  # protobuf's own limit


@dataclass(frozen=True)
class Definition:
    """A parsed prototxt: the message as the file has it, and where each of its layers starts."""

    message: NetParameter
    outline: text.Outline
    name: str


def read_prototxt(source: Source) -> NetParameter:
    """Read a net's definition.

    Parameters
    ----------
    source : str, path or bytes
        A file, or the text itself as bytes.

    Returns
    -------
    NetParameter
        As the file has it; `spherecv.caffe.upgrade.upgrade` turns legacy `layers` into `layer`.

    Raises
    ------
    PrototxtError
        With line and column, for text that is not a prototxt.
    ModelFileError
        If the file cannot be read.
    """
    return read_definition(source).message


def read_definition(source: Source) -> Definition:
    """Read a net's definition and keep the line of every layer."""
    data, name = load_bytes(source, "<prototxt>")
    content = text.decode(data, name)
    outline = text.outline(content, name)
    try:
        message = text.parse(content, NetParameter(), name)
    except PrototxtError as error:
        _blame_layer(error, content, outline, name)
        raise
    return Definition(message, outline, name)


def read_message(source: Source, kind: type[MessageT]) -> MessageT:
    """Read any other message of the format: `SolverParameter` from text; `SolverState`, `BlobProto` from binary.

    Parameters
    ----------
    source : str, path or bytes
        A file, or its content.
    kind : type of message
        Which message of `spherecv_caffe_pb2` it is; SolverParameter is read as text, all others as binary.
    """
    name = f"<{kind.DESCRIPTOR.name}>"
    data, name = load_bytes(source, name)
    if kind.DESCRIPTOR.name == "SolverParameter":
        content = text.decode(data, name)
        text.outline(content, name)
        solver: MessageT = text.parse(content, kind(), name)
        return solver
    return _decode(data, kind, name)


def read_caffemodel(source: Source) -> NetParameter:
    """Read a net's weights.

    Parameters
    ----------
    source : str, path or bytes
        A file, or its content.

    Returns
    -------
    NetParameter
        As the file has it, V1 or V2; `spherecv.caffe.upgrade.upgrade` turns V1 into V2.

    Raises
    ------
    CaffeModelError
        For a file that is truncated, damaged, no caffemodel at all, or in the V0 format.
    ModelFileError
        If the file cannot be read.
    """
    data, name = load_bytes(source, "<caffemodel>")
    try:
        _look_over(memoryview(data))
    except ValueError as error:
        raise CaffeModelError(f"{name} is not a whole caffemodel: {error}") from None
    message = _decode(data, NetParameter, name)
    if any(layer.HasField("layer") for layer in message.layers):
        raise CaffeModelError(f"{name} is in Caffe's V0 format; {text.UPGRADE_ADVICE}")
    if not message.layer and not message.layers:
        raise CaffeModelError(f"{name} holds no layers: pass the .caffemodel that goes with the prototxt")
    return message


def load_bytes(source: Source, anonymous: str) -> tuple[bytes, str]:
    """Return the content of a source and the name to call it by in errors."""
    if isinstance(source, bytes):
        return source, anonymous
    if not isinstance(source, str | PathLike):
        raise InvalidArgumentError(f"{anonymous} must be a path or bytes, but got {type(source).__name__}")
    path = Path(source)
    try:
        status = path.stat()
        if status.st_size > _MAX_BYTES:
            raise ModelFileError(f"{path} has {status.st_size:,} bytes; Caffe's files have less than 2 GiB")
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"cannot read {path}: it is a folder or a device, not a file")
        return path.read_bytes(), str(path)
    except FileNotFoundError:
        raise ModelFileError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"cannot read {path}: {reason}") from None


def _blame_layer(error: PrototxtError, content: str, outline: text.Outline, name: str) -> None:
    """Say that a layer's type is unknown, where that is why its settings are: `foo_param` of a layer Foo."""
    if error.line is None or not outline.layer:
        return
    start = max((line for line in outline.layer if line <= error.line), default=0)
    end = min((line for line in outline.layer if line > error.line), default=None)
    block = "\n".join(content.split("\n")[start - 1 : None if end is None else end - 1]) if start else ""
    words = {key: re.search(rf"""\b{key}\s*:\s*["'](\w+)["']""", block) for key in ("name", "type")}
    if words["type"] is not None:
        label = words["name"][1] if words["name"] is not None else ""
        layer = Layer(label, words["type"][1], (), (), LayerParameter(), line=start)
        if not is_known(layer.type):
            unknown = unknown_type(layer)
            raise type(unknown)(f"{name}: {unknown}") from None


def _look_over(data: memoryview) -> None:
    """Walk the two outer levels, where a short file can claim much: lengths are checked, and messages counted."""
    seen = 0
    for outer in wire.fields(data):
        seen += 1
        if outer.number in _LAYER_FIELDS and outer.wire == wire.BYTES:
            for _ in wire.fields(data, outer.span):
                seen += 1
                if seen > _MAX_FIELDS:
                    break
        if seen > _MAX_FIELDS:
            raise ValueError(f"it has more than {_MAX_FIELDS:,} fields, which no net needs")


def _decode(data: bytes, kind: type[MessageT], name: str) -> MessageT:
    message: MessageT = kind()
    try:
        message.ParseFromString(data)
    except (DecodeError, MemoryError, RecursionError, OverflowError, ValueError):
        raise CaffeModelError(
            f"{name} ({len(data):,} bytes) is truncated or damaged: take a whole copy of the file"
        ) from None
    return message
