"""LSTM, RNN and one step of an LSTM, as Caffe unrolls them (lstm_layer.cpp, rnn_layer.cpp, lstm_unit_layer.cpp)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def lstm(inputs: Sequence[Array], settings: Mapping[str, Any], weights: Sequence[Array]) -> list[Array]:
    """Return the outputs (T, N, D), and the last states where they are exposed.

    Inputs are steps (T, N, ...), marks (T, N), perhaps a static (N, ...), perhaps the first h and c (1, N, D). Weights
    are those of the steps, their bias, perhaps of the static input, and of the state.
    """
    steps, marks, static, states = _parts(inputs, settings)
    count, batch = marks.shape
    gates_in, hidden = _incoming(steps, static, weights, batch), weights[-1]
    units = hidden.shape[1]
    h, c = (state[0] for state in states) if states else (np.zeros((batch, units), np.float32),) * 2
    outputs = np.empty((count, batch, units), np.float32)
    for time in range(count):
        going = marks[time][:, None]
        # Caffe multiplies the state by the mark before it is used, and the cell by it inside the unit.
        h, c = _unit(c, gates_in[time] + (h * going) @ hidden.T, going)[::-1]
        outputs[time] = h
    return [outputs, h[None], c[None]] if settings["exposed"] else [outputs]


def rnn(inputs: Sequence[Array], settings: Mapping[str, Any], weights: Sequence[Array]) -> list[Array]:
    """Return the outputs (T, N, D), and the last state where it is exposed; inputs are as those of `lstm`."""
    steps, marks, static, states = _parts(inputs, settings)
    count, batch = marks.shape
    hidden, out, bias = weights[-3:]
    incoming = _incoming(steps, static, weights, batch)
    h = states[0][0] if states else np.zeros((batch, len(hidden)), np.float32)
    outputs = np.empty((count, batch, len(hidden)), np.float32)
    for time in range(count):
        h = np.tanh(incoming[time] + (h * marks[time][:, None]) @ hidden.T)
        outputs[time] = np.tanh(h @ out.T + bias)
    return [outputs, h[None]] if settings["exposed"] else [outputs]


def lstm_unit(inputs: Sequence[Array], _: Mapping[str, Any], __: Sequence[Array]) -> list[Array]:
    """Return cell and output (1, N, D) after one step, from the cell, the gates (1, N, 4 D) and the marks (1, N)."""
    cell, gates, marks = inputs
    return [state[None] for state in _unit(cell[0], gates[0], marks[0][:, None])]


def _parts(
    inputs: Sequence[Array], settings: Mapping[str, Any]
) -> tuple[Array, Array, Array | None, Sequence[Array]]:
    steps, marks, *rest = inputs
    static = rest.pop(0) if settings["static"] else None
    return steps, marks, static, rest


def _incoming(steps: Array, static: Array | None, weights: Sequence[Array], batch: int) -> Array:
    """Return what comes to every step from outside, (T, N, units or gates)."""
    flat = steps.reshape(len(steps), batch, -1)
    incoming: Array = flat @ weights[0].T + weights[1]
    if static is not None:
        incoming = incoming + static.reshape(batch, -1) @ weights[2].T
    return incoming


def _unit(cell: Array, gates: Array, going: Array) -> tuple[Array, Array]:
    """Return the new cell and the output. The gates are those of input, forgetting and output, and what is added."""
    let_in, keep, let_out, new = np.split(gates, 4, axis=-1)
    kept = np.where(going == 0, np.float32(0), going * _sigmoid(keep)) * cell
    cell = kept + _sigmoid(let_in) * np.tanh(new)
    return cell, _sigmoid(let_out) * np.tanh(cell)


def _sigmoid(x: Array) -> Array:
    half = np.float32(0.5)
    gate: Array = half * np.tanh(half * x) + half
    return gate
