# ruff: noqa: D102 - these methods are documented where their interface is
"""RNN, LSTM and LSTMUnit: layers whose steps see what the step before left.

Source of the formulas: Donahue et al., "Long-term Recurrent Convolutional Networks", CVPR 2015, whose layers these are.
Bottoms are the steps (time, sequences, ...), an indicator (time, sequences) that is 0 where a new sequence begins,
and what `expose_hidden` and a static input add.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spherecv.train.backend.base import Array
from spherecv.train.layers.base import MANY, CaffeOrderLayer
from spherecv.train.params import BlobOrder, Param, Shape


class Recurrent(CaffeOrderLayer):
    """What RNN and LSTM have in common: inputs, static inputs, hidden state over passes, and gradients over time.

    The state that `expose_hidden` takes and gives is there to be handed on: as in Caffe, no gradient passes through it.
    Without `expose_hidden` a pass begins with the state in which the pass before ended, where the indicator is not 0.
    """

    takes = (2, MANY)
    gives = (1, MANY)
    gates = 1  # how many rows of the weights there are for each output
    states = 1  # how many blobs are the hidden state
    expose: bool

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, (x, cont) = self.spec.param.recurrent_param, shapes[:2]
        self.width, self.expose = settings.num_output, settings.expose_hidden
        hidden = self.states if self.expose else 0
        self.static = len(shapes) == 3 + hidden
        if self.width < 1:
            raise self.spec.mistake("num_output must be at least 1")
        if len(shapes) != 2 + hidden + self.static or len(self.spec.tops) != 1 + hidden:
            raise self.spec.mistake(
                f"has {len(shapes)} bottoms and {len(self.spec.tops)} tops, but needs {2 + hidden} or {3 + hidden}, "
                f"and {1 + hidden}"
            )
        if len(x) < 2 or cont != x[:2]:
            raise self.spec.mistake(f"its second bottom must have shape {x[:2]}, but has {cont}")
        state = (1, x[1], self.width)
        if any(shape != state for shape in shapes[2 + self.static :]):
            raise self.spec.mistake(f"its hidden state must have shape {state}, but got {shapes[2 + self.static :]}")
        if self.static and shapes[2][0] != x[1]:
            raise self.spec.mistake(f"its static input must begin with {x[1]}, but has shape {shapes[2]}")
        rows = self.gates * self.width
        self.weight_x = self._weight(rows, math.prod(x[2:]))
        self.bias = self._bias(rows)
        self.weight_static = self._weight(rows, math.prod(shapes[2][1:])) if self.static else None
        self.weight_h = self._weight(rows, self.width)
        self.more_params()
        self.carried: list[Array] | None = None
        return [(x[0], x[1], self.width), *[state] * hidden]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, (x, cont) = self.backend.xp, bottoms[:2]
        steps, count = x.shape[:2]
        given = [xp.reshape(bottom, bottom.shape[1:]) for bottom in bottoms[2 + self.static :]]
        state = given or self.carried or [self.backend.zeros((count, self.width)) for _ in range(self.states)]
        if state[0].shape[0] != count:
            raise self.spec.mistake(f"goes on with the state of {state[0].shape[0]} sequences, but got {count}")
        flat = xp.reshape(x, (steps * count, -1))
        driven = self.backend.matmul(flat, xp.matrix_transpose(self.weight_x.data)) + self.bias.data
        driven = xp.reshape(driven, (steps, count, -1))
        fixed = None
        if self.weight_static is not None:
            fixed = xp.reshape(bottoms[2], (count, -1))
            driven = driven + self.backend.matmul(fixed, xp.matrix_transpose(self.weight_static.data))
        made, kept = [], []
        for t in range(steps):
            keep = self.backend.real(cont[t, ...])[:, None]
            output, state, memory = self.step(driven[t, ...], state, keep)
            made.append(output)
            kept.append((keep, memory))
        self.carried = None if self.expose else state
        self._kept = (flat, fixed, kept, [bottom.shape for bottom in bottoms])
        tops = [xp.stack(made, axis=0)]
        return tops + [part[None, ...] for part in state] if self.expose else tops

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:  # noqa: ARG002
        xp, backend = self.backend.xp, self.backend
        flat, fixed, kept, shapes = self._take()
        steps, count = shapes[0][:2]
        dstate = [backend.zeros((count, self.width)) for _ in range(self.states)]
        ddriven: list[Array] = [None] * steps
        for t in reversed(range(steps)):
            keep, memory = kept[t]
            ddriven[t], dstate = self.step_back(grads[0][t, ...], dstate, keep, memory)
        total = xp.stack(ddriven, axis=0)
        rows = xp.reshape(total, (steps * count, -1))
        self._learn(self.weight_x, rows, flat)
        if self.bias.trainable:
            self.bias.add_grad(backend, xp.sum(rows, axis=0))
        out: list[Array | None] = [xp.reshape(backend.matmul(rows, self.weight_x.data), shapes[0]), None]
        if self.weight_static is not None:
            together = xp.sum(total, axis=0)
            self._learn(self.weight_static, together, fixed)
            out.append(xp.reshape(backend.matmul(together, self.weight_static.data), shapes[2]))
        return out + [None] * (len(shapes) - len(out))

    def state(self) -> dict[str, Any]:
        if self.carried is None:
            return {}
        return {"carried": [self.backend.numpy(part).tolist() for part in self.carried]}

    def restore(self, state: dict[str, Any]) -> None:
        self.carried = [self.backend.asarray(part) for part in state["carried"]] if "carried" in state else None

    def more_params(self) -> None:
        """Make what parameters there are beside those of the recurrence."""

    def step(self, driven: Array, state: list[Array], keep: Array) -> tuple[Array, list[Array], Any]:
        """Return a step's output, the state after it, and what its gradient needs."""
        raise NotImplementedError

    def step_back(self, doutput: Array, dstate: list[Array], keep: Array, memory: Any) -> tuple[Array, list[Array]]:
        """Return the gradients of `driven` and of the state before a step, and add to those of the parameters."""
        raise NotImplementedError

    def _weight(self, rows: int, columns: int) -> Param:
        filler = self.spec.param.recurrent_param.weight_filler
        return self._param(len(self.params), filler, BlobOrder.plain((rows, columns)))

    def _bias(self, rows: int) -> Param:
        return self._param(len(self.params), self.spec.param.recurrent_param.bias_filler, BlobOrder.plain((rows,)))

    def _learn(self, weight: Param, drows: Array, columns: Array) -> None:
        if weight.trainable:
            product = self.backend.matmul(self.backend.xp.matrix_transpose(drows), columns)
            weight.add_grad(self.backend, product)


