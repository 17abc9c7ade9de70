"""Figures in the manner of NIST and ISO/IEC 19795: FNMR at FMR, failures counted, groups, error versus discard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.errors import DatasetError, InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.curves import FloatArray, Roc, checked_pairs, roc_curve, supported_rates, tar_at_far
from spherecv.evaluate.figures import Figure, finite
from spherecv.evaluate.groups import GroupRates, csv_rows, worst_over_mean
from spherecv.evaluate.intervals import bootstrap
from spherecv.evaluate.pairs import PairList
from spherecv.evaluate.shares import share_interval

DISCARDED = 0.2
"""The partial area under an error-versus-discard curve ends here: nobody discards more (Schlett et al. 2023)."""


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """False non-match rates at false match rates, with and without failures.

    Attributes
    ----------
    fnmr : dict of float to Figure
        By FMR, over the pairs whose images could both be used; `threshold` is the largest distance accepted.
    frr : dict of float to Figure
        By FAR, over all pairs: one that needs an image that failed is rejected (ISO/IEC 19795-1, generalised rates).
    images, failed_images : int
        Failure to acquire: images that could not be read, or that hold no face.
    people, failed_people : int
        Failure to enrol: people none of whose images could be used.
    pairs, failed_pairs : int
    roc : Roc
        Over all pairs.
    """

    fnmr: dict[float, Figure]
    frr: dict[float, Figure]
    images: int
    failed_images: int
    people: int
    failed_people: int
    pairs: int
    failed_pairs: int
    roc: Roc

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The rates as plain Python values, ready for JSON."""
        return {
            "fnmr_at_fmr": {f"{rate:g}": figure.to_dict() for rate, figure in self.fnmr.items()},
            "frr_at_far": {f"{rate:g}": figure.to_dict() for rate, figure in self.frr.items()},
            "images": self.images,
            "failed_images": self.failed_images,
            "failure_to_acquire": self.failed_images / self.images,
            "people": self.people,
            "failed_people": self.failed_people,
            "failure_to_enrol": self.failed_people / self.people,
            "pairs": self.pairs,
            "failed_pairs": self.failed_pairs,
        }


@dataclass(frozen=True, eq=False)
class GroupErrors:
    """Errors by group at one threshold.

    Attributes
    ----------
    matches : GroupRates
        False match rates of the listed impostor pairs, within groups and between them.
    misses : dict of str to Figure
        False non-match rates of the genuine pairs of each group.
    genuine : dict of str to int
    """

    matches: GroupRates
    misses: dict[str, Figure]
    genuine: dict[str, int]

    __repr__ = brief

    @property
    def fmr_ratio(self) -> float:
        """As `GroupRates.ratio`."""
        return self.matches.ratio

    @property
    def fnmr_ratio(self) -> float:
        """Worst false non-match rate over the geometric mean of the groups'; NaN where one is 0."""
        return worst_over_mean([figure.value for figure in self.misses.values()])

    def to_dict(self) -> dict[str, Any]:
        """The errors as plain Python values, ready for JSON."""
        return {
            **self.matches.to_dict(),
            "fnmr": {name: figure.to_dict() for name, figure in self.misses.items()},
            "genuine_pairs": self.genuine,
            "fnmr_worst_over_geometric_mean": finite(self.fnmr_ratio),
        }


