# ruff: noqa: D102 - these methods are documented where their interface is
"""What may be added to A-Softmax: spread of the class weights (SphereFace+) and the centre term for video."""

from __future__ import annotations

import numpy as np

from spherecv.train.backend.base import Array, Backend
from spherecv.train.losses.angular import Gradient, LambdaSchedule, check_labels
from spherecv.train.losses.base import Loss, LossValue
from spherecv.train.losses.softmax import ASoftmax, through_norm, unit_rows
from spherecv.train.params import BlobOrder, Param


class SphereFacePlus(ASoftmax):
    """A-Softmax plus minimum hyperspherical energy of its class weights.

    The energy is the mean of |w_i - w_j|^-2 over pairs of different classes, of which in each step only those with
    one class in the batch count. Liu et al., "Learning towards Minimum Hyperspherical Energy", NeurIPS 2018.

    Parameters
    ----------
    classes : int
    energy_weight : float
    margin, schedule, gradient
        As for `ASoftmax`.
    """

    def __init__(
        self,
        classes: int,
        *,
        energy_weight: float = 1.0,
        margin: int = 4,
        schedule: LambdaSchedule | None = None,
        gradient: Gradient = "released",
    ) -> None:
        super().__init__(classes, margin=margin, schedule=schedule, gradient=gradient)
        self.energy_weight = energy_weight

    def forward(self, x: Array, target: Array) -> LossValue:
        first = super().forward(x, target)
        xp, backend = self.backend.xp, self.backend
        present = xp.unique_values(target)
        unit, length = unit_rows(backend, self.weight.data)
        chosen = xp.take(unit, present, axis=0)
        # |a - b|^2 = 2 - 2 a.b between unit rows; the floor guards equal rows, where the energy has no bound.
        squared = 2.0 - 2.0 * backend.matmul(chosen, xp.matrix_transpose(unit))
        own = backend.one_hot(present, self.classes)
        squared = xp.maximum(squared, xp.full_like(squared, 1e-6)) + own
        pairs = max(1, present.shape[0] * (self.classes - 1))
        energy = float(xp.sum((1.0 - own) / squared)) / pairs
        self._energy = (unit, length, chosen, present, (1.0 - own) / squared**2 / pairs)
        return LossValue(first.value + self.energy_weight * energy, {**first.parts, "energy": energy})

    def backward(self, weight: float = 1.0) -> Array:
        dx = super().backward(weight)
        backend, xp = self.backend, self.backend.xp
        unit, length, chosen, present, pull = self._energy
        pull = 2.0 * self.energy_weight * weight * pull  # d(1 / d2) / d(a.b) = 2 / d2^2
        dunit = backend.add_rows(backend.matmul(xp.matrix_transpose(pull), chosen), present, backend.matmul(pull, unit))
        self.weight.add_grad(backend, through_norm(backend, dunit, unit, length))
        return dx


class CentreLoss(Loss):
    """Pulls features towards their class's direction: the mean of s (1 - cos theta_y).

    Parameters
    ----------
    classes : int
    scale : float
        s.
    centres : Param, optional
        The directions; those of a classifier may be shared. Own ones, learnt, by default.
    """

    name = "centres"

    def __init__(self, classes: int, *, scale: float = 1.0, centres: Param | None = None) -> None:
        super().__init__()
        self.classes, self.scale, self.centres = classes, scale, centres

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        if self.centres is None:
            self.centres = self._class_weights(self.classes, width, rng)

    def forward(self, x: Array, target: Array) -> LossValue:
        assert self.centres is not None  # noqa: S101 - `build` comes first
        check_labels(self.backend.numpy(target), self.classes, self.name)
        xp, backend = self.backend.xp, self.backend
        rows, length = unit_rows(backend, xp.take(self.centres.data, target, axis=0))
        unit, norm = unit_rows(backend, x)
        cosine = xp.sum(unit * rows, axis=1)
        self._kept = (unit, norm, rows, length, target)
        return LossValue(self.scale * float(xp.mean(1.0 - cosine)), {"cosine": float(xp.mean(cosine))})

    def backward(self, weight: float = 1.0) -> Array:
        assert self.centres is not None  # noqa: S101 - `build` comes first
        unit, norm, rows, length, target = self._take()
        backend, share = self.backend, -weight * self.scale / unit.shape[0]
        drows = through_norm(backend, share * unit, rows, length)
        empty = backend.zeros(self.centres.data.shape)
        self.centres.add_grad(backend, backend.add_rows(empty, target, drows))
        return through_norm(backend, share * rows, unit, norm)


class EmbeddingRegression(Loss):
    """1 - cosine to a teacher's embedding of the same crop: distillation.

    The student's and the teacher's width may differ: then a matrix without bias, learnt and not exported, leads from
    one to the other.

    Parameters
    ----------
    teacher_width : int
    """

    name = "to_teacher"
    labels = False

    def __init__(self, teacher_width: int) -> None:
        super().__init__()
        self.teacher_width = teacher_width

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        self.params = []
        if width != self.teacher_width:
            start = rng.normal(size=(self.teacher_width, width)) / np.sqrt(width)
            order = BlobOrder.plain((self.teacher_width, width))
            self.params = [Param(f"{self.name}/0", backend.asarray(start), order)]

    def forward(self, x: Array, target: Array) -> LossValue:
        xp, backend = self.backend.xp, self.backend
        led = backend.matmul(x, xp.matrix_transpose(self.params[0].data)) if self.params else x
        unit, norm = unit_rows(backend, led)
        goal, _ = unit_rows(backend, target)
        cosine = float(xp.mean(xp.sum(unit * goal, axis=1)))
        self._kept = (x, unit, norm, goal)
        return LossValue(1.0 - cosine, {"cosine": cosine})

    def backward(self, weight: float = 1.0) -> Array:
        x, unit, norm, goal = self._take()
        backend, xp = self.backend, self.backend.xp
        dled = through_norm(backend, goal * (-weight / goal.shape[0]), unit, norm)
        if not self.params:
            return dled
        self.params[0].add_grad(backend, backend.matmul(xp.matrix_transpose(dled), x))
        return backend.matmul(dled, self.params[0].data)
