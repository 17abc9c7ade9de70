# ruff: noqa: D102 - these methods are documented where their interface is
"""SphereFace-R: the multiplicative margin in two stable forms, with features of fixed, nearly fixed or free length.

Source of the formulas: Liu, Wen, Raj, Singh and Weller, "SphereFace Revived: Unifying Hyperspherical Face Recognition",
TPAMI 2022.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend.base import Array, Backend
from spherecv.train.losses.angular import check_labels
from spherecv.train.losses.base import Loss, LossValue
from spherecv.train.losses.softmax import CrossEntropy, through_norm, unit_rows

Version = Literal["v1", "v2"]
Feature = Literal["hard", "soft", "none"]
_EDGE = 1e-6


class SphereFaceR(Loss):
    """Softmax over r psi(theta_y) and r eta(theta_j), whose margin multiplies the angle.

    v1 enlarges the label's angle, psi = cos(min(m theta, pi)), eta = cos theta. v2 shrinks the others',
    psi = cos theta, eta = cos(theta / m).

    Parameters
    ----------
    classes : int
    version : {"v1", "v2"}
    margin : float
        m, at least 1; any number, not only whole ones.
    scale : float
        s: r itself where features are normalised hard, and what lengths are drawn to where softly.
    feature : {"hard", "soft", "none"}
        r is s; or the feature's own length |x|, with softness (|x| - s)^2 added to the loss; or |x| alone.
    softness : float
    gradient : {"detached", "exact"}
        ``"detached"``: what the margin adds to a cosine is a constant to the gradient (characteristic gradient
        detachment, section 4.5), which is what makes training stable; ``"exact"`` is the derivative.
    """

    name = "fc6"

    def __init__(
        self,
        classes: int,
        *,
        version: Version = "v1",
        margin: float = 1.5,
        scale: float = 30.0,
        feature: Feature = "hard",
        softness: float = 0.01,
        gradient: Literal["detached", "exact"] = "detached",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("version", version, ("v1", "v2")),
            ("feature", feature, ("hard", "soft", "none")),
            ("gradient", gradient, ("detached", "exact")),
        ):
            if value not in known:
                raise InvalidArgumentError(f"{name} must be one of {', '.join(known)}, but got {value!r}")
        if not (1 <= margin < math.inf and 0 < scale < math.inf and 0 <= softness < math.inf):
            raise InvalidArgumentError(
                "margin must be at least 1, scale positive and softness at least 0, but got "
                f"{margin}, {scale} and {softness}"
            )
        self.classes, self.version, self.margin, self.scale = classes, version, margin, scale
        self.feature, self.softness, self.gradient = feature, softness, gradient

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        self.weight = self._class_weights(self.classes, width, rng)
        self._entropy = CrossEntropy(backend)

    def forward(self, x: Array, target: Array) -> LossValue:
        check_labels(self.backend.numpy(target), self.classes, self.name)
        xp, backend = self.backend.xp, self.backend
        rows, row_length = unit_rows(backend, self.weight.data)
        unit, length = unit_rows(backend, x)
        cosine = xp.clip(backend.matmul(unit, xp.matrix_transpose(rows)), -1.0 + _EDGE, 1.0 - _EDGE)
        value, slope = self._margined(cosine, target)
        reach = xp.full_like(length, self.scale) if self.feature == "hard" else length
        loss = self._entropy.forward(reach * value, target)
        parts = {"cosine": float(xp.mean(backend.pick(cosine, target))), "length": float(xp.mean(length))}
        if self.feature == "soft":
            loss += self.softness * float(xp.mean((length - self.scale) ** 2))
        self._kept = (unit, length, rows, row_length, reach, value, slope)
        return LossValue(loss, parts)

    def backward(self, weight: float = 1.0) -> Array:
        backend, xp = self.backend, self.backend.xp
        unit, length, rows, row_length, reach, value, slope = self._take()
        dscores = self._entropy.backward(weight)
        dcosine = dscores * reach * slope
        drows = backend.matmul(xp.matrix_transpose(dcosine), unit)
        self.weight.add_grad(backend, through_norm(backend, drows, rows, row_length))
        dx = through_norm(backend, backend.matmul(dcosine, rows), unit, length)
        if self.feature == "hard":
            return dx
        dlength = xp.sum(dscores * value, axis=1, keepdims=True)
        if self.feature == "soft":
            dlength = dlength + (2.0 * weight * self.softness / unit.shape[0]) * (length - self.scale)
        return dx + dlength * unit

    def _margined(self, cosine: Array, target: Array) -> tuple[Array, Array]:
        """Return what stands for each cosine, and its slope by it."""
        xp, backend = self.backend.xp, self.backend
        own = backend.pick(cosine, target) if self.version == "v1" else cosine
        factor = self.margin if self.version == "v1" else 1.0 / self.margin
        angle = xp.acos(own)
        wide = xp.minimum(factor * angle, xp.full_like(angle, math.pi))
        value = xp.cos(wide)
        if self.gradient == "exact":
            slope = factor * xp.sin(wide) / xp.sqrt(1.0 - own**2)
            slope = xp.where(factor * angle < math.pi, slope, xp.zeros_like(slope))
        else:
            slope = xp.ones_like(own)
        if self.version == "v1":
            return backend.put(cosine, target, value), backend.put(xp.ones_like(cosine), target, slope)
        label = backend.pick(cosine, target)
        return backend.put(value, target, label), backend.put(slope, target, xp.ones_like(label))
