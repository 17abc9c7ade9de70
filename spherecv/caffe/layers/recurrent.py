"""Recurrent layers: LSTM, RNN, and one step of an LSTM. They run after the net, in NumPy: faces hardly need them."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind
from spherecv.caffe.tail import Step


class Recurrent(LayerKind):
    """What LSTM and RNN have in common: (T, N, ...) steps and (T, N) marks where sequences go on, to (T, N, units)."""

    bottoms = (2, 5)
    tops = (1, 3)
    states = 0
    checked = "Caffe's answers"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.recurrent_param
        if param.num_output < 1:
            raise layer.mistake("num_output must be at least 1")
        steps, marks = bottoms[:2]
        if len(steps) < 3 or tuple(marks) != tuple(steps[:2]):
            raise layer.mistake(f"needs steps (T, N, ...) and marks (T, N), but got {steps}, {marks}")
        exposed = self.states if param.expose_hidden else 0
        if len(layer.tops) != 1 + exposed:
            raise layer.mistake(f"has {len(layer.tops)} tops, but needs {1 + exposed}")
        if len(bottoms) not in (2 + exposed, 3 + exposed):
            raise layer.mistake(f"has {len(bottoms)} bottoms, but needs {2 + exposed} or {3 + exposed}")
        if self._static(layer, bottoms) and bottoms[2][:1] != steps[1:2]:
            raise layer.mistake(f"its static bottom {bottoms[2]} is not of {steps[1]} sequences")
        state = (1, steps[1], param.num_output)
        if any(tuple(shape) != state for shape in bottoms[len(bottoms) - exposed :]):
            raise layer.mistake(f"its states must have the shape {state}")
        return [(*steps[:2], param.num_output), *[state] * exposed]

    def _static(self, layer: Layer, bottoms: Sequence[object]) -> bool:
        return len(bottoms) == 3 + (self.states if layer.param.recurrent_param.expose_hidden else 0)

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        settings = {"static": self._static(layer, bottoms), "exposed": layer.param.recurrent_param.expose_hidden}
        return Step(layer.type, settings, layer.blobs)


class LSTM(Recurrent):
    """Long short-term memory."""

    states = 2

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        units = layer.param.recurrent_param.num_output
        shapes: list[Shape] = [(4 * units, math.prod(bottoms[0][2:])), (4 * units,)]
        if self._static(layer, bottoms):
            shapes.append((4 * units, math.prod(bottoms[2][1:])))
        return [*shapes, (4 * units, units)]


class RNN(Recurrent):
    """tanh of what comes in and of the state, and tanh of a product of that."""

    states = 1

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        units = layer.param.recurrent_param.num_output
        shapes: list[Shape] = [(units, math.prod(bottoms[0][2:])), (units,)]
        if self._static(layer, bottoms):
            shapes.append((units, math.prod(bottoms[2][1:])))
        return [*shapes, (units, units), (units, units), (units,)]


class LSTMUnit(LayerKind):
    """One step of an LSTM: cell (1, N, units), gates (1, N, 4 units) and marks (1, N) to cell and output."""

    bottoms = (3, 3)
    tops = (2, 2)
    checked = "Caffe's answers"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        cell, gates, marks = bottoms
        if len(cell) != 3 or cell[0] != 1 or gates != (1, cell[1], 4 * cell[2]) or marks != (1, cell[1]):
            raise layer.mistake(f"needs a cell (1, N, D), gates (1, N, 4 D) and marks (1, N), but got {bottoms}")
        return [cell, cell]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        return Step("LSTMUnit")
