# ruff: noqa: D102 - these methods are documented where their interface is
"""Softmax cross-entropy over classes: plain, with SphereFace's angular margin, and with CosFace's or ArcFace's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend.base import Array, Backend
from spherecv.train.losses.angular import Gradient, LambdaSchedule, MarginProduct, check_labels, normalise_rows
from spherecv.train.losses.base import Loss, LossValue
from spherecv.train.params import BlobOrder, Param


def softmax(xp: Any, scores: Array) -> tuple[Array, Array]:
    """Return the probabilities over the last axis and their logarithms."""
    shifted = scores - xp.max(scores, axis=-1, keepdims=True)
    powers = xp.exp(shifted)
    total = xp.sum(powers, axis=-1, keepdims=True)
    return powers / total, shifted - xp.log(total)


class CrossEntropy:
    """The mean of -log p at the label; the end of every loss below."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._kept: tuple[Array, Array] | None = None

    def forward(self, scores: Array, labels: Array) -> float:
        """Return the loss of scores (count, classes)."""
        probability, log_probability = softmax(self.backend.xp, scores)
        self._kept = (probability, labels)
        return -float(self.backend.xp.mean(self.backend.pick(log_probability, labels)))

    def backward(self, weight: float) -> Array:
        """Return the gradient of the scores."""
        if self._kept is None:
            raise InvalidArgumentError("backward needs a forward pass before it")
        (probability, labels), self._kept = self._kept, None
        return (probability - self.backend.one_hot(labels, probability.shape[1])) * (weight / probability.shape[0])


class SoftmaxLoss(Loss):
    """A linear classifier with softmax cross-entropy.

    Parameters
    ----------
    classes : int
    bias : bool
        Whether each class has an offset.
    """

    name = "fc6"

    def __init__(self, classes: int, *, bias: bool = True) -> None:
        super().__init__()
        self.classes, self.bias = classes, bias

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        limit = math.sqrt(3.0 / width)
        rows = backend.asarray(rng.uniform(-limit, limit, (self.classes, width)))
        self.params = [Param(f"{self.name}/0", rows, BlobOrder.plain((self.classes, width)))]
        if self.bias:
            order = BlobOrder.plain((self.classes,))
            self.params.append(Param(f"{self.name}/1", backend.zeros((self.classes,)), order, 2.0, 0.0))
        self._entropy = CrossEntropy(backend)

    def forward(self, x: Array, target: Array) -> LossValue:
        check_labels(self.backend.numpy(target), self.classes, self.name)
        scores = self.backend.matmul(x, self.backend.xp.matrix_transpose(self.params[0].data))
        if self.bias:
            scores = scores + self.params[1].data
        self._kept = x
        return LossValue(self._entropy.forward(scores, target))

    def backward(self, weight: float = 1.0) -> Array:
        x, xp = self._take(), self.backend.xp
        dscores = self._entropy.backward(weight)
        self.params[0].add_grad(self.backend, self.backend.matmul(xp.matrix_transpose(dscores), x))
        if self.bias:
            self.params[1].add_grad(self.backend, xp.sum(dscores, axis=0))
        return self.backend.matmul(dscores, self.params[0].data)


class ASoftmax(Loss):
    """SphereFace's A-Softmax: MarginInnerProduct and softmax in one.

    Parameters
    ----------
    classes : int
    margin : {1, 2, 3, 4}
    schedule : LambdaSchedule
    gradient : {"released", "exact"}
    """

    name = "fc6"
    layer_type = "MarginInnerProduct"

    def __init__(
        self,
        classes: int,
        *,
        margin: int = 4,
        schedule: LambdaSchedule | None = None,
        gradient: Gradient = "released",
    ) -> None:
        super().__init__()
        self.classes, self.margin, self.gradient = classes, margin, gradient
        self.schedule = schedule or LambdaSchedule()
        self.t = self.schedule.iteration

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        self.weight = self._class_weights(self.classes, width, rng)
        self._product = MarginProduct(backend, self.margin, gradient=self.gradient)
        self._entropy = CrossEntropy(backend)

    def forward(self, x: Array, target: Array) -> LossValue:
        check_labels(self.backend.numpy(target), self.classes, self.name)
        self.t += 1
        lam = self.schedule(self.t)
        self.weight.data = normalise_rows(self.backend, self.weight.data)
        scores = self._product.forward(x, self.weight.data, target, lam)
        return LossValue(self._entropy.forward(scores, target), {"lambda": lam})

    def backward(self, weight: float = 1.0) -> Array:
        dx, dweight = self._product.backward(self._entropy.backward(weight))
        self.weight.add_grad(self.backend, dweight)
        return dx

    def state(self) -> dict[str, float]:
        return {"t": self.t}

    def restore(self, state: dict[str, float]) -> None:
        self.t = int(state["t"])


