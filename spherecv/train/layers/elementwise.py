# ruff: noqa: D102 - these methods are documented where their interface is
"""Functions of one number at a time, with settings and without weights: Power, Exp, Log, ELU, Clip and their kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.params import Shape

_BNLL_LIMIT = 50.0  # kBNLL_THRESHOLD: the slope's exponential is cut there


class Elementwise(Layer):
    """A function of each number: `function` and, from the gradient of the top, `slope`.

    A layer that works in place has forgotten its bottom when its gradient is computed, and Caffe takes the top in its
    place: so does this, as weights that were trained with Caffe were trained with that.
    """

    imagewise = True
    remembers = False  # True where Caffe keeps what it needs of the bottom elsewhere

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        self.in_place = not self.remembers and list(self.spec.param.bottom) == list(self.spec.param.top)
        self.configure()
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        x = bottoms[0]
        y = self.backend.blocks(lambda part: self.function(self.backend.xp, part), (x,))
        self._kept = (y if self.in_place else x, y)
        return [y]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:  # noqa: ARG002
        x, y = self._take()
        return [self.backend.blocks(lambda *parts: self.slope(self.backend.xp, *parts), (x, y, grads[0]))]

    def configure(self) -> None:
        """Read the settings."""

    def function(self, xp: Any, x: Array) -> Array:
        """Return the top."""
        raise NotImplementedError

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:
        """Return the bottom's gradient."""
        raise NotImplementedError

    def _number(self, xp: Any, value: float) -> Array:
        return xp.asarray(value, dtype=self.backend.dtype)


class AbsVal(Elementwise):
    """|x|; not in place, as in Caffe."""

    def configure(self) -> None:
        self.not_in_place()

    def function(self, xp: Any, x: Array) -> Array:
        return xp.abs(x)

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:  # noqa: ARG002
        return xp.sign(x) * dy


class BNLL(Elementwise):
    """log(1 + exp(x))."""

    def function(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, self._number(xp, 0.0)) + xp.log1p(xp.exp(-xp.abs(x)))

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:  # noqa: ARG002
        power = xp.exp(xp.minimum(x, self._number(xp, _BNLL_LIMIT)))
        return dy * (power / (power + 1))


class Clip(Elementwise):
    """x, no less than `min` and no more than `max`."""

    def configure(self) -> None:
        settings: Any = self.spec.param.clip_param
        self.low, self.high = float(settings.min), float(settings.max)

    def function(self, xp: Any, x: Array) -> Array:
        return xp.maximum(self._number(xp, self.low), xp.minimum(x, self._number(xp, self.high)))

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:  # noqa: ARG002
        return dy * xp.astype(xp.logical_and(x >= self.low, x <= self.high), dy.dtype)


class ELU(Elementwise):
    """x above zero, alpha (exp(x) - 1) elsewhere."""

    def configure(self) -> None:
        self.alpha = float(self.spec.param.elu_param.alpha)

    def function(self, xp: Any, x: Array) -> Array:
        zero = self._number(xp, 0.0)
        return xp.maximum(x, zero) + self.alpha * (xp.exp(xp.minimum(x, zero)) - 1)

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:
        return dy * xp.where(x > 0, xp.ones_like(x), self.alpha + y)


class Exp(Elementwise):
    """base^(shift + scale x); a base of -1 is e."""

    def configure(self) -> None:
        settings = self.spec.param.exp_param
        if settings.base != -1 and not settings.base > 0:
            raise self.spec.mistake(f"base must be above 0, or -1 for e, but is {settings.base:g}")
        log = 1.0 if settings.base == -1 else math.log(settings.base)
        self.inner = log * settings.scale
        self.outer = math.exp(log * settings.shift)

    def function(self, xp: Any, x: Array) -> Array:
        return self.outer * xp.exp(self.inner * x)

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:  # noqa: ARG002
        return dy * y * self.inner


class Log(Elementwise):
    """log_base(shift + scale x); a base of -1 is e."""

    def configure(self) -> None:
        settings = self.spec.param.log_param
        if settings.base != -1 and (not settings.base > 0 or settings.base == 1):
            raise self.spec.mistake(f"base must be above 0 and not 1, or -1 for e, but is {settings.base:g}")
        self.scale, self.shift = float(settings.scale), float(settings.shift)
        self.factor = 1.0 if settings.base == -1 else 1.0 / math.log(settings.base)

    def function(self, xp: Any, x: Array) -> Array:
        return self.factor * xp.log(self.scale * x + self.shift)

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:  # noqa: ARG002
        return dy * (self.factor * self.scale) / (self.scale * x + self.shift)


class Power(Elementwise):
    """(shift + scale x)^power, with the gradient in the form in which Caffe computes it."""

    def configure(self) -> None:
        settings = self.spec.param.power_param
        self.power, self.scale, self.shift = float(settings.power), float(settings.scale), float(settings.shift)
        if self.power * self.scale == 0 and self.power != 0:
            try:
                self.constant = float(self.shift**self.power)
            except (ZeroDivisionError, TypeError):
                raise self.spec.mistake(f"{self.shift:g} to the power {self.power:g} is no number") from None
        else:
            self.constant = 1.0

    def function(self, xp: Any, x: Array) -> Array:
        if self.power * self.scale == 0:
            return xp.full_like(x, self.constant)
        inner = self.scale * x + self.shift
        return inner if self.power == 1 else inner**self.power

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:
        factor = self.power * self.scale
        if factor == 0:
            return xp.zeros_like(dy)
        if self.power == 1:
            return factor * dy
        if self.power == 2:
            return dy * (factor * (self.scale * x + self.shift))
        if self.shift == 0:
            return dy * (self.power * (y / x))
        return dy * (factor * (y / (self.scale * x + self.shift)))


class ReLU6(Elementwise):
    """x above zero and no more than `threshold`; `negative_slope` x below, as in the fork with this type."""

    def configure(self) -> None:
        settings: Any = self.spec.param.relu6_param
        self.low, self.high = float(settings.negative_slope), float(settings.threshold)

    def function(self, xp: Any, x: Array) -> Array:
        zero = self._number(xp, 0.0)
        return xp.minimum(xp.maximum(x, zero), self._number(xp, self.high)) + self.low * xp.minimum(x, zero)

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:  # noqa: ARG002
        inside = xp.astype(xp.logical_and(x > 0, x < self.high), dy.dtype)
        return dy * (inside + self.low * xp.astype(x <= 0, dy.dtype))


class Swish(Elementwise):
    """x / (1 + exp(-beta x))."""

    remembers = True

    def configure(self) -> None:
        self.beta = float(getattr(self.spec.param, "swish_param").beta)  # noqa: B009

    def function(self, xp: Any, x: Array) -> Array:
        return x * self._gate(xp, x)

    def slope(self, xp: Any, x: Array, y: Array, dy: Array) -> Array:
        return dy * (self.beta * y + self._gate(xp, x) * (1 - self.beta * y))

    def _gate(self, xp: Any, x: Array) -> Array:
        return 0.5 * xp.tanh((0.5 * self.beta) * x) + 0.5


class Threshold(Elementwise):
    """1 above `threshold`, 0 elsewhere; it has no gradient."""

    differentiable = False

    def configure(self) -> None:
        self.level = float(self.spec.param.threshold_param.threshold)

    def function(self, xp: Any, x: Array) -> Array:
        return xp.astype(x > self._number(xp, self.level), x.dtype)
