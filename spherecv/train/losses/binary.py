# ruff: noqa: D102 - these methods are documented where their interface is
"""SphereFace2: one yes-or-no question for each class in place of one choice among all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend.base import Array, Backend
from spherecv.train.losses.angular import check_labels
from spherecv.train.losses.base import Loss, LossValue
from spherecv.train.losses.softmax import through_norm, unit_rows
from spherecv.train.params import BlobOrder, Param


class SphereFace2(Loss):
    """Binary cross-entropy of every class, with an additive margin on a stretched cosine and one bias for all.

    The mean over images of ``weight / r`` times lambda softplus(-(r (g(cos_y) - m) + b)) plus (1 - lambda) times the
    sum over the other classes of softplus(r (g(cos_j) + m) + b), with g(z) = 2 ((z + 1) / 2)^t - 1. Wen, Liu, Weller,
    Raj and Singh, "SphereFace2: Binary Classification is All You Need for Deep Face Recognition", ICLR 2022 (the form
    C of its margins).

    Parameters
    ----------
    classes : int
    balance : float
        lambda in (0, 1), the share of the label's own class.
    scale : float
        r.
    margin : float
        m.
    sharpness : float
        t, at least 1: how similarity is stretched, which brings genuine and impostor cosines to comparable spreads.
    weight : float
        Of the whole loss: 50 in the authors' settings, since 1 / r makes it small.
    """

    name = "fc6"

    def __init__(
        self,
        classes: int,
        *,
        balance: float = 0.7,
        scale: float = 40.0,
        margin: float = 0.4,
        sharpness: float = 3.0,
        weight: float = 50.0,
    ) -> None:
        super().__init__()
        if not (0 < balance < 1 and scale > 0 and 0 <= margin < math.inf and sharpness >= 1 and weight > 0):
            raise InvalidArgumentError(
                "balance must be between 0 and 1, scale and weight positive, margin at least 0, sharpness at least 1, "
                f"but got {balance}, {scale}, {weight}, {margin} and {sharpness}"
            )
        self.classes, self.balance, self.scale = classes, balance, scale
        self.margin, self.sharpness, self.strength = margin, sharpness, weight

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        self.weight = self._class_weights(self.classes, width, rng)
        start = backend.asarray(np.array([self._start()]))
        self.bias = Param(f"{self.name}/1", start, BlobOrder.plain((1,)), 1.0, 0.0)
        self.params = [self.weight, self.bias]

    def _start(self) -> float:
        """Return the bias at which, with all cosines 0, the label's class and the others pull equally.

        With u = e^b: lambda / (1 + u e^p) = (1 - lambda) (K - 1) u e^n / (1 + u e^n), p and n being the scores of the
        label's class and of another without the bias; the positive root of that square equation.
        """
        flat = 2.0 * 0.5**self.sharpness - 1.0
        own, other = self.scale * (flat - self.margin), self.scale * (flat + self.margin)
        z = self.balance / ((1.0 - self.balance) * max(1, self.classes - 1))
        root = math.sqrt((1.0 - z) ** 2 + 4.0 * z * math.exp(own - other))
        # Two forms of one root: the one whose terms do not cancel.
        if z < 1:
            return float(math.log(2.0 * z / (1.0 - z + root)) - other)
        return float(math.log((z - 1.0 + root) / 2.0) - own)

    def forward(self, x: Array, target: Array) -> LossValue:
        check_labels(self.backend.numpy(target), self.classes, self.name)
        xp, backend = self.backend.xp, self.backend
        rows, row_length = unit_rows(backend, self.weight.data)
        unit, length = unit_rows(backend, x)
        cosine = xp.clip(backend.matmul(unit, xp.matrix_transpose(rows)), -1.0, 1.0)
        label = backend.one_hot(target, self.classes)
        half = (cosine + 1.0) / 2.0
        stretched = 2.0 * half**self.sharpness - 1.0
        scores = self.scale * (stretched + self.margin * (1.0 - 2.0 * label)) + self.bias.data
        sign = 1.0 - 2.0 * label  # -1 at the label
        share = (self.balance * label + (1.0 - self.balance) * (1.0 - label)) * (
            self.strength / self.scale / x.shape[0]
        )
        loss = float(xp.sum(share * softplus(xp, sign * scores)))
        slope = self.scale * self.sharpness * half ** (self.sharpness - 1.0)
        self._kept = (unit, length, rows, row_length, share * sign * sigmoid(xp, sign * scores), slope)
        parts = {"cosine": float(xp.mean(backend.pick(cosine, target))), "bias": float(self.bias.data[0])}
        return LossValue(loss, parts)

    def backward(self, weight: float = 1.0) -> Array:
        backend, xp = self.backend, self.backend.xp
        unit, length, rows, row_length, dscores, slope = self._take()
        dscores = weight * dscores
        self.bias.add_grad(backend, xp.reshape(xp.sum(dscores), (1,)))
        dcosine = dscores * slope
        drows = backend.matmul(xp.matrix_transpose(dcosine), unit)
        self.weight.add_grad(backend, through_norm(backend, drows, rows, row_length))
        return through_norm(backend, backend.matmul(dcosine, rows), unit, length)


def softplus(xp: Any, z: Array) -> Array:
    """Return log(1 + e^z), of large numbers too."""
    return xp.maximum(z, xp.zeros_like(z)) + xp.log1p(xp.exp(-xp.abs(z)))


def sigmoid(xp: Any, z: Array) -> Array:
    """Return 1 / (1 + e^-z), of large numbers too."""
    return xp.exp(-softplus(xp, -z))