class _CosineMargin(Loss):
    """Softmax over scaled cosines, the label's own with a margin that a subclass defines."""

    name = "fc6"

    def __init__(self, classes: int, scale: float, margin: float) -> None:
        super().__init__()
        if scale <= 0 or margin < 0:
            raise InvalidArgumentError(f"scale must be positive and margin at least 0, but got {scale} and {margin}")
        self.classes, self.scale, self.margin = classes, scale, margin

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        self.weight = self._class_weights(self.classes, width, rng)
        self._entropy = CrossEntropy(backend)

    def _target(self, cosine: Array) -> tuple[Array, Array]:
        """Return what stands for the label's cosine, and the derivative."""
        raise NotImplementedError

    def forward(self, x: Array, target: Array) -> LossValue:
        check_labels(self.backend.numpy(target), self.classes, self.name)
        xp, backend = self.backend.xp, self.backend
        weight, length = unit_rows(backend, self.weight.data)
        unit, norm = unit_rows(backend, x)
        cosines = backend.matmul(unit, xp.matrix_transpose(weight))
        own = xp.clip(backend.pick(cosines, target), -1.0, 1.0)
        value, slope = self._target(own)
        self._kept = (unit, norm, weight, length, slope, target)
        loss = self._entropy.forward(self.scale * backend.put(cosines, target, value), target)
        return LossValue(loss, {"cosine": float(xp.mean(own))})

    def backward(self, weight: float = 1.0) -> Array:
        backend, xp = self.backend, self.backend.xp
        unit, norm, rows, length, slope, target = self._take()
        dcosines = self._entropy.backward(weight) * self.scale
        dcosines = backend.put(dcosines, target, backend.pick(dcosines, target) * slope)
        drows = backend.matmul(xp.matrix_transpose(dcosines), unit)
        self.weight.add_grad(backend, through_norm(backend, drows, rows, length))
        return through_norm(backend, backend.matmul(dcosines, rows), unit, norm)


class CosFace(_CosineMargin):
    """Additive cosine margin: s (cos - m). Wang et al., "CosFace", CVPR 2018.

    Parameters
    ----------
    classes : int
    scale : float
    margin : float
        Taken from the label's cosine.
    """

    def __init__(self, classes: int, *, scale: float = 64.0, margin: float = 0.35) -> None:
        super().__init__(classes, scale, margin)

    def _target(self, cosine: Array) -> tuple[Array, Array]:
        return cosine - self.margin, self.backend.xp.ones_like(cosine)


class ArcFace(_CosineMargin):
    """Additive angular margin: s cos(theta + m). Deng et al., "ArcFace", CVPR 2019.

    Beyond theta = pi - m, where cos(theta + m) would rise again, the line cos - m sin m continues it.

    Parameters
    ----------
    classes : int
    scale : float
    margin : float
        In radians.
    """

    def __init__(self, classes: int, *, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__(classes, scale, margin)
        if margin >= math.pi:
            raise InvalidArgumentError(f"margin must be below pi, but got {margin}")

    def _target(self, cosine: Array) -> tuple[Array, Array]:
        xp, cos_m, sin_m = self.backend.xp, math.cos(self.margin), math.sin(self.margin)
        # At cos = 1 the sine's slope has no bound; a floor on sin^2 keeps the gradient finite.
        sine = xp.sqrt(xp.maximum(1 - cosine**2, xp.full_like(cosine, 1e-6)))
        within = cosine > math.cos(math.pi - self.margin)
        value = xp.where(within, cosine * cos_m - sine * sin_m, cosine - self.margin * sin_m)
        slope = xp.where(within, cos_m + sin_m * cosine / sine, xp.ones_like(cosine))
        return value, slope


def unit_rows(backend: Backend, rows: Array) -> tuple[Array, Array]:
    """Return rows of unit length, and their lengths (1 where a row is zero), (count, 1)."""
    xp = backend.xp
    length = xp.sqrt(xp.sum(rows * rows, axis=1, keepdims=True))
    length = xp.where(length > 0, length, xp.ones_like(length))
    return rows / length, length


def through_norm(backend: Backend, gradient: Array, unit: Array, length: Array) -> Array:
    """Return the gradient of rows from that of their unit rows; of a row of zeros it is zero."""
    xp = backend.xp
    back = (gradient - xp.sum(gradient * unit, axis=1, keepdims=True) * unit) / length
    alive = xp.any(unit != 0, axis=1)[:, None]
    return xp.where(alive, back, xp.zeros_like(back))
