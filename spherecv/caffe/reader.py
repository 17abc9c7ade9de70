"""Reading `.prototxt` and `.caffemodel` files into protobuf messages, with errors that say what is wrong with them."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from spherecv import protobuf as wire
from spherecv.caffe import text
from spherecv.caffe.graph import Layer
from spherecv.caffe.hdf5 import is_hdf5, read_hdf5
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


def read_definition(source: Source, *, strict: bool = True) -> Definition:
    """Read a net's definition and keep the line of every layer.

    Parameters
    ----------
    source : str, path or bytes
        A file, or the text itself as bytes.
    strict : bool
        Refuse fields that the schema lacks. Else those of layers are passed over and listed in the outline: the layer
        may be one that is not needed.
    """
    data, name = load_bytes(source, "<prototxt>")
    message = NetParameter()
    outline = text.parse(text.decode(data, name), message, name)
    definition = Definition(message, outline, name)
    for unknown in outline.unknown:
        if strict or unknown.layer is None:
            raise refusal(definition, unknown)
    return definition


def refusal(definition: Definition, unknown: text.Unknown) -> ModelFileError:
    """Return the error for a field that the schema lacks: of an unknown layer, or a mistake."""
    message, outline = definition.message, definition.outline
    if unknown.layer is not None:
        modern = len(outline.layer) > unknown.layer and outline.layer[unknown.layer] <= unknown.line
        if modern and unknown.layer < len(message.layer):
            param = message.layer[unknown.layer]
            if param.type and not is_known(param.type):
                layer = Layer(param.name, param.type, (), (), LayerParameter(), line=outline.layer[unknown.layer])
                error = unknown_type(layer)
                return type(error)(f"{definition.name}: {error}")
    place = f"{definition.name}:{unknown.line}:{unknown.column}"
    return PrototxtError(f"{place}: {unknown.reason}", line=unknown.line, column=unknown.column)


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
        solver: MessageT = kind()
        for unknown in text.parse(text.decode(data, name), solver, name).unknown:
            place = f"{name}:{unknown.line}:{unknown.column}"
            if _is_net(data, name):
                raise PrototxtError(f"{name} is a net, not a solver: pass the solver's prototxt, whose `net` names it")
            raise PrototxtError(f"{place}: {unknown.reason}", line=unknown.line, column=unknown.column)
        return solver
    return _decode(data, kind, name)


def _is_net(data: bytes, name: str) -> bool:
    """Whether a prototxt has layers."""
    try:
        outline = text.parse(text.decode(data, name), NetParameter(), name)
    except PrototxtError:
        return False
    return bool(outline.layer or outline.layers)


def read_caffemodel(source: Source) -> NetParameter:
    """Read a net's weights.

    Parameters
    ----------
    source : str, path or bytes
        A file, or its content: a caffemodel, or what Caffe stores with `snapshot_format: HDF5`.

    Returns
    -------
    NetParameter
        As the file has it, V1 or V2; `spherecv.caffe.upgrade.upgrade` turns V1 into V2.

    Raises
    ------
    CaffeModelError
        For a file that is truncated, damaged, or no caffemodel at all.
    ModelFileError
        If the file cannot be read.
    MissingDependencyError
        If it is HDF5, and the extra `hdf5` is not installed.
    """
    data, name = load_bytes(source, "<caffemodel>")
    if is_hdf5(data):
        return read_hdf5(data, name)
    try:
        _look_over(memoryview(data))
    except ValueError as error:
        raise CaffeModelError(f"{name} is not a whole caffemodel: {error}") from None
    message = _decode(data, NetParameter, name)
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
