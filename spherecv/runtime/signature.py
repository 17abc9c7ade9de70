"""What an ONNX model asks for and gives, read from its bytes without the onnx package.

Importing onnx and parsing 90 MB of weights would cost a cold start 150 ms. The names, types and shapes of the inputs
and outputs, and the nodes, are a few kilobytes that a walk over the protobuf fields finds in a millisecond, because
weights are skipped by their stated length. Field numbers are those of the public onnx.proto.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from spherecv.errors import ModelFileError
from spherecv.protobuf import BYTES, VARINT, Buffer, Span, fields, integers, messages, text

Dim = int | str | None

FLOAT = 1
"""The number of float32 among ONNX's element types."""

_EXTERNAL = 1
"""TensorProto.data_location of a weight in another file."""

CONVERTER = "spherecv"
"""The producer of what the Caffe converter writes, whose every layer is under test on every backend."""
TAIL_KEY = "spherecv.tail"
"""Key of the metadata under which a tail stands, see `spherecv.runtime.tail`."""
QUANTISERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")

_TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
          10: "float16", 11: "float64", 16: "bfloat16"}  # fmt: skip


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
class Node:
    """One node of the graph, with those of its attributes that are integers, and the names of all."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: dict[str, tuple[int, ...]]

    def integer(self, name: str, default: int) -> int:
        """Return an attribute of one number."""
        return (self.integers.get(name) or (default,))[0]


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs and nodes of a model, its metadata, and what wrote it."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    producer: str = ""

    def batch(self, outputs: tuple[str, ...]) -> Batch:
        """Say what the first axis means, as far as the outputs asked for are concerned."""
        ports = [*self.inputs, *(port for port in self.outputs if port.name in outputs)]
        if not all(port.dims for port in ports):
            return Batch.NONE
        first = {port.dims[0] for port in ports if port.dims}
        if len(first) > 1:
            return Batch.NONE
        (dim,) = first
        if isinstance(dim, int):
            return Batch.ONE if dim == 1 else Batch.NONE
        return Batch.ANY

    @property
    def fixed_size(self) -> bool:
        """Whether nothing but the batch changes from call to call."""
        return all(isinstance(dim, int) for port in self.inputs for dim in (port.dims or ())[1:])

    @property
    def quantised(self) -> bool:
        """Whether the net computes in integers."""
        return any(node.operator in QUANTISERS or node.operator.startswith("QLinear") for node in self.nodes)


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
        It is no ONNX model, is cut short, states no inputs or outputs, or has weights in another file.
    """
    try:
        parts = list(messages(model))
        graphs = [span for number, span in parts if number == 7]
        if not graphs:
            raise ValueError("it holds no graph")
        metadata = dict(_entry(model, span) for number, span in parts if number == 14)
        producer = next((text(model, span) for number, span in parts if number == 2), "")
        return replace(_graph(model, graphs[-1]), metadata=metadata, producer=producer)
    except ValueError as error:
        raise ModelFileError(f"{where} is not a whole ONNX model: {error}") from None


def signature_of(path: Path) -> Signature:
    """Read the signature of a file, without its weights; raises `ModelFileError`."""
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
                raise ModelFileError(f"{path} is empty: fetch or convert the model again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return read_signature(mapped, str(path))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None


def _entry(model: Buffer, span: Span) -> tuple[str, str]:
    key = value = ""
    for number, part in messages(model, span):
        if number == 1:
            key = text(model, part)
        elif number == 2:
            value = text(model, part)
    return key, value


def _graph(model: Buffer, span: Span) -> Signature:
    inputs: list[Port] = []
    outputs: list[Port] = []
    nodes: list[Node] = []
    constants: set[str] = set()
    for number, part in messages(model, span):
        if number == 1:
            nodes.append(_node(model, part))
        elif number == 5:
            constants.add(_constant(model, part))
        elif number == 11:
            inputs.append(_port(model, part))
        elif number == 12:
            outputs.append(_port(model, part))
    # Before ONNX IR 4 the weights were listed among the inputs too.
    inputs = [port for port in inputs if port.name not in constants]
    if not inputs or not outputs:
        raise ValueError("it states no inputs or no outputs")
    return Signature(tuple(inputs), tuple(outputs), tuple(nodes))


def _constant(model: Buffer, span: Span) -> str:
    """The name of a weight; an error for one that lies in another file, since a model's hash must cover its weights."""
    name, place, elsewhere = "", "", False
    for field in fields(model, span):
        if field.number == 8 and field.wire == BYTES:
            name = text(model, field.span)
        elif field.number == 13 and field.wire == BYTES:
            key, value = _entry(model, field.span)
            place = value if key == "location" else place
        elif field.number == 14 and field.wire == VARINT:
            elsewhere = field.value == _EXTERNAL
    if elsewhere:
        raise ValueError(
            f"its weights lie in another file, {place[:80]!r}; put them into one: "
            "onnx.save(onnx.load('NET.onnx'), 'WHOLE.onnx')"
        )
    return name


def _node(model: Buffer, span: Span) -> Node:
    operator = ""
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: dict[str, tuple[int, ...]] = {}
    for number, part in messages(model, span):
        if number == 1:
            inputs.append(text(model, part))
        elif number == 2:
            outputs.append(text(model, part))
        elif number == 4:
            operator = text(model, part)
        elif number == 5:
            name = ""
            numbers: list[int] = []
            for field in fields(model, part):
                if field.number == 1 and field.wire == BYTES:
                    name = text(model, field.span)
                elif field.number in (3, 8):  # i and ints
                    numbers += integers(model, field)
            attributes[name] = tuple(numbers)
    return Node(operator, tuple(inputs), tuple(outputs), attributes)


def _port(model: Buffer, span: Span) -> Port:
    name, element = "", 0
    dims: tuple[Dim, ...] | None = None
    for number, part in messages(model, span):
        if number == 1:
            name = text(model, part)
        elif number == 2:
            for kind, tensor in messages(model, part):
                if kind != 1:  # a sequence or a map
                    continue
                for field in fields(model, tensor):
                    if field.number == 1 and field.wire == VARINT:
                        element = field.value
                    elif field.number == 2 and field.wire == BYTES:
                        dims = tuple(_dim(model, dim) for axis, dim in messages(model, field.span) if axis == 1)
    return Port(name, element, dims)


def _dim(model: Buffer, span: Span) -> Dim:
    for field in fields(model, span):
        if field.number == 1 and field.wire == VARINT:
            # 0, and -1 as its two's complement, are how some exporters say "any".
            return field.value if 0 < field.value < 1 << 63 else None
        if field.number == 2 and field.wire == BYTES:
            return text(model, field.span) or None
    return None
