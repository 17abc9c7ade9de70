"""A table of a net's layers: what comes out of each, what it weighs and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers import kind_of
from spherecv.caffe.shapes import infer


@dataclass(frozen=True)
class Row:
    """One layer of a `Summary`.

    Attributes
    ----------
    name, type : str
    output : tuple of int
        Shape of the first top.
    parameters : int
        Numbers in the layer's weights.
    macs : int
        Multiply-accumulate operations for the declared input.
    """

    name: str
    type: str
    output: Shape
    parameters: int
    macs: int

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, ready for JSON."""
        return {**asdict(self), "output": list(self.output)}


@dataclass(frozen=True)
class Summary:
    """A net as a table; ``str()`` prints it.

    Attributes
    ----------
    name : str
    inputs : dict of str to tuple of int
    rows : tuple of Row
    """

    name: str
    inputs: Mapping[str, Shape]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for the declared input."""
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        cells = [("layer", "type", "output", "parameters", "MACs")]
        cells += [(name, "Input", _times(shape), "", "") for name, shape in self.inputs.items()]
        cells += [(r.name, r.type, _times(r.output), f"{r.parameters:,}", f"{r.macs:,}") for r in self.rows]
        cells.append(("total", "", "", f"{self.parameters:,}", f"{self.macs:,}"))
        widths = [max(len(row[column]) for row in cells) for column in range(5)]
        lines = []
        for row in cells:
            left = [row[column].ljust(widths[column]) for column in range(3)]
            right = [row[column].rjust(widths[column]) for column in (3, 4)]
            lines.append("  ".join([*left, *right]).rstrip())
        rule = "-" * max(map(len, lines))
        return "\n".join([self.name, lines[0], rule, *lines[1:-1], rule, lines[-1]])


def summarize(name: str, layers: Sequence[Layer], inputs: Mapping[str, Shape]) -> Summary:
    """Return the table of a net."""
    rows = []
    for layer, (bottoms, tops) in zip(layers, infer(layers, inputs), strict=True):
        kind = kind_of(layer)
        parameters = sum(math.prod(shape) for shape in kind.blob_shapes(layer, bottoms))
        rows.append(Row(layer.name, layer.type, tops[0], parameters, kind.macs(layer, bottoms, tops)))
    return Summary(name, dict(inputs), tuple(rows))


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))
