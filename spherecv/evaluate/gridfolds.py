"""Accuracy, validation rate, AUC and EER by folds over a grid of thresholds, as FaceNet and InsightFace print them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.checks import check_choice, check_rate
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.curves import BoolArray, FloatArray, Roc, area_under, equal_error
from spherecv.evaluate.folds import FoldTable, check_folds
from spherecv.metrics import at_unit_length

GridDistance = Literal["squared", "angle"]

ACCURACY_GRID = np.arange(0, 4, 0.01)
VALIDATION_GRID = np.arange(0, 4, 0.001)
"""Thresholds tried: of squared Euclidean distance between unit vectors (0..4), or of the angle over pi (0..1)."""


@dataclass(frozen=True, eq=False)
class GridFigures:
    """What FaceNet's `lfw.evaluate` and InsightFace's `verification.test` compute of one list of pairs.

    Attributes
    ----------
    folds : ndarray of int, shape (F,)
        Numbers of the folds.
    accuracies : ndarray of float64, shape (F,)
        Of each fold at the threshold of the grid that judged most of the other folds' pairs rightly, 0..1.
    thresholds : ndarray of float64, shape (F,)
        Those thresholds: a pair is accepted where its distance is below.
    validation, false_accepts : ndarray of float64, shape (F,)
        Share of genuine, and of impostor, pairs of the fold accepted at the threshold that gives `far` on the others;
        NaN of a fold without such pairs.
    far : float
        The false accept rate aimed at.
    auc, eer : float
        Of the mean curve of the folds, 0..1.
    distances : ndarray of float64, shape (N,)
        Of every pair, by its own fold's mean.
    pair_folds : ndarray of int, shape (N,)
    distance : {"squared", "angle"}
    notes : tuple of str
    """

    folds: NDArray[np.intp]
    accuracies: FloatArray
    thresholds: FloatArray
    validation: FloatArray
    false_accepts: FloatArray
    far: float
    auc: float
    eer: float
    distances: FloatArray
    pair_folds: NDArray[np.intp]
    distance: GridDistance
    notes: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def accuracy(self) -> tuple[float, float]:
        """Mean over the folds, and standard deviation (divided by F)."""
        return float(self.accuracies.mean()), float(self.accuracies.std())

    @property
    def validation_rate(self) -> tuple[float, float, float]:
        """Mean and standard deviation over the folds that have it, and the mean false accept rate reached."""
        kept = self.validation[~np.isnan(self.validation)], self.false_accepts[~np.isnan(self.false_accepts)]
        return float(kept[0].mean()), float(kept[0].std()), float(kept[1].mean())

    def table(self) -> FoldTable:
        """The accuracies as a `FoldTable`, which accepts at its thresholds.

        Its distances are half the squared ones, which for unit vectors is cosine distance, or the angles.
        """
        below = np.nextafter(self.thresholds, -np.inf)  # below t is at most the number before t
        half = 2.0 if self.distance == "squared" else 1.0
        name = "squared Euclidean distance" if self.distance == "squared" else "angle over pi"
        method = f"{name}, best of {len(ACCURACY_GRID)} thresholds of the other folds"
        return FoldTable(
            self.folds, self.accuracies, below / half, self.distances / half, self.pair_folds, method, self.notes
        )

    def __str__(self) -> str:
        """Draw the figures in the four lines that FaceNet's script prints."""
        val, spread, far = self.validation_rate
        return "\n".join(
            [
                f"Accuracy: {self.accuracy[0]:.5f}+-{self.accuracy[1]:.5f}",
                f"Validation rate: {val:.5f}+-{spread:.5f} @ FAR={far:.5f}",
                f"Area Under Curve (AUC): {self.auc:.3f}",
                f"Equal Error Rate (EER): {self.eer:.3f}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        val, spread, far = self.validation_rate
        return {
            "distance": self.distance,
            "accuracy": self.accuracy[0],
            "accuracy_deviation": self.accuracy[1],
            "accuracies": self.accuracies.tolist(),
            "thresholds": self.thresholds.tolist(),
            "validation_rate": val,
            "validation_rate_deviation": spread,
            "far": far,
            "far_target": self.far,
            "auc": self.auc,
            "eer": self.eer,
            "notes": list(self.notes),
        }


def split_folds(count: int, folds: int = 10) -> NDArray[np.intp]:
    """Number the folds of a list without any: stretches in the list's order, the first ones longer by one.

    Parameters
    ----------
    count : int
    folds : int

    Returns
    -------
    ndarray of int, shape (count,)
        From 1; as scikit-learn's `KFold(folds, shuffle=False)` cuts.

    Raises
    ------
    InvalidArgumentError
        Fewer than two folds, or fewer pairs than folds.
    """
    if not 2 <= folds <= count:
        raise InvalidArgumentError(f"folds must be from 2 to the number of pairs, {count}, but got {folds}")
    sizes = np.full(folds, count // folds) + (np.arange(folds) < count % folds)
    return np.repeat(np.arange(1, folds + 1), sizes)


def grid_figures(
    left: ArrayLike,
    right: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike | None = None,
    *,
    distance: GridDistance = "squared",
    subtract_mean: bool = False,
    far: float = 1e-3,
) -> GridFigures:
    """Evaluate embeddings as FaceNet's and InsightFace's scripts do.

    For each fold the threshold is chosen on the other folds: for the accuracy the first of 400 (0, 0.01, ... 3.99) that
    judges most pairs rightly; for the validation rate the one that a straight line between two of 4,000 false accept
    rates gives for `far`, and 0 where none reaches it. A pair is accepted where its distance is below the threshold.
    AUC and EER are of the curve whose points are the folds' means (Schroff et al. 2015, section 4, for the rates).

    Parameters
    ----------
    left, right : array_like of float, shape (N, D)
        Taken as they are: FaceNet's nets give unit vectors, and InsightFace's script scales to them first.
    same : array_like of bool, shape (N,)
    folds : array_like of int, shape (N,), optional
        By default ten stretches in the list's order.
    distance : {"squared", "angle"}
        Squared Euclidean distance, FaceNet's metric 0; or the angle over pi, its metric 1.
    subtract_mean : bool
        Subtract the mean of the other folds' embeddings first, as FaceNet's option does: of two embeddings their
        difference stays as it is, so that it changes angles only.
    far : float
        Within 0..1.

    Returns
    -------
    GridFigures

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, values that are not finite, fewer than two folds, another distance.
    NotEnoughDataError
        Only one kind of pair.
    """
    x, y, labels = _checked(left, right, same)
    check_choice("distance", distance, get_args(GridDistance))
    check_rate("far", far)
    numbers = split_folds(len(x)) if folds is None else np.asarray(folds)
    if numbers.shape != labels.shape:
        raise InvalidArgumentError(f"folds must have shape {labels.shape}, but got {numbers.shape}")
    names = np.unique(numbers)
    notes = _notes(labels, numbers, names)
    values = _distances(x, y, distance)
    own = np.empty(len(x))
    rows = []
    for name in names:
        tested = numbers == name
        if subtract_mean:
            mean = np.concatenate([x[~tested], y[~tested]]).mean(axis=0)
            values = _distances(x - mean, y - mean, distance)
        own[tested] = values[tested]
        rows.append(_fold(values, labels, tested, far))
    accuracies, thresholds, validation, false, tars, fars = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    genuine = int(labels.sum())
    curve = Roc(ACCURACY_GRID, np.nanmean(fars, axis=0), np.nanmean(tars, axis=0), genuine, len(labels) - genuine)
    return GridFigures(
        names, accuracies, thresholds, validation, false, far, area_under(curve), equal_error(curve)[0], own, numbers,
        distance, notes,
    )  # fmt: skip


def _checked(left: ArrayLike, right: ArrayLike, same: ArrayLike) -> tuple[FloatArray, FloatArray, BoolArray]:
    x, y = (np.asarray(side, dtype=np.float64) for side in (left, right))
    labels = np.asarray(same, dtype=np.bool_)
    if x.ndim != 2 or x.shape != y.shape or labels.shape != (len(x),):
        raise InvalidArgumentError(
            f"left and right must be (N, D), same (N,), but got {x.shape}, {y.shape} and {labels.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InvalidArgumentError("left and right must be finite")
    return x, y, labels


def _notes(labels: BoolArray, numbers: NDArray[np.intp], names: NDArray[np.intp]) -> tuple[str, ...]:
    if len(names) < 2:
        raise InvalidArgumentError(f"there must be at least two folds, but got {len(names)}")
    if labels.all() or not labels.any():
        raise NotEnoughDataError(f"there are only {'genuine' if labels.all() else 'impostor'} pairs")
    lone = sum(1 for name in names if len(np.unique(labels[numbers == name])) < 2)
    if not lone:
        return check_folds(labels, numbers)
    return (f"{lone} folds have only one kind of pair: the list is sorted by kind, and its folds are not alike",)


def _share_of(accepted: BoolArray) -> float:
    return float(accepted.mean()) if len(accepted) else float("nan")


def _distances(x: FloatArray, y: FloatArray, distance: GridDistance) -> FloatArray:
    if distance == "squared":
        return np.asarray(np.square(x - y).sum(axis=1))
    x, y = at_unit_length(x), at_unit_length(y)
    return np.asarray(np.arccos(np.clip(np.einsum("ij,ij->i", x, y), -1.0, 1.0)) / np.pi)


def _fold(
    values: FloatArray, same: BoolArray, tested: BoolArray, far: float
) -> tuple[float, float, float, float, FloatArray, FloatArray]:
    tar, false = _accepted(values[~tested], same[~tested], ACCURACY_GRID)
    kinds = np.count_nonzero(same[~tested]), np.count_nonzero(~same[~tested])
    best = ACCURACY_GRID[int(np.argmax(tar + kinds[1] - false))]
    right = (values[tested] < best) == same[tested]
    cut = 0.0
    if kinds[1]:
        cut = _at_rate(_accepted(values[~tested], same[~tested], VALIDATION_GRID)[1] / kinds[1], far)
    accepted, labels = values[tested] < cut, same[tested]
    mine = _accepted(values[tested], labels, ACCURACY_GRID)
    sizes = (np.count_nonzero(labels) or np.nan, np.count_nonzero(~labels) or np.nan)
    return (
        float(right.mean()),
        float(best),
        _share_of(accepted[labels]),
        _share_of(accepted[~labels]),
        mine[0] / sizes[0],
        mine[1] / sizes[1],
    )


def _accepted(values: FloatArray, same: BoolArray, grid: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """How many genuine and impostor pairs lie below each threshold."""
    genuine, impostor = (np.searchsorted(np.sort(values[kind]), grid, side="left") for kind in (same, ~same))
    return genuine, impostor


def _at_rate(rates: FloatArray, far: float) -> float:
    """Threshold at which a linear spline through (rate, threshold) has this rate; 0 where no rate reaches it.

    Equal rates follow each other: the line leaves from the last of a lower run to the first of the higher one.
    """
    if rates[-1] < far:
        return 0.0
    last = int(np.searchsorted(rates, far, side="right")) - 1
    if last == len(rates) - 1:
        return float(VALIDATION_GRID[int(np.searchsorted(rates, far, side="left"))])
    if last < 0:
        return float(VALIDATION_GRID[0])
    share = (far - rates[last]) / (rates[last + 1] - rates[last])
    return float(VALIDATION_GRID[last] + share * (VALIDATION_GRID[last + 1] - VALIDATION_GRID[last]))