@dataclass(frozen=True, eq=False)
class DiscardCurve:
    """How the false non-match rate falls when the pairs of least quality are discarded.

    Attributes
    ----------
    name : str
        Of the quality.
    discarded : ndarray of float64, shape (K,)
        Share of the genuine pairs discarded, ascending from 0, below 1.
    fnmr : ndarray of float64, shape (K,)
        Of the pairs that are left.
    area : float
        Mean FNMR over shares from 0 to `DISCARDED`: less is better; a quality of no worth keeps the first FNMR.
    threshold : float
        The largest distance accepted.
    """

    name: str
    discarded: FloatArray
    fnmr: FloatArray
    area: float
    threshold: float

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The curve as plain Python values, ready for JSON: at every hundredth, not at every pair."""
        shares = np.arange(100) / 100
        places = np.searchsorted(self.discarded, shares, side="right") - 1
        return {
            "quality": self.name,
            "threshold": self.threshold,
            "area": self.area,
            "area_to": DISCARDED,
            "discarded": shares.tolist(),
            "fnmr": self.fnmr[places].tolist(),
        }


def error_rates(
    distances: ArrayLike,
    pairs: PairList,
    failed: Sequence[str],
    *,
    rates: Sequence[float] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> ErrorRates:
    """Measure FNMR at FMR with people resampled, and count failures.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
        Of every listed pair; those of pairs that need a failed image are not looked at.
    pairs : PairList
    failed : sequence of str
        Images of the list that could not be used.
    rates : sequence of float, optional
        By default those that the impostor pairs support.
    replicates, seed : int
        Of the bootstrap; no replicates leave the intervals out.

    Returns
    -------
    ErrorRates

    Raises
    ------
    NotEnoughDataError
        Only one kind of pair is left.
    InvalidArgumentError
        Shapes that do not fit, a rate outside 0..1.
    """
    lost = np.isin(np.array(pairs.images, dtype=np.str_), np.array(list(failed), dtype=np.str_))
    missing = lost[pairs.first] | lost[pairs.second]
    values = np.where(missing, np.inf, np.asarray(distances, dtype=np.float64))
    values, same = checked_pairs(values, pairs.same)
    whole, used = roc_curve(values, same), roc_curve(values[~missing], same[~missing]) if not missing.all() else None
    if used is None or not used.genuine or not used.impostors:
        raise NotEnoughDataError("genuine and impostor pairs are needed, whose images could be used")
    chosen = supported_rates(used.impostors) if rates is None else tuple(rates)
    spans = [
        _miss_spans(values[kept], same[kept], pairs.people[kept], chosen, replicates, seed)
        for kept in (~missing, np.ones(len(values), np.bool_))
    ]
    tables = [
        {
            rate: Figure(1.0 - tar, span.get(rate, (float("nan"), float("nan"))), cut)
            for rate, (tar, cut) in ((rate, tar_at_far(roc, rate)) for rate in chosen)
        }
        for roc, span in zip((used, whole), spans, strict=True)
    ]
    seen = np.zeros(len(pairs.images), np.bool_)
    seen[pairs.first] = seen[pairs.second] = True
    everyone = np.unique(pairs.identities[seen])
    enrolled = np.unique(pairs.identities[seen & ~lost])
    return ErrorRates(
        fnmr=tables[0],
        frr=tables[1],
        images=int(np.count_nonzero(seen)),
        failed_images=int(np.count_nonzero(seen & lost)),
        people=len(everyone),
        failed_people=len(everyone) - len(enrolled),
        pairs=len(values),
        failed_pairs=int(np.count_nonzero(missing)),
        roc=whole,
    )


def group_errors(
    distances: ArrayLike,
    same: ArrayLike,
    identities: ArrayLike,
    groups: ArrayLike,
    threshold: float,
    *,
    column: str = "group",
    replicates: int = 300,
) -> GroupErrors:
    """Measure errors by group at one threshold, of listed pairs.

    Parameters
    ----------
    distances : array_like of float, shape (N,)
    same : array_like of bool, shape (N,)
    identities : array_like, shape (N, 2)
        Resampled for the intervals.
    groups : array_like of str, shape (N, 2)
        Of the two images of each pair; a pair with an empty one is passed over.
    threshold : float
        The largest distance accepted.
    column : str
        What the groups are.
    replicates : int

    Returns
    -------
    GroupErrors
        A genuine pair counts for the group of its first image.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, NaN distances.
    NotEnoughDataError
        No pair has groups.
    """
    values, labels = checked_pairs(distances, same)
    people, member = np.asarray(identities), np.asarray(groups, dtype=np.str_)
    if people.shape != (len(values), 2) or member.shape != (len(values), 2):
        raise InvalidArgumentError(f"identities and groups must be (N, 2), but got {people.shape} and {member.shape}")
    known = (member != "").all(axis=1)
    if not known.any():
        raise NotEnoughDataError(f"no pair has a {column} on both sides")
    accepted = values <= threshold
    names = np.unique(member[known])
    size = len(names)
    counts, false = (np.zeros((size, size), np.int64) for _ in range(2))
    rates, low, high = (np.full((size, size), np.nan) for _ in range(3))
    for a in range(size):
        for b in range(a, size):
            inside = ~labels & _between(member, names[a], names[b])
            counts[a, b] = counts[b, a] = np.count_nonzero(inside)
            false[a, b] = false[b, a] = np.count_nonzero(inside & accepted)
            if inside.any():
                span = share_interval(accepted[inside], people[inside], replicates=replicates)
                rates[a, b] = rates[b, a] = accepted[inside].mean()
                low[a, b], high[a, b] = span
                low[b, a], high[b, a] = span
    misses: dict[str, Figure] = {}
    genuine: dict[str, int] = {}
    for name in names.tolist():
        mine = labels & known & (member[:, 0] == name)
        genuine[name] = int(np.count_nonzero(mine))
        if genuine[name]:
            span = share_interval(~accepted[mine], people[mine], replicates=replicates)
            misses[name] = Figure(float(np.mean(~accepted[mine])), span, threshold)
    matches = GroupRates(column, tuple(names.tolist()), threshold, counts, false, rates, low, high)
    return GroupErrors(matches, misses, genuine)


def discard_curve(
    distances: ArrayLike, qualities: ArrayLike, threshold: float, *, name: str = "quality"
) -> DiscardCurve:
    """Measure the error-versus-discard curve of a quality (Grother and Tabassi 2007).

    Parameters
    ----------
    distances : array_like of float, shape (N,)
        Of genuine pairs; infinite for those that need a failed image.
    qualities : array_like of float, shape (N, 2)
        Of the two images of each pair; the lower one counts. NaN, of an image without any, is the lowest of all.
    threshold : float
        The largest distance accepted.
    name : str
        Of the quality.

    Returns
    -------
    DiscardCurve
        Pairs of equal quality are discarded together.

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, NaN distances, no pairs.
    """
    values = np.asarray(distances, dtype=np.float64)
    scores = np.asarray(qualities, dtype=np.float64)
    if scores.shape != (len(values), 2) or values.ndim != 1:
        shapes = f"{values.shape} and {scores.shape}"
        raise InvalidArgumentError(f"distances must be (N,) and qualities (N, 2), but got {shapes}")
    if not len(values) or np.isnan(values).any():
        raise InvalidArgumentError("there must be at least one genuine pair, and no distance may be NaN")
    least = np.where(np.isnan(scores), -np.inf, scores).min(axis=1)
    order = np.argsort(least, kind="stable")
    least, missed = least[order], (values > threshold)[order]
    starts = np.flatnonzero(np.concatenate([[True], least[1:] != least[:-1]]))
    left = len(values) - starts
    errors = missed[::-1].cumsum()[::-1][starts]
    shares, rates = starts / len(values), errors / left
    return DiscardCurve(name, shares, rates, _area(shares, rates), float(threshold))


def read_columns(path: str | os.PathLike[str], images: Sequence[str]) -> dict[str, list[str]]:
    """Read a table of what is known about images.

    Parameters
    ----------
    path : path
        CSV with a header; the column `file`, `path` or `image`, or else the first, names the image.
    images : sequence of str
        Paths of the images wanted; a table that has only file names is read by them.

    Returns
    -------
    dict of str to list of str
        The other columns, in the order of `images`; empty where the table lacks an image.

    Raises
    ------
    DatasetError
        The table cannot be read, or names none of the images.
    """
    file = Path(path)
    table = csv_rows(file)
    header = [name for name in (table[0] if table else {}) if name]
    if len(header) < 2:
        raise DatasetError(f"{file} holds no rows under a header of a name and other columns")
    key = next((name for name in ("file", "path", "image") if name in header), header[0])
    rows = {str(row[key]).replace("\\", "/"): row for row in table}
    found = [rows.get(name) or rows.get(Path(name).name) for name in images]
    if not any(found):
        raise DatasetError(f"{file} names none of the {len(images)} images")
    return {name: ["" if row is None else str(row[name] or "") for row in found] for name in header if name != key}


def _miss_spans(
    values: FloatArray,
    same: NDArray[np.bool_],
    people: NDArray[np.intp],
    rates: Sequence[float],
    replicates: int,
    seed: int,
) -> dict[float, tuple[float, float]]:
    if not replicates or not rates:
        return {}
    drawn = bootstrap(values, same, people, rates=rates, replicates=replicates, seed=seed)
    return {rate: (1.0 - high, 1.0 - low) for rate, (low, high) in drawn.tar.items()}


def _between(member: NDArray[np.str_], one: str, two: str) -> NDArray[np.bool_]:
    first, second = member[:, 0], member[:, 1]
    return np.asarray(((first == one) & (second == two)) | ((first == two) & (second == one)))


def _area(shares: FloatArray, rates: FloatArray) -> float:
    """Mean of the step function over 0..DISCARDED."""
    ends = np.minimum(np.append(shares[1:], 1.0), DISCARDED)
    return float((np.maximum(ends - shares, 0.0) * rates).sum() / DISCARDED)
