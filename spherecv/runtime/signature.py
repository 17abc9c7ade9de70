"""What an ONNX model asks for and gives, read from its bytes without the onnx package.

Importing onnx and parsing 90 MB of weights would cost a cold start 150 ms. The names, types and shapes of the inputs
and outputs, and the types of the nodes, are a few kilobytes that a walk over the protobuf fields finds in under a
millisecond, because everything else is skipped by its stated length. Field numbers are those of the public onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from mmap import mmap

from spherecv.errors import ModelFileError

Buffer = bytes | mmap
Dim = int | str | None

FLOAT = 1
"""The number of float32 among ONNX's element types."""

_TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
          10: "float16", 11: "float64", 16: "bfloat16"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Batch(Enum):
    """What a model does with the first axis."""

    ANY = "any size per call"
    ONE = "fixed at one: a batch is run item by item"
    NONE = "no batch that inputs and outputs share: every call is run as it is"


@dataclass(frozen=True)
class Port:
    """An input or an output: its name, its ONNX element type, and its shape (None: not even the rank is stated)."""

    name: str
    element: int
    dims: tuple[Dim, ...] | None

    @property
    def type_name(self) -> str:
        """NumPy's name of the element type."""
        return _TYPES.get(self.element, f"of ONNX type {self.element}")


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a model, and what the choice of an engine depends on.

    Attributes
    ----------
    inputs, outputs : tuple of Port
    operators : frozenset of str
        Types of the nodes of the main graph.
    grouped : bool
        Whether a convolution works in groups, as depthwise ones do.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: frozenset[str]
    grouped: bool

    def batch(self, outputs: tuple[str, ...]) -> Batch:
        """Say what the first axis means, as far as the outputs asked for are concerned."""
        ports = [*self.inputs, *(port for port in self.outputs if port.name in outputs)]
        first = {port.dims[0] if port.dims else "none" for port in ports}
        if any(not port.dims for port in ports) or len(first) > 1:
            return Batch.NONE
        (dim,) = first
        if isinstance(dim, int):
            return Batch.ONE if dim == 1 else Batch.NONE
        return Batch.ANY

    @property
    def fixed_size(self) -> bool:
        """Whether nothing but the batch changes from call to call."""
        return all(isinstance(dim, int) for port in self.inputs for dim in (port.dims or ())[1:])


def read_signature(model: Buffer, where: str) -> Signature:
    """Read what a model asks for and gives.

    Parameters
    ----------
    model : bytes or mmap
        A serialised ONNX ModelProto.
    where : str
        What to call the model in errors.

    Returns
    -------
    Signature

    Raises
    ------
    ModelFileError
        It is no ONNX model, is cut short, or states no inputs or outputs.
    """
    try:
        graphs = [span for number, span in _messages(model, (0, len(model))) if number == 7]
        if not graphs:
            raise ValueError("it holds no graph")
        return _graph(model, graphs[-1])
    except ValueError as error:
        raise ModelFileError(f"{where} is not a whole ONNX model: {error}") from None


Span = tuple[int, int]


def _graph(model: Buffer, span: Span) -> Signature:
    inputs: list[Port] = []
    outputs: list[Port] = []
    constants: set[str] = set()
    operators: set[str] = set()
    grouped = False
    for number, part in _messages(model, span):
        if number == 1:
            operator, group = _node(model, part)
            operators.add(operator)
            grouped = grouped or (operator == "Conv" and group > 1)
        elif number == 5:
            constants.update(_text(model, name) for field, name in _messages(model, part) if field == 8)
        elif number == 11:
            inputs.append(_port(model, part))
        elif number == 12:
            outputs.append(_port(model, part))
    # Before ONNX IR 4 the weights were listed among the inputs too.
    inputs = [port for port in inputs if port.name not in constants]
    if not inputs or not outputs:
        raise ValueError("it states no inputs or no outputs")
    return Signature(tuple(inputs), tuple(outputs), frozenset(operators), grouped)


def _node(model: Buffer, span: Span) -> tuple[str, int]:
    operator, group = "", 1
    for number, part in _messages(model, span):
        if number == 4:
            operator = _text(model, part)
        elif number == 5:
            fields = dict(_fields(model, part))
            name = fields.get(1)
            if isinstance(name, tuple) and _text(model, name) == "group":
                value = fields.get(3, 1)
                group = value if isinstance(value, int) else 1
    return operator, group


def _port(model: Buffer, span: Span) -> Port:
    name, element, dims = "", 0, None
    for number, part in _messages(model, span):
        if number == 1:
            name = _text(model, part)
        elif number == 2:
            for kind, tensor in _messages(model, part):
                if kind != 1:
                    continue
                for field, value in _fields(model, tensor):
                    if field == 1 and isinstance(value, int):
                        element = value
                    elif field == 2 and isinstance(value, tuple):
                        dims = tuple(_dim(model, dim) for number, dim in _messages(model, value) if number == 1)
    return Port(name, element, dims)


def _dim(model: Buffer, span: Span) -> Dim:
    for number, value in _fields(model, span):
        if number == 1 and isinstance(value, int):
            # 0, and -1 as its two's complement, are how some exporters say "any".
            return value if 0 < value < 1 << 63 else None
        if number == 2 and isinstance(value, tuple):
            return _text(model, value) or None
    return None


def _text(model: Buffer, span: Span) -> str:
    return model[span[0] : span[1]].decode("utf-8", "replace")


def _messages(model: Buffer, span: Span) -> Iterator[tuple[int, Span]]:
    """Walk over the fields that have a length: messages, texts and bytes."""
    for number, value in _fields(model, span):
        if isinstance(value, tuple):
            yield number, value


def _fields(model: Buffer, span: Span) -> Iterator[tuple[int, int | Span]]:
    """Walk over the fields of one message: numbers as they are, anything with a length as its place."""
    at, end = span
    while at < end:
        tag, at = _varint(model, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(model, at, end)
            yield number, value
        elif kind == _BYTES:
            length, at = _varint(model, at, end)
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


def _varint(model: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = model[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("it is cut short")