class RNN(Recurrent):
    """h = tanh(W_xh x + b_h + W_hh h), o = tanh(W_ho h + b_o)."""

    def more_params(self) -> None:
        self.weight_o = self._weight(self.width, self.width)
        self.bias_o = self._bias(self.width)

    def step(self, driven: Array, state: list[Array], keep: Array) -> tuple[Array, list[Array], Any]:
        xp, backend = self.backend.xp, self.backend
        before = keep * state[0]
        hidden = xp.tanh(driven + backend.matmul(before, xp.matrix_transpose(self.weight_h.data)))
        output = xp.tanh(backend.matmul(hidden, xp.matrix_transpose(self.weight_o.data)) + self.bias_o.data)
        return output, [hidden], (before, hidden, output)

    def step_back(self, doutput: Array, dstate: list[Array], keep: Array, memory: Any) -> tuple[Array, list[Array]]:
        backend = self.backend
        before, hidden, output = memory
        inner = doutput * (1 - output * output)
        self._learn(self.weight_o, inner, hidden)
        if self.bias_o.trainable:
            self.bias_o.add_grad(backend, backend.xp.sum(inner, axis=0))
        dhidden = dstate[0] + backend.matmul(inner, self.weight_o.data)
        driven = dhidden * (1 - hidden * hidden)
        self._learn(self.weight_h, driven, before)
        return driven, [keep * backend.matmul(driven, self.weight_h.data)]


class LSTM(Recurrent):
    """Hochreiter and Schmidhuber's memory, with gates i, f, o and the candidate g from W_xc x + b_c + W_hc h."""

    gates = 4
    states = 2

    def step(self, driven: Array, state: list[Array], keep: Array) -> tuple[Array, list[Array], Any]:
        backend = self.backend
        hidden, cell = state
        before = keep * hidden
        rows = driven + backend.matmul(before, backend.xp.matrix_transpose(self.weight_h.data))
        new_cell, new_hidden, memory = _unit(backend.xp, cell, rows, keep)
        return new_hidden, [new_hidden, new_cell], (before, memory)

    def step_back(self, doutput: Array, dstate: list[Array], keep: Array, memory: Any) -> tuple[Array, list[Array]]:
        before, unit = memory
        dcell, drows = _unit_back(self.backend.xp, dstate[1], dstate[0] + doutput, keep, unit)
        self._learn(self.weight_h, drows, before)
        return drows, [keep * self.backend.matmul(drows, self.weight_h.data), dcell]


class LSTMUnit(CaffeOrderLayer):
    """One step of an LSTM: the cell before, the gates' rows and the indicator in, cell and hidden state out."""

    takes = (3, 3)
    gives = (2, 2)

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        cell, rows, cont = shapes
        wanted = ((*cell[:2], 4 * cell[2]), cell[:2]) if len(cell) == 3 else None
        if wanted is None or cell[0] != 1 or (rows, cont) != wanted:
            raise self.spec.mistake(f"its bottoms must have shapes (1, N, D), (1, N, 4 D), (1, N), but got {shapes}")
        return [cell, cell]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        cell, rows, cont = bottoms
        keep = self.backend.real(cont[0, ...])[:, None]
        new_cell, hidden, memory = _unit(self.backend.xp, cell[0, ...], rows[0, ...], keep)
        self._kept = (keep, memory)
        return [new_cell[None, ...], hidden[None, ...]]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:  # noqa: ARG002
        keep, memory = self._take()
        dcell, drows = _unit_back(self.backend.xp, grads[0][0, ...], grads[1][0, ...], keep, memory)
        return [dcell[None, ...], drows[None, ...], None]


def _unit(xp: Any, cell: Array, rows: Array, keep: Array) -> tuple[Array, Array, Any]:
    """Return cell, hidden state and what the gradient needs, of a step."""
    width = cell.shape[1]
    i, f, o = (0.5 * xp.tanh(0.5 * rows[:, n * width : (n + 1) * width]) + 0.5 for n in range(3))
    g = xp.tanh(rows[:, 3 * width :])
    forget = keep * f
    new = forget * cell + i * g
    squashed = xp.tanh(new)
    return new, o * squashed, (cell, i, f, o, g, forget, squashed)


def _unit_back(xp: Any, dnew: Array, dhidden: Array, keep: Array, memory: Any) -> tuple[Array, Array]:
    """Return the gradients of the cell before and of the gates' rows."""
    cell, i, f, o, g, forget, squashed = memory
    dnew = dnew + dhidden * o * (1 - squashed * squashed)
    parts = [
        dnew * g * i * (1 - i),
        dnew * cell * keep * f * (1 - f),
        dhidden * squashed * o * (1 - o),
        dnew * i * (1 - g * g),
    ]
    return dnew * forget, xp.concat(parts, axis=1)
