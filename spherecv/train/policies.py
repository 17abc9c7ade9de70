"""Learning-rate policies, as Caffe defines them, and the half cosine."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from spherecv.errors import InvalidArgumentError

POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid", "cosine")


@dataclass(frozen=True)
class Policy:
    """The learning rate as a function of the iteration.

    Attributes
    ----------
    kind : str
        ``fixed``; ``step``: base gamma^floor(i / stepsize); ``exp``: base gamma^i; ``inv``: base (1 + gamma i)^-power;
        ``multistep``: base gamma^steps, a step being taken at each `stepvalue`, one per iteration at most;
        ``poly``: base (1 - i / max_iter)^power;
        ``sigmoid``: base / (1 + exp(-gamma (i - stepsize))); ``cosine``: base (1 + cos(pi i / max_iter)) / 2.
    warmup : int
        Iterations over which the rate first rises in a line to what the policy says, after a restart too; 0 in Caffe.
    restarts : sequence of int
        Iterations at which ``cosine`` and its warm-up begin again: each cycle ends where the next begins, the last at
        max_iter (SGDR: Loshchilov and Hutter, "Stochastic Gradient Descent with Warm Restarts", ICLR 2017).
    """

    kind: str = "fixed"
    base_lr: float = 0.01
    gamma: float = 0.1
    power: float = 1.0
    stepsize: int = 0
    stepvalue: Sequence[int] = field(default=())
    max_iter: int = 0
    warmup: int = 0
    restarts: Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        if self.kind not in POLICIES:
            raise InvalidArgumentError(f"lr_policy must be one of {', '.join(POLICIES)}, but got {self.kind!r}")
        if self.kind == "step" and self.stepsize < 1:
            raise InvalidArgumentError("lr_policy step needs a stepsize of at least 1")
        if self.kind in ("poly", "cosine") and self.max_iter < 1:
            raise InvalidArgumentError(f"lr_policy {self.kind} needs max_iter")
        if self.kind in ("step", "multistep", "exp", "inv") and not self.gamma >= 0:
            raise InvalidArgumentError(f"lr_policy {self.kind} needs a gamma of at least 0, but got {self.gamma}")
        bounds = [0, *self.restarts, self.max_iter]
        if self.restarts and (self.kind != "cosine" or any(a >= b for a, b in pairwise(bounds))):
            raise InvalidArgumentError(
                f"restarts are of lr_policy cosine and rise from 1 to below max_iter, but are {list(self.restarts)}"
            )
        if not (math.isfinite(self.base_lr) and self.base_lr >= 0):
            raise InvalidArgumentError(f"base_lr must be a number of at least 0, but got {self.base_lr}")

    def __call__(self, iteration: int, step: int | None = None) -> float:
        """Return the rate of an iteration, counted from 0.

        Parameters
        ----------
        iteration : int
        step : int, optional
            How many steps have been taken, as `advance` says; by default, those of a run that started at 0.
        """
        rate = self._rate(iteration, self.step_of(iteration) if step is None else step)
        return rate * min(1.0, (iteration - self._cycle(iteration)[0] + 1) / self.warmup) if self.warmup else rate

    def advance(self, step: int, iteration: int) -> int:
        """Return Caffe's `current_step` at an iteration, from what it was at the one before.

        For ``multistep`` it is a counter that goes up by one per iteration at most, so that a run that is resumed with
        other values catches up, and never goes back.
        """
        if self.kind == "step":
            return iteration // self.stepsize
        if self.kind == "multistep" and step < len(self.stepvalue) and iteration >= self.stepvalue[step]:
            return step + 1
        return step

    def step_of(self, iteration: int) -> int:
        """Return how many steps a run that started at 0 has taken."""
        if self.kind == "step":
            return iteration // self.stepsize
        if self.kind != "multistep":
            return 0
        steps, reached = 0, -1
        for value in self.stepvalue:
            reached = max(value, reached + 1)
            if reached > iteration:
                break
            steps += 1
        return steps

    def _cycle(self, iteration: int) -> tuple[int, int]:
        """Return where the cycle of an iteration begins and ends."""
        index = bisect_right(self.restarts, iteration)
        bounds = [0, *self.restarts, self.max_iter]
        return bounds[index], bounds[index + 1]

    def _rate(self, iteration: int, step: int) -> float:
        base, gamma = self.base_lr, self.gamma
        if self.kind in ("step", "multistep"):
            return base * _power(gamma, step)
        if self.kind == "exp":
            return base * _power(gamma, iteration)
        if self.kind == "inv":
            return base * _power(1 + gamma * iteration, -self.power)
        if self.kind == "poly":
            return base * _power(max(0.0, 1 - iteration / self.max_iter), self.power)
        if self.kind == "sigmoid":
            # The hyperbolic tangent says the same and cannot overflow.
            return base * (1 + math.tanh(gamma * (iteration - self.stepsize) / 2)) / 2
        if self.kind == "cosine":
            begin, end = self._cycle(iteration)
            return base * (1 + math.cos(math.pi * min(1.0, (iteration - begin) / (end - begin)))) / 2
        return base


def _power(number: float, exponent: float) -> float:
    """Return a power, infinite where C's pow() is and Python's raises: the loss then says what went wrong."""
    try:
        return float(number**exponent)
    except (OverflowError, ZeroDivisionError):
        return math.inf
