"""Closed-set classification over folds: identities or expressions; accuracy and confusion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.errors import DatasetError, InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.figures import Figure
from spherecv.evaluate.intervals import percentiles


@dataclass(frozen=True, eq=False)
class ClassFigures:
    """A classification measured over folds.

    Attributes
    ----------
    names : tuple of str
        Of the classes.
    accuracies : ndarray of float64, shape (F,)
        Of each fold, 0..1.
    accuracy : Figure
        Over all images; the interval resamples groups.
    confusion : ndarray of int64, shape (C, C)
        Images of the class of the row that were taken for the class of the column.
    groups : int
        Resampled: people, or images where nobody said who is who.
    """

    names: tuple[str, ...]
    accuracies: NDArray[np.float64]
    accuracy: Figure
    confusion: NDArray[np.int64]
    groups: int

    __repr__ = brief

    @property
    def recalls(self) -> NDArray[np.float64]:
        """Share of each class's images that were recognised, shape (C,); NaN of a class without any."""
        totals = self.confusion.sum(axis=1)
        nothing = np.full(len(totals), np.nan)
        return np.asarray(np.divide(np.diag(self.confusion), totals, out=nothing, where=totals > 0))

    def __str__(self) -> str:
        """Draw the figures and the confusion matrix as text."""
        mean, spread = 100 * self.accuracies.mean(), 100 * self.accuracies.std()
        width = max(len(name) for name in self.names)
        digits = len(str(self.confusion.max()))
        lines = [
            f"accuracy over {len(self.accuracies)} folds: {mean:.2f}+-{spread:.2f} %",
            f"accuracy over all images: {self.accuracy}",
            f"mean over classes: {100 * np.nanmean(self.recalls):.2f} %",
            "rows are the true classes, columns in the same order what they were taken for:",
        ]
        for name, row, recall in zip(self.names, self.confusion, self.recalls, strict=True):
            cells = " ".join(f"{count:>{digits}}" for count in row)
            lines.append(f"  {name.rjust(width)}  {cells}   {100 * recall:.2f} %")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            "classes": list(self.names),
            "fold_accuracies": self.accuracies.tolist(),
            "mean": float(self.accuracies.mean()),
            "standard_deviation": float(self.accuracies.std()),
            "accuracy": self.accuracy.to_dict(),
            "confusion": self.confusion.tolist(),
            "recalls": [None if np.isnan(recall) else float(recall) for recall in self.recalls],
            "groups": self.groups,
        }


def class_folds(
    labels: ArrayLike, folds: int, *, groups: Sequence[str] | None = None, seed: int = 0
) -> NDArray[np.intp]:
    """Cut images into folds.

    Parameters
    ----------
    labels : array_like of int, shape (N,)
    folds : int
    groups : sequence of str, length N, optional
        People: all images of one fall into the same fold. Sorted by name and dealt out in turn, as the papers on CK+
        do. Without groups, each class is shuffled and dealt out in turn.
    seed : int
        Of the shuffling.

    Returns
    -------
    ndarray of int, shape (N,)
        0..folds - 1.

    Raises
    ------
    NotEnoughDataError
        Fewer groups, or fewer images, than folds.
    InvalidArgumentError
        Fewer than two folds, or shapes that do not fit.
    """
    classes = np.asarray(labels)
    if folds < 2 or classes.ndim != 1:
        raise InvalidArgumentError(f"there must be at least two folds of images, but got {folds}")
    if groups is not None:
        if len(groups) != len(classes):
            raise InvalidArgumentError(f"groups must have one entry for each of the {len(classes)} images")
        names, member = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
        if len(names) < folds:
            raise NotEnoughDataError(f"{len(names)} people cannot be cut into {folds} folds")
        return np.asarray(member % folds, dtype=np.intp)
    if len(classes) < folds:
        raise NotEnoughDataError(f"{len(classes)} images cannot be cut into {folds} folds")
    generator = np.random.default_rng(seed)
    found = np.empty(len(classes), np.intp)
    dealt = 0
    for label in np.unique(classes):
        mine = generator.permutation(np.flatnonzero(classes == label))
        found[mine] = (dealt + np.arange(len(mine))) % folds
        dealt += len(mine)
    return found


def groups_of(names: Sequence[str], pattern: str) -> list[str]:
    """Read people off the names of images.

    Parameters
    ----------
    names : sequence of str
    pattern : str
        A regular expression whose first group, or else whose match, is the person: `S[0-9]+` in CK+'s names.

    Returns
    -------
    list of str

    Raises
    ------
    DatasetError
        The expression is wrong, or a name does not match it.
    """
    try:
        form = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"{pattern!r} is not a regular expression: {error}") from None
    found = []
    for name in names:
        match = form.search(name)
        if match is None:
            raise DatasetError(f"{name} does not match {pattern!r}, which should say who is on it")
        found.append(match[1] if form.groups else match[0])
    return found


def class_figures(
    labels: ArrayLike,
    predicted: ArrayLike,
    folds: ArrayLike,
    names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> ClassFigures:
    """Measure a classification.

    Parameters
    ----------
    labels, predicted : array_like of int, shape (N,)
        0..C-1.
    folds : array_like of int, shape (N,)
    names : sequence of str, length C
    groups : sequence of str, length N, optional
        Resampled for the interval; by default every image by itself.
    replicates, seed : int
        Of the bootstrap; no replicates leave the interval out.

    Returns
    -------
    ClassFigures

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, or labels out of range.
    """
    truth, answer, numbers = (np.asarray(values, dtype=np.intp) for values in (labels, predicted, folds))
    if truth.ndim != 1 or not truth.shape == answer.shape == numbers.shape or not len(truth):
        raise InvalidArgumentError("labels, predicted and folds must be (N,) all three, and not empty")
    count = len(names)
    if min(truth.min(), answer.min()) < 0 or max(truth.max(), answer.max()) >= count:
        raise InvalidArgumentError(f"labels must be within 0..{count - 1}")
    right = truth == answer
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (truth, answer), 1)
    member = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    size = int(member.max()) + 1
    span = (float("nan"), float("nan"))
    if replicates:
        hits, totals = np.bincount(member, right, size), np.bincount(member, minlength=size)
        generator = np.random.default_rng(seed)
        drawn = [generator.integers(size, size=size) for _ in range(replicates)]
        shares = np.array([hits[rows].sum() / totals[rows].sum() for rows in drawn])
        low, high = percentiles(shares[:, None], 0.95)
        span = float(low[0]), float(high[0])
    return ClassFigures(
        names=tuple(names),
        accuracies=np.array([right[numbers == number].mean() for number in np.unique(numbers)]),
        accuracy=Figure(float(right.mean()), span),
        confusion=confusion,
        groups=size,
    )
