"""Solvers: what turns gradients into new weights. Caffe's six."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import SnapshotError
from spherecv.train.backend.base import Array, Backend
from spherecv.train.params import Param
from spherecv.train.settings import SolverSettings, beside, net_path

__all__ = ["Solver", "SolverSettings", "beside", "net_path"]


class Solver:
    """Updates parameters and holds their history.

    Parameters
    ----------
    params : sequence of Param
        All of a net's: those that do not learn are passed over, and have a history of zeros in files, as in Caffe.
    settings : SolverSettings
    backend : Backend

    """

    def __init__(self, params: Sequence[Param], settings: SolverSettings, backend: Backend) -> None:
        self.settings, self.backend = settings, backend
        self.params = list(params)
        self.slots = 2 if settings.kind in ("Adam", "AdaDelta") else 1
        self._step: int | None = None
        self.history: list[list[Array]] = [[] for _ in self.params]  # filled when first needed: frozen nets need none

    @property
    def current_step(self) -> int:
        """The counter of the policies ``step`` and ``multistep`` at the last update.

        A solver that begins later than at 0 and was not given one counts as if it had run from there.
        """
        return self._step or 0

    @current_step.setter
    def current_step(self, value: int) -> None:
        self._step = value

    def step(self, iteration: int) -> float:
        """Update every parameter from its gradient, drop the gradients, and return the rate used.

        Parameters
        ----------
        iteration : int
            Counted from 0.
        """
        settings, backend = self.settings, self.backend
        if self._step is None and iteration:
            self._step = settings.policy.step_of(iteration - 1)
        self.current_step = settings.policy.advance(self.current_step, iteration)
        rate = settings.policy(iteration, self.current_step)
        factor = self._clip_factor() / settings.iter_size
        update = _UPDATES[settings.kind]
        with backend.active():
            for param, history in zip(self.params, self.history, strict=True):
                if param.grad is not None and param.trainable:
                    if not history:
                        history[:] = [backend.zeros(param.data.shape) for _ in range(self.slots)]
                    decay = settings.weight_decay * param.decay_mult
                    update(_Update(backend, settings, param, history, rate * param.lr_mult, decay, factor, iteration))
                param.grad = None
        return rate

    def to_caffe(self) -> list[npt.NDArray[np.float32]]:
        """Return the history as Caffe's files hold it: all first slots, then all second ones."""
        return [
            param.order.to_caffe(self.backend.numpy(history[slot]))
            if history
            else np.zeros(param.order.caffe, np.float32)
            for slot in range(self.slots)
            for param, history in zip(self.params, self.history, strict=True)
        ]

    def from_caffe(self, history: Sequence[npt.NDArray[Any]], origin: str = "the state") -> None:
        """Take a history as Caffe's files hold it.

        Raises
        ------
        SnapshotError
            It is of another net or solver.
        """
        if len(history) != self.slots * len(self.params):
            raise SnapshotError(
                f"{origin} holds {len(history)} blobs of history, but this net and solver have "
                f"{self.slots * len(self.params)}: it is of another run"
            )
        restored: list[list[Array]] = [[] for _ in self.params]
        for index, values in enumerate(history):
            param = self.params[index % len(self.params)]
            if values.size != np.prod(param.order.caffe, dtype=int):
                raise SnapshotError(
                    f"{origin} holds the history of {param.name} as {values.shape}: it is of another run"
                )
            values = param.order.to_internal(values.reshape(param.order.caffe))
            restored[index % len(self.params)].append(self.backend.asarray(values))
        self.history = restored

    def gradient_length(self) -> float:
        """Return the length of all gradients together, summed over `iter_size` batches as Caffe's limit sees them."""
        xp, total = self.backend.xp, 0.0
        for param in self.params:
            if param.grad is not None and param.trainable:
                squares = self.backend.blocks(lambda g: xp.sum(g * g, axis=0), (param.grad,), news=0, sums=1)
                total += float(xp.sum(squares))
        return math.sqrt(total)

    def _clip_factor(self) -> float:
        limit = self.settings.clip_gradients
        if limit < 0:
            return 1.0
        length = self.gradient_length()
        return limit / length if length > limit else 1.0


