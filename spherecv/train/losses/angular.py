"""The angular margin of SphereFace: psi, its derivative, lambda's schedule, and the two gradients.

psi_m(theta) = (-1)^k cos(m theta) - 2 k for theta in [k pi / m, (k + 1) pi / m] falls monotonically from 1 to 1 - 2 m.
Source of the formulas: Liu et al., "SphereFace", CVPR 2017, and the released margin_inner_product_layer, whose
gradient to the features is scaled to a fixed length (`gradient="released"`); `gradient="exact"` is the derivative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend.base import Array, Backend

Gradient = Literal["released", "exact"]
MARGINS = (1, 2, 3, 4)


@dataclass(frozen=True)
class LambdaSchedule:
    """How much of the plain cosine is mixed in: max(base (1 + gamma t)^-power, lambda_min), t counted from 1.

    Attributes
    ----------
    base, gamma, power, lambda_min : float
        As in MarginInnerProductParameter.
    iteration : int
        What t starts from.
    """

    base: float = 1000.0
    gamma: float = 0.12
    power: float = 1.0
    lambda_min: float = 5.0
    iteration: int = 0

    def __call__(self, t: int) -> float:
        """Return lambda at t >= 1."""
        return float(max(self.base * (1.0 + self.gamma * t) ** -self.power, self.lambda_min))


def psi(xp: Any, cosine: Array, margin: int) -> tuple[Array, Array]:
    """Return psi_m and its derivative by the cosine.

    Parameters
    ----------
    xp : namespace
    cosine : array
        In [-1, 1].
    margin : {1, 2, 3, 4}
    """
    c = cosine
    if margin == 1:
        return c, xp.ones_like(c)
    s0 = xp.sign(c)
    if margin == 2:
        return 2 * s0 * c**2 - 1, 4 * s0 * c
    if margin == 3:
        s1 = xp.sign(xp.abs(c) - 0.5)
        s2 = s0 * (1 + s1) - 2
        return s1 * (4 * c**3 - 3 * c) + s2, s1 * (12 * c**2 - 3)
    s3 = s0 * xp.sign(2 * c**2 - 1)
    s4 = 2 * s0 + s3 - 3
    return s3 * (8 * c**4 - 8 * c**2 + 1) + s4, s3 * (32 * c**3 - 16 * c)


def normalise_rows(backend: Backend, weight: Array) -> Array:
    """Return the rows scaled to unit length; a row of zeros stays as it is."""
    xp = backend.xp

    def normalise(rows: Array) -> Array:
        length = xp.sqrt(xp.sum(rows * rows, axis=1, keepdims=True))
        return rows / xp.where(length > 0, length, xp.ones_like(length))

    return backend.blocks(normalise, (weight,))


@dataclass
class _Kept:
    x: Array
    weight: Array
    labels: Array
    norm: Array
    cosine: Array
    value: Array
    slope: Array
    lam: float


class MarginProduct:
    """Logits x . w_j with the margin at the label: (lambda |x| cos + |x| psi_m(theta)) / (1 + lambda).

    Parameters
    ----------
    backend : Backend
    margin : {1, 2, 3, 4}
    gradient : {"released", "exact"}
        ``"released"``: the part of the features' gradient that comes from the margin is coeff_w w + coeff_x x with
        coeff_w^2 + coeff_x^2 scaled to 1, and the weights' gradient is that of a plain inner product.
    """

    def __init__(self, backend: Backend, margin: int = 4, *, gradient: Gradient = "released") -> None:
        if margin not in MARGINS:
            raise InvalidArgumentError(f"margin must be 1, 2, 3 or 4, but got {margin!r}")
        if gradient not in ("released", "exact"):
            raise InvalidArgumentError(f'gradient must be "released" or "exact", but got {gradient!r}')
        self.backend, self.margin, self.gradient = backend, margin, gradient
        self._kept: _Kept | None = None

    def forward(self, x: Array, weight: Array, labels: Array, lam: float) -> Array:
        """Return the logits.

        Parameters
        ----------
        x : array (count, width)
        weight : array (classes, width)
            With rows of unit length.
        labels : array of int (count,)
            In 0..classes - 1.
        lam : float
            Lambda, at least 0.
        """
        xp, backend = self.backend.xp, self.backend
        logits = backend.matmul(x, xp.matrix_transpose(weight))
        norm = xp.sqrt(xp.sum(x * x, axis=1))
        alive = norm > 0
        target = backend.pick(logits, labels)
        cosine = xp.where(alive, target / xp.where(alive, norm, xp.ones_like(norm)), xp.zeros_like(target))
        cosine = xp.clip(cosine, -1.0, 1.0)
        value, slope = psi(xp, cosine, self.margin)
        self._kept = _Kept(x, weight, labels, norm, cosine, value, slope, lam)
        if self.margin == 1:
            return logits
        return backend.put(logits, labels, (lam * target + norm * value) / (1.0 + lam))

    def backward(self, dlogits: Array) -> tuple[Array, Array]:
        """Return the gradients of x and of the weight."""
        if self._kept is None:
            raise InvalidArgumentError("backward needs a forward pass before it")
        kept, self._kept = self._kept, None
        xp, backend = self.backend.xp, self.backend
        dtarget = backend.pick(dlogits, kept.labels)
        alive = kept.norm > 0
        safe = xp.where(alive, kept.norm, xp.ones_like(kept.norm))
        mix, rest = kept.lam / (1.0 + kept.lam), 1.0 / (1.0 + kept.lam)
        if self.margin == 1:
            mix, rest = 1.0, 0.0
        toward_w, toward_x = kept.slope, (kept.value - kept.cosine * kept.slope) / safe
        if self.gradient == "released" and self.margin > 1:
            length = xp.sqrt(toward_w**2 + toward_x**2)
            length = xp.where(length > 0, length, xp.ones_like(length))
            toward_w, toward_x = toward_w / length, toward_x / length
        # The label's own weight enters with (lambda + coeff_w) / (1 + lambda) of its plain share.
        weighted = backend.put(dlogits, kept.labels, dtarget * (mix + rest * toward_w))
        dx = backend.matmul(weighted, kept.weight) + (dtarget * rest * toward_x)[:, None] * kept.x
        dx = xp.where(alive[:, None], dx, xp.zeros_like(dx))
        if self.gradient == "released":
            return dx, backend.matmul(xp.matrix_transpose(dlogits), kept.x)
        dweight = backend.matmul(xp.matrix_transpose(weighted), kept.x)
        along = xp.sum(dweight * kept.weight, axis=1, keepdims=True)
        return dx, dweight - along * kept.weight


def check_labels(labels: Any, classes: int, where: str) -> None:
    """Refuse labels (on the host) outside 0..classes - 1, saying which."""
    bad = labels[(labels < 0) | (labels >= classes)]
    if len(bad):
        raise InvalidArgumentError(
            f"{where}: label {int(bad[0])} is out of range: {classes} classes have the labels 0..{classes - 1}"
        )
