"""A list of pairs evaluated in the manner of NIST: from images and a table to rates, groups and discard curves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.checks import check_rate
from spherecv.errors import DatasetError
from spherecv.evaluate.collection import ImageEmbeddings, embed_images
from spherecv.evaluate.cropsets import find_file
from spherecv.evaluate.curves import FloatArray, roc_curve, supported_rates, tar_at_far
from spherecv.evaluate.nist import (
    DISCARDED,
    DiscardCurve,
    ErrorRates,
    GroupErrors,
    discard_curve,
    error_rates,
    group_errors,
    read_columns,
)
from spherecv.evaluate.paired import PairedTest, compare_distances
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.pairs import PairList
from spherecv.evaluate.subject import Subject
from spherecv.metrics import Metric, distance

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class NistExperiment:
    """A model on a list of pairs, in the manner of NIST.

    Attributes
    ----------
    subject : dict
    rates : ErrorRates
    threshold : float
        The largest distance accepted, at which groups and discards are measured.
    threshold_at : str
        Where it comes from, in words.
    groups : tuple of GroupErrors
    discards : tuple of DiscardCurve
    failures : dict of str to str
        Images that could not be used, and why.
    notes : tuple of str
    pairs : PairList
        All that are listed.
    distances : ndarray of float64, shape (N,)
        Infinite where an image failed.
    """

    subject: dict[str, Any]
    rates: ErrorRates
    threshold: float
    threshold_at: str
    groups: tuple[GroupErrors, ...]
    discards: tuple[DiscardCurve, ...]
    failures: dict[str, str]
    notes: tuple[str, ...]
    pairs: PairList
    distances: FloatArray

    __repr__ = brief

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.subject["model"])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            **self.subject,
            **self.rates.to_dict(),
            "threshold": self.threshold,
            "threshold_at": self.threshold_at,
            "groups": [errors.to_dict() for errors in self.groups],
            "error_versus_discard": [curve.to_dict() for curve in self.discards],
            "failures": self.failures,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """Draw the figures as text."""
        rates = self.rates
        lines = [
            f"{self.model}: {rates.pairs:,} pairs, {rates.failed_pairs:,} of which need an image that failed",
            f"  failure to acquire: {rates.failed_images:,} of {rates.images:,} images",
            f"  failure to enrol: {rates.failed_people:,} of {rates.people:,} people",
        ]
        for rate, figure in rates.fnmr.items():
            both = f"FNMR at FMR {rate:g}: {figure}; with failures, FRR at FAR {rate:g}: {rates.frr[rate]}"
            lines.append(f"  {both}")
        lines.append(f"threshold {self.threshold:.4f}, {self.threshold_at}:")
        for errors in self.groups:
            lines += _group_lines(errors)
        for curve in self.discards:
            start = f"FNMR {100 * curve.fnmr[0]:.2f} % with all pairs"
            mean = f"{100 * curve.area:.2f} % on the mean of 0 to {DISCARDED:g} discarded"
            lines.append(f"  {curve.name}: {start}, {mean}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class ImageTable:
    """What is known about images.

    Attributes
    ----------
    path : path, optional
        See `read_columns`.
    group_by : sequence of str
        Columns to group by.
    qualities : sequence of str
        Columns that hold numbers, to be judged as qualities beside `Face.quality`.
    """

    path: AnyPath | None = None
    group_by: Sequence[str] = ()
    qualities: Sequence[str] = ()


def evaluate_nist(
    images: AnyPath,
    pairs: AnyPath,
    subject: Subject,
    *,
    table: ImageTable | None = None,
    threshold: float | None = None,
    fmr: float = 1e-3,
    metric: Metric = "cosine",
    saved: Callable[[AnyPath, bool], AnyPath | None] | None = None,
    replicates: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> NistExperiment:
    """Evaluate a list of pairs in the manner of NIST: nothing that fails is dropped.

    Parameters
    ----------
    images : path
        The folder that the list's paths are relative to. Images that are not there fail, and are counted.
    pairs : path
        Of any form that `read_pairs` reads.
    subject : Subject
    table : ImageTable, optional
    threshold : float, optional
        The largest distance accepted; by default the one of `fmr`.
    fmr : float
        The false match rate at which groups and qualities are judged; the nearest larger one that the pairs support.
    metric : {"cosine", "euclidean"}
    saved, replicates, progress
        As for `evaluate_pairs`.

    Returns
    -------
    NistExperiment

    Raises
    ------
    DatasetError, NotEnoughDataError, CalibrationError, InvalidArgumentError
        Lists or tables that are not what they should be, or too few pairs.
    """
    check_rate("fmr", fmr)
    root = Path(images)
    listed = read_pairs(pairs)
    found = [find_file(root, name) for name in listed.images]
    here = [name for name in found if name is not None]
    if not here:
        raise DatasetError(f"none of the {len(found)} images of {pairs} is in {root}")
    listed = replace(listed, images=tuple(a or b for a, b in zip(found, listed.images, strict=True)))
    table = table or ImageTable()
    columns = {} if table.path is None else read_columns(table.path, listed.images)
    strange = next((name for name in (*table.group_by, *table.qualities) if name not in columns), None)
    if strange is not None:
        raise DatasetError(f"the column {strange} is not there: {', '.join(columns) or 'give a table'}")
    scores = {name: _numbers(name, columns[name]) for name in table.qualities}
    recipe = subject.source.recipe
    kept = None if saved is None else saved(images, recipe.mirror)
    embedded = embed_images(root, here, subject, saved=kept, progress=progress)
    failures = {name: embedded.failures[name] for name in here if name in embedded.failures}
    failures |= {name: "no such file" for name, at in zip(listed.images, found, strict=True) if at is None}
    distances, own = _distances(listed, embedded, failures, recipe_rows=embedded.by(recipe), metric=metric)
    rates = error_rates(np.nan_to_num(distances, nan=np.inf), listed, list(failures), replicates=replicates)
    cut, where = _threshold(distances, listed, threshold, fmr)
    open_ended = np.where(np.isnan(distances), np.inf, distances)
    genuine = listed.same
    return NistExperiment(
        subject=subject.to_dict(),
        rates=rates,
        threshold=cut,
        threshold_at=where,
        groups=tuple(
            group_errors(
                open_ended, genuine, listed.people, _sides(listed, np.array(columns[name])), cut, column=name
            )
            for name in table.group_by
        ),
        discards=tuple(
            discard_curve(open_ended[genuine], _sides(listed, values)[genuine], cut, name=name)
            for name, values in {"Face.quality": own, **scores}.items()
        ),
        failures=failures,
        notes=listed.notes,
        pairs=listed,
        distances=open_ended,
    )


def compare_nist(experiments: Sequence[NistExperiment], *, replicates: int = 1000) -> tuple[PairedTest, ...]:
    """Compare each two models on the same list, failures counted as rejections, each at its own threshold.

    Parameters
    ----------
    experiments : sequence of NistExperiment
        On the same list.
    replicates : int

    Returns
    -------
    tuple of PairedTest
    """
    return tuple(
        compare_distances(
            a.distances,
            b.distances,
            a.pairs.same,
            thresholds=(a.threshold, b.threshold),
            identities=a.pairs.people,
            names=(a.model, b.model),
            replicates=replicates,
        )
        for a, b in combinations(experiments, 2)
    )


def _distances(
    listed: PairList,
    embedded: ImageEmbeddings,
    failures: dict[str, str],
    *,
    recipe_rows: NDArray[np.float32],
    metric: Metric,
) -> tuple[FloatArray, FloatArray]:
    """Distance of every pair, and the quality of every image; NaN where one failed."""
    good = np.array([name not in failures for name in listed.images], dtype=np.bool_)
    places = np.zeros(len(good), np.intp)
    places[good] = embedded.rows([name for name, fine in zip(listed.images, good, strict=True) if fine])
    quality = np.where(good, embedded.qualities[places], np.nan).astype(np.float64)
    usable = good[listed.first] & good[listed.second]
    distances = np.full(len(listed), np.nan)
    left, right = (recipe_rows[places[side[usable]]] for side in (listed.first, listed.second))
    if usable.any():
        distances[usable] = distance(left, right, metric)
    return distances, quality


def _threshold(distances: FloatArray, listed: PairList, given: float | None, fmr: float) -> tuple[float, str]:
    if given is not None:
        return given, "threshold given"
    usable = ~np.isnan(distances)
    roc = roc_curve(distances[usable], listed.same[usable])
    rates = [rate for rate in supported_rates(roc.impostors) if rate >= fmr * (1 - 1e-9)]
    if rates:
        return tar_at_far(roc, rates[-1])[1], f"FMR {rates[-1]:g}"
    return tar_at_far(roc, 0.1)[1], "FMR 0.1, which rests on fewer than 30 false matches"


def _sides(listed: PairList, values: NDArray[Any]) -> NDArray[Any]:
    return np.stack([values[listed.first], values[listed.second]], axis=1)


def _numbers(name: str, cells: Sequence[str]) -> FloatArray:
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError as error:
        raise DatasetError(f"the column {name} must hold numbers: {error}") from None


def _group_lines(errors: GroupErrors) -> list[str]:
    rates = errors.matches
    lines = [f"  by {rates.column}: FMR (rows and columns in the same order), FNMR"]
    for row, name in enumerate(rates.names):
        cells = " ".join("        -" if np.isnan(rate) else f"{rate:9.2e}" for rate in rates.rates[row])
        lines.append(f"    {name}: {cells}   {errors.misses.get(name, 'no genuine pairs')}")
    ratios = [
        "not known, since a group has none" if np.isnan(ratio) else f"{ratio:.2f}"
        for ratio in (errors.fmr_ratio, errors.fnmr_ratio)
    ]
    return [*lines, f"    worst over geometric mean: FMR {ratios[0]}, FNMR {ratios[1]}"]