@dataclass(frozen=True)
class _Update:
    """What one parameter's update depends on."""

    backend: Backend
    settings: SolverSettings
    param: Param
    history: list[Array]
    rate: float
    decay: float
    factor: float
    iteration: int

    def rows(self, array: Array) -> Array:
        """Return an array as rows, so that `blocks` can cut it whatever its shape."""
        return self.backend.xp.reshape(array, (-1, array.shape[-1]))

    def gradient(self, g: Array, w: Array) -> Array:
        """Return the gradient with its factor and the weight decay, as an array of its own."""
        if not self.decay:
            return self.factor * g
        own = self.decay * (w if self.settings.regularization == "L2" else self.backend.xp.sign(w))
        own += g if self.factor == 1 else self.factor * g
        return own

    def apply(self, weight: Array, *history: Array) -> None:
        """Store the new weight and history."""
        shape, xp = self.param.data.shape, self.backend.xp
        self.param.data = xp.reshape(weight, shape)
        self.history[:] = [xp.reshape(part, shape) for part in history]


def _sgd(at: _Update) -> None:
    """Caffe's SGD: v = momentum v + rate (g + decay w); w = w - v. The rate is inside the velocity."""

    def update(w: Array, g: Array, v: Array) -> tuple[Array, Array]:
        step = at.gradient(g, w)
        step *= at.rate
        step += at.settings.momentum * v
        return w - step, step

    arrays = (at.param.data, at.param.grad, at.history[0])
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=2))


def _nesterov(at: _Update) -> None:
    """Nesterov's: v' = momentum v + rate (g + decay w); w = w - ((1 + momentum) v' - momentum v)."""
    momentum = at.settings.momentum

    def update(w: Array, g: Array, old: Array) -> tuple[Array, Array]:
        v = momentum * old + at.rate * at.gradient(g, w)
        return w - ((1 + momentum) * v - momentum * old), v

    arrays = (at.param.data, at.param.grad, at.history[0])
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=2))


def _adam(at: _Update) -> None:
    """Adam with Caffe's correction: rate sqrt(1 - b2^t) / (1 - b1^t), delta outside the root, decay in the gradient."""
    b1, b2, delta = at.settings.momentum, at.settings.momentum2, at.settings.delta
    t, xp = at.iteration + 1, at.backend.xp
    rate = at.rate * math.sqrt(1 - b2**t) / (1 - b1**t)

    def update(w: Array, g: Array, m: Array, s: Array) -> tuple[Array, Array, Array]:
        g = at.gradient(g, w)
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g * g)
        return w - rate * m / (xp.sqrt(s) + delta), m, s

    arrays = (at.param.data, at.param.grad, *at.history)
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=3))


def _adagrad(at: _Update) -> None:
    """AdaGrad: h = h + g^2; w = w - rate g / (sqrt(h) + delta)."""
    _scaled(at, 1.0, 1.0)


def _rmsprop(at: _Update) -> None:
    """RMSProp: h = decay h + (1 - decay) g^2; w = w - rate g / (sqrt(h) + delta)."""
    _scaled(at, at.settings.rms_decay, 1.0 - at.settings.rms_decay)


def _scaled(at: _Update, keep: float, share: float) -> None:
    xp, delta = at.backend.xp, at.settings.delta

    def update(w: Array, g: Array, h: Array) -> tuple[Array, Array]:
        g = at.gradient(g, w)
        h = keep * h + share * (g * g)
        return w - at.rate * (g / (xp.sqrt(h) + delta)), h

    arrays = (at.param.data, at.param.grad, at.history[0])
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=2))


def _adadelta(at: _Update) -> None:
    """AdaDelta: h of g^2 and s of step^2 decay by `momentum`, step = sqrt((delta + s) / (delta + h)) g."""
    xp, keep, delta = at.backend.xp, at.settings.momentum, at.settings.delta

    def update(w: Array, g: Array, h: Array, s: Array) -> tuple[Array, Array, Array]:
        g = at.gradient(g, w)
        h = keep * h + (1 - keep) * (g * g)
        step = g * xp.sqrt((delta + s) / (delta + h))
        s = keep * s + (1 - keep) * (step * step)
        return w - at.rate * step, h, s

    arrays = (at.param.data, at.param.grad, *at.history)
    at.apply(*at.backend.blocks(update, [at.rows(array) for array in arrays], news=3))


_UPDATES: dict[str, Callable[[_Update], None]] = {
    "SGD": _sgd,
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSProp": _rmsprop,
    "AdaDelta": _adadelta,
    "Adam": _adam,
}
