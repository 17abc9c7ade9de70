"""Sets of ready-made crops evaluated as the field does: 10 folds, flips added, mean and deviation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice, check_rate
from spherecv.errors import SphereCVError
from spherecv.evaluate.cropsets import BinSet, CropSet, Fitting, FolderSet, read_crops
from spherecv.evaluate.embedded import require_pairs
from spherecv.evaluate.experiment import Experiment, make_variant
from spherecv.evaluate.gridfolds import GridDistance, GridFigures, grid_figures
from spherecv.evaluate.rowstore import FloatRows, RowStore
from spherecv.evaluate.subject import Subject
from spherecv.files import check_writable
from spherecv.metrics import at_unit_length

Flip = Literal["add", "concatenate", "none"]

_BATCH = 64
_SAVE_EVERY = 2048
"""Crops between two savings: what an interrupted run loses at most."""
_SCORED = 4096
"""Pairs whose embeddings are held at once: 32 MB of 512 numbers, on both sides."""


@dataclass(frozen=True, eq=False)
class CropFigures:
    """A model on a set of crops.

    Attributes
    ----------
    name : str
        Of the set.
    experiment : Experiment
        With intervals.
    figures : GridFigures
        In the form that the field prints.
    """

    name: str
    experiment: Experiment
    figures: GridFigures

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {"set": self.name, "figures": self.figures.to_dict(), **self.experiment.to_dict()}


def evaluate_crops(
    source: BinSet | FolderSet,
    subject: Subject,
    *,
    flip: Flip = "add",
    far: float = 1e-3,
    distance: GridDistance = "squared",
    subtract_mean: bool = False,
    saved: str | None = None,
    replicates: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> CropFigures:
    """Evaluate a set of ready-made crops.

    Parameters
    ----------
    source : BinSet or FolderSet
    subject : Subject
        Its detector is not used: the crops are taken as they are.
    flip : {"add", "concatenate", "none"}
        What becomes of the mirror image's embedding: added before the length is scaled to 1, as InsightFace's script
        does; put beside, as the SphereFace authors do; or not computed.
    far : float
        Of the validation rate.
    distance, subtract_mean
        As for `grid_figures`: FaceNet's `distance_metric` and `subtract_mean`.
    saved : str, optional
        File of `RowStore`; an interrupted run resumes from it.
    replicates : int
        Of the bootstrap over people; 0 leaves the intervals out.
    progress : callable, optional
        Called with the number of crops done and in all.

    Returns
    -------
    CropFigures

    Raises
    ------
    NotEnoughDataError
        No pair is left, or a fold has only one kind.
    CalibrationError, DatasetError
        The saved rows are of something else, or broken.
    InvalidArgumentError
        Another flip or distance, or a rate out of range.
    """
    check_choice("flip", flip, get_args(Flip))
    check_choice("distance", distance, get_args(GridDistance))
    check_rate("far", far)
    store, changes = embed_crops(source, subject, mirror=flip != "none", saved=saved, progress=progress)
    pairs = source.pairs
    lost = {pairs.images[number] for number in store.failures}
    used = pairs.without(lost)
    require_pairs(used)
    left, right = (_sides(store.rows(), side, flip) for side in (used.first, used.second))
    figures = grid_figures(
        left, right, used.same, used.folds, distance=distance, subtract_mean=subtract_mean, far=far
    )
    table = figures.table()
    variant = make_variant(
        f"{figures.table().method}, {_FLIPPED[flip]}",
        used,
        table.distances,
        table=table,
        threshold_from="threshold of the other folds",
        replicates=replicates,
    )
    left_out = len(pairs) - len(used)
    notes = [*used.notes, *figures.notes, *(f"{count} crops: {what}" for what, count in sorted(changes.items()))]
    if lost:
        notes.append(f"{len(lost)} crops could not be used; {left_out} pairs need them and are left out")
    experiment = Experiment(
        source.name,
        subject.to_dict(),
        used,
        source.path,
        (variant,),
        {pairs.images[number]: why for number, why in store.failures.items()},
        left_out,
        0,
        notes=tuple(notes),
    )
    return CropFigures(source.name, experiment, figures)


_FLIPPED = {"add": "flips added", "concatenate": "flips concatenated", "none": "no flips"}


def embed_crops(
    source: CropSet,
    subject: Subject,
    *,
    mirror: bool,
    saved: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[RowStore, Counter[str]]:
    """Embed all crops of a set, but for those that are saved already.

    Parameters
    ----------
    source : CropSet
    subject : Subject
    mirror : bool
        Keep the mirror image's embedding beside each crop's own.
    saved, progress
        As for `evaluate_crops`.

    Returns
    -------
    store : RowStore
        Unnormalised rows; those of crops that could not be read are NaN.
    changes : Counter of str
        How many crops of this run were brought to the size wanted, and how.

    Raises
    ------
    CalibrationError, DatasetError, StorageError
    """
    recipe = replace(subject.source.recipe, mirror=mirror, normalize=False)
    meta = {"model": subject.source.key, "recipe": recipe.fingerprint, **source.stamp()}
    total = len(source)
    store = RowStore(saved, meta, total)
    changes: Counter[str] = Counter()
    if store.done == total:
        return store, changes
    if saved is not None:
        check_writable(saved)
    embedder = subject.pipeline(recipe).embedder
    fit = Fitting(recipe.size, middle=recipe.alignment == "box")
    blank = np.zeros((*recipe.size, 3), np.uint8)
    since = 0
    try:
        while store.done < total:
            numbers = range(store.done, min(store.done + _BATCH, total))
            crops, failures, changed = read_crops(source, numbers, fit)
            store.append(embedder.embed(np.stack([blank if crop is None else crop for crop in crops])), failures)
            changes.update(changed)
            since += len(numbers)
            if since >= _SAVE_EVERY:
                store.flush()
                since = 0
            if progress is not None:
                progress(store.done, total)
    except (SphereCVError, KeyboardInterrupt):
        store.flush()
        raise
    store.flush()
    return store, changes


def combined(rows: NDArray[np.floating], flip: Flip, *, unit: bool = True) -> NDArray[np.float64]:
    """Embeddings to compare, of those of crops and, behind them, of their mirror images.

    Parameters
    ----------
    rows : ndarray of float, shape (N, 2 D), or (N, D) with `flip="none"`
    flip : {"add", "concatenate", "none"}
    unit : bool
        Scale to length 1.

    Returns
    -------
    ndarray of float64, shape (N, D) or (N, 2 D)

    Raises
    ------
    InvalidArgumentError
        Another flip.
    """
    check_choice("flip", flip, get_args(Flip))
    table = np.asarray(rows, dtype=np.float64)
    if flip == "add":
        half = table.shape[1] // 2
        table = table[:, :half] + table[:, half:]
    return at_unit_length(table) if unit else table


def print_table(results: Sequence[Sequence[CropFigures]]) -> str:
    """Draw a table of sets side by side, a row for each model: accuracy in per cent, mean +- deviation over folds.

    Parameters
    ----------
    results : sequence of sequences of CropFigures
        By model, then by set.

    Returns
    -------
    str
    """
    header = ["model", *(found.name for found in results[0])]
    rows = [[row[0].experiment.model, *(_cell(found) for found in row)] for row in results]
    rates = [[f"  VAL@FAR {row[0].figures.far:g}", *(_rate(found) for found in row)] for row in results]
    spans = [["  95 % interval", *(_span(found) for found in row)] for row in results]
    areas = [["  AUC", *(f"{found.figures.auc:.5f}" for found in row)] for row in results]
    equals = [["  EER", *(f"{100 * found.figures.eer:.2f}" for found in row)] for row in results]
    lines = [header, *(line for group in zip(rows, spans, rates, areas, equals, strict=True) for line in group)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _sides(rows: FloatRows, numbers: NDArray[np.intp], flip: Flip) -> NDArray[np.float64]:
    parts = [
        combined(np.asarray(rows[numbers[start : start + _SCORED]]), flip) for start in range(0, len(numbers), _SCORED)
    ]
    return np.concatenate(parts)


def _cell(found: CropFigures) -> str:
    mean, deviation = found.figures.accuracy
    return f"{100 * mean:.2f}+-{100 * deviation:.2f}"


def _rate(found: CropFigures) -> str:
    mean, deviation, _ = found.figures.validation_rate
    return f"{100 * mean:.2f}+-{100 * deviation:.2f}"


def _span(found: CropFigures) -> str:
    low, high = found.experiment.variants[0].figures.accuracy.interval
    return "" if np.isnan(low) else f"{100 * low:.2f} to {100 * high:.2f}"
