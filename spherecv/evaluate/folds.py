"""Accuracy by cross-validation over folds, as LFW and YTF ask for and as the SphereFace authors computed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.curves import BoolArray, FloatArray, best_accuracy, roc_curve

STEPS = 10_000
"""The authors try the thresholds -STEPS..STEPS over STEPS: 20,001 cosine similarities from -1 to 1."""


@dataclass(frozen=True, eq=False)
class FoldTable:
    """Accuracy of each fold at the threshold that the other folds chose.

    Attributes
    ----------
    folds : ndarray of int, shape (F,)
        Numbers of the folds.
    accuracies : ndarray of float64, shape (F,)
        0..1.
    thresholds : ndarray of float64, shape (F,)
        The largest cosine distance accepted in each fold.
    distances : ndarray of float64, shape (N,)
        Of every pair, by its own fold's mean.
    pair_folds : ndarray of int, shape (N,)
    method : str
        How it was computed, in words.
    notes : tuple of str
        What a reader must know beside the numbers.
    """

    folds: NDArray[np.intp]
    accuracies: FloatArray
    thresholds: FloatArray
    distances: FloatArray
    pair_folds: NDArray[np.intp]
    method: str
    notes: tuple[str, ...] = ()

    __repr__ = brief

    @property
    def mean(self) -> float:
        """Mean of the folds' accuracies: the number that papers give."""
        return float(self.accuracies.mean())

    @property
    def standard_deviation(self) -> float:
        """Over the folds (divided by F), as FaceNet's code prints behind its `+-`."""
        return float(self.accuracies.std())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, as LFW asks for: the deviation (divided by F - 1) over the root of F."""
        count = len(self.accuracies)
        return float(self.accuracies.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")

    @property
    def pair_thresholds(self) -> FloatArray:
        """Threshold of each pair's own fold, shape (N,)."""
        return self.thresholds[np.searchsorted(self.folds, self.pair_folds)]

    def __str__(self) -> str:
        """Draw the table as the authors' script prints it, then both spreads."""
        rows = [f"{fold}\t{100 * accuracy:.2f}%" for fold, accuracy in zip(self.folds, self.accuracies, strict=True)]
        return "\n".join(
            [
                "fold\tACC",
                "-" * 16,
                *rows,
                "-" * 16,
                f"AVE\t{100 * self.mean:.2f}%",
                f"mean +- standard deviation over folds: {self.mean:.5f}+-{self.standard_deviation:.5f}",
                f"mean +- standard error of the mean: {self.mean:.5f}+-{self.standard_error:.5f}",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The table as plain Python values, ready for JSON."""
        return {
            "method": self.method,
            "folds": self.folds.tolist(),
            "accuracies": self.accuracies.tolist(),
            "thresholds": self.thresholds.tolist(),
            "mean": self.mean,
            "standard_deviation": self.standard_deviation,
            "standard_error": None if np.isnan(self.standard_error) else self.standard_error,
            "notes": list(self.notes),
        }


def evaluate_folds(
    left: ArrayLike,
    right: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike,
    *,
    subtract_mean: bool = True,
    authors_threshold: bool = True,
) -> FoldTable:
    """Run the SphereFace authors' evaluation, or the same without its refinements, on embeddings.

    For each fold: the mean over both sides of all pairs of the other folds is subtracted, rows are scaled to length 1,
    pairs are compared by cosine, and the threshold is the mean of those of 20,001 that judge most of the other folds'
    pairs rightly. A pair whose similarity equals the threshold is judged wrongly, whichever it is, as in the authors'
    script. All in float64.

    Parameters
    ----------
    left, right : array_like of float, shape (N, D)
        Embeddings of the two images of each pair; for the authors' figures, each that of the crop concatenated with
        that of its mirror image, unnormalised.
    same : array_like of bool, shape (N,)
    folds : array_like of int, shape (N,)
        The fold of each pair; at least two.
    subtract_mean : bool
        False leaves the mean as it is.
    authors_threshold : bool
        False takes the best threshold half way between two measured distances instead of those on the authors' grid,
        and accepts at the threshold.

    Returns
    -------
    FoldTable

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, or fewer than two folds.
    NotEnoughDataError
        The other folds of some fold have only one kind of pair, or a fold has only one.
    """
    x, y = (np.asarray(side, dtype=np.float64) for side in (left, right))
    labels, numbers = np.asarray(same, dtype=np.bool_), np.asarray(folds)
    if x.ndim != 2 or x.shape != y.shape or labels.shape != (len(x),) or numbers.shape != (len(x),):
        raise InvalidArgumentError(
            "left and right must be (N, D), same and folds (N,), "
            f"but got {x.shape}, {y.shape}, {labels.shape} and {numbers.shape}"
        )
    names = np.unique(numbers)
    notes = check_folds(labels, numbers)
    totals = np.stack([x[numbers == name].sum(axis=0) + y[numbers == name].sum(axis=0) for name in names])
    accuracies, thresholds, distances = np.empty(len(names)), np.empty(len(names)), np.empty(len(x))
    scores = _cosines(x, y)
    buffers = np.empty_like(x), np.empty_like(y)
    for row, name in enumerate(names):
        tested = numbers == name
        if subtract_mean:
            mean = (totals.sum(axis=0) - totals[row]) / (2 * np.count_nonzero(~tested))
            scores = _cosines(np.subtract(x, mean, out=buffers[0]), np.subtract(y, mean, out=buffers[1]))
        choose = _authors_fold if authors_threshold else _plain_fold
        accuracies[row], thresholds[row] = choose(scores, labels, tested)
        distances[tested] = 1.0 - scores[tested]
    method = _method(subtract_mean, authors_threshold)
    return FoldTable(names, accuracies, thresholds, distances, numbers, method, notes)


def evaluate_split(
    training: tuple[ArrayLike, ArrayLike, ArrayLike],
    tested: tuple[ArrayLike, ArrayLike, ArrayLike],
    *,
    subtract_mean: bool = True,
    authors_threshold: bool = True,
) -> FoldTable:
    """Run the same evaluation where one set chooses and another is judged: view 1 of LFW.

    Parameters
    ----------
    training, tested : tuple of left (N, D), right (N, D) and same (N,)
        As for `evaluate_folds`; mean and threshold come from `training` alone.
    subtract_mean, authors_threshold : bool
        As for `evaluate_folds`.

    Returns
    -------
    FoldTable
        With the tested pairs as its only fold, number 1; its spreads are 0 and NaN.

    Raises
    ------
    InvalidArgumentError, NotEnoughDataError
        As for `evaluate_folds`.
    """
    columns = zip(training, tested, strict=True)
    sides = [np.concatenate([np.asarray(a, np.float64), np.asarray(b, np.float64)]) for a, b in columns]
    folds = np.repeat([0, 1], [len(np.asarray(training[2])), len(np.asarray(tested[2]))])
    both = evaluate_folds(
        sides[0],
        sides[1],
        sides[2].astype(np.bool_),
        folds,
        subtract_mean=subtract_mean,
        authors_threshold=authors_threshold,
    )
    kept = folds == 1
    method = both.method.replace("other folds", "training pairs")
    return FoldTable(
        both.folds[1:], both.accuracies[1:], both.thresholds[1:], both.distances[kept], both.pair_folds[kept], method
    )


def fold_distances(distances: ArrayLike, same: ArrayLike, folds: ArrayLike) -> FoldTable:
    """Cross-validate the threshold of distances that are there already, of any metric.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)
    folds : array_like of int, shape (N,)

    Returns
    -------
    FoldTable

    Raises
    ------
    InvalidArgumentError, NotEnoughDataError
        As `evaluate_folds`.
    """
    values, labels, numbers = np.asarray(distances, np.float64), np.asarray(same, np.bool_), np.asarray(folds)
    if values.ndim != 1 or labels.shape != values.shape or numbers.shape != values.shape:
        raise InvalidArgumentError("distances, same and folds must be (N,) all three")
    names = np.unique(numbers)
    notes = check_folds(labels, numbers)
    rows = [_plain_distances(values, labels, numbers == name) for name in names]
    accuracies, thresholds = (np.array(column) for column in zip(*rows, strict=True))
    return FoldTable(names, accuracies, thresholds, values, numbers, "best threshold of the other folds", notes)


def check_folds(labels: BoolArray, numbers: NDArray[np.intp]) -> tuple[str, ...]:
    """Refuse folds that cannot be evaluated, and say what uneven ones mean.

    Returns
    -------
    tuple of str
        A note where the folds are of different sizes.

    Raises
    ------
    InvalidArgumentError, NotEnoughDataError
    """
    names, sizes = np.unique(numbers, return_counts=True)
    if len(names) < 2:
        raise InvalidArgumentError(f"there must be at least two folds, but got {len(names)}")
    for name in names:
        genuine = int(labels[numbers == name].sum())
        if genuine in (0, int((numbers == name).sum())):
            raise NotEnoughDataError(f"fold {name} has only {'genuine' if genuine else 'impostor'} pairs")
    if len(set(sizes.tolist())) == 1:
        return ()
    span = f"{sizes.min()} to {sizes.max()} pairs"
    return (f"the folds are uneven ({span}): the mean counts every fold alike, so pairs of small folds weigh more",)


def authors_threshold(scores: FloatArray, same: BoolArray) -> float:
    """The authors' threshold: the mean of those of 20,001 cosine similarities that judge most pairs rightly.

    Parameters
    ----------
    scores : ndarray of float64, shape (N,)
        Cosine similarities.
    same : ndarray of bool, shape (N,)

    Returns
    -------
    float
        A cosine similarity, -1..1.
    """
    grid = np.arange(-STEPS, STEPS + 1) / STEPS
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    right = len(genuine) - np.searchsorted(genuine, grid, side="right") + np.searchsorted(impostor, grid, side="left")
    return float(grid[right == right.max()].mean())


def authors_accuracy(scores: FloatArray, same: BoolArray, threshold: float) -> float:
    """Share of pairs strictly on their side of a cosine similarity, 0..1."""
    right = np.count_nonzero(scores[same] > threshold) + np.count_nonzero(scores[~same] < threshold)
    return right / len(scores)


def _authors_fold(scores: FloatArray, same: BoolArray, tested: BoolArray) -> tuple[float, float]:
    threshold = authors_threshold(scores[~tested], same[~tested])
    return authors_accuracy(scores[tested], same[tested], threshold), 1.0 - threshold


def _plain_fold(scores: FloatArray, same: BoolArray, tested: BoolArray) -> tuple[float, float]:
    return _plain_distances(1.0 - scores, same, tested)


def _plain_distances(distances: FloatArray, same: BoolArray, tested: BoolArray) -> tuple[float, float]:
    threshold = best_accuracy(roc_curve(distances[~tested], same[~tested]))[1]
    return float(np.mean((distances[tested] <= threshold) == same[tested])), threshold


def _cosines(x: FloatArray, y: FloatArray) -> FloatArray:
    lengths = np.sqrt(np.einsum("ij,ij->i", x, x) * np.einsum("ij,ij->i", y, y))
    dots = np.einsum("ij,ij->i", x, y)
    return np.asarray(np.divide(dots, lengths, out=np.zeros(len(x)), where=lengths > 0))


def _method(subtract_mean: bool, authors: bool) -> str:
    mean = "mean of the other folds subtracted" if subtract_mean else "no mean subtracted"
    threshold = f"mean of the best of {2 * STEPS + 1:,} thresholds" if authors else "best threshold"
    return f"cosine, {mean}, {threshold} of the other folds"
