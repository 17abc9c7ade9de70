"""One experiment: a model on a list of pairs, with all that a report shows and another person needs to repeat it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spherecv.brief import brief
from spherecv.evaluate.curves import FloatArray
from spherecv.evaluate.figures import VerificationFigures, verification_figures
from spherecv.evaluate.folds import FoldTable
from spherecv.evaluate.groups import GroupRates
from spherecv.evaluate.pairs import PairList


@dataclass(frozen=True, eq=False)
class Variant:
    """One way of comparing the same embeddings.

    Attributes
    ----------
    name : str
    table : FoldTable or None
        Accuracy by folds; None where the pairs have none.
    distances : ndarray of float64, shape (N,)
    thresholds : float or ndarray of float64, shape (N,)
        The largest distance accepted, chosen on other pairs where there are any.
    figures : VerificationFigures
    """

    name: str
    table: FoldTable | None
    distances: FloatArray
    thresholds: float | FloatArray
    figures: VerificationFigures

    __repr__ = brief

    @property
    def threshold(self) -> float:
        """The one threshold, or the mean of the folds'."""
        return float(np.mean(self.thresholds))

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            "name": self.name,
            "threshold": self.threshold,
            "folds": None if self.table is None else self.table.to_dict(),
            **self.figures.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Experiment:
    """A model on a list of pairs.

    Attributes
    ----------
    protocol : str
        `"LFW view 2"`, ...
    subject : dict
        Model, hashes, recipe, detector, face, policy: `Subject.to_dict`.
    pairs : PairList
        Those that were compared.
    folder : Path
        Of the images.
    variants : tuple of Variant
        The first is the one that counts.
    failures : dict of str to str
        Images that could not be used, and why.
    left_out : int
        Pairs that needed one of them.
    centred : int
        Images whose middle was taken for want of a face.
    groups : tuple of GroupRates
    notes : tuple of str
    """

    protocol: str
    subject: dict[str, Any]
    pairs: PairList
    folder: Path
    variants: tuple[Variant, ...]
    failures: dict[str, str]
    left_out: int
    centred: int
    groups: tuple[GroupRates, ...] = ()
    notes: tuple[str, ...] = field(default=())

    __repr__ = brief

    @property
    def model(self) -> str:
        """Name of the model, and of the recipe where it goes by another."""
        model, recipe = str(self.subject["model"]), str(self.subject["recipe"]["name"])
        return model if recipe == model else f"{model} ({recipe})"

    def to_dict(self) -> dict[str, Any]:
        """The experiment as plain Python values, ready for JSON."""
        return {
            "protocol": self.protocol,
            **self.subject,
            "images": str(self.folder),
            "pairs": self.pairs.source,
            "compared": len(self.pairs),
            "left_out": self.left_out,
            "failed_images": self.failures,
            "centre_crops": self.centred,
            "variants": [variant.to_dict() for variant in self.variants],
            "groups": [rates.to_dict() for rates in self.groups],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """Draw the figures as text."""
        lines = [f"{self.protocol}: {self.model}, {self._stages()}"]
        failed = f"{self.left_out} left out, {len(self.failures)} images failed"
        lines.append(f"{len(self.pairs):,} pairs compared, {failed}")
        for variant in self.variants:
            lines += ["", f"{variant.name}:"]
            if variant.table is not None and len(variant.table.folds) > 1:
                lines += [str(variant.table)]
            lines += [f"  {name}: {value}" for name, value in variant.figures.rows()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _stages(self) -> str:
        return f"detector {self.subject['detector']}, face {self.subject['face']}, no face: {self.subject['no_face']}"


def make_variant(
    name: str,
    pairs: PairList,
    distances: FloatArray,
    *,
    table: FoldTable | None = None,
    threshold: float | None = None,
    threshold_from: str = "",
    replicates: int = 1000,
) -> Variant:
    """Measure the figures of one way of comparing.

    Parameters
    ----------
    name : str
    pairs : PairList
    distances : ndarray of float64, shape (N,)
    table : FoldTable, optional
        Gives the thresholds; otherwise `threshold`, otherwise the best of these very pairs.
    threshold : float, optional
    threshold_from : str
        Where the threshold comes from, in words.
    replicates : int
        Of the bootstrap; 0 leaves the intervals out.

    Returns
    -------
    Variant
    """
    used = table.pair_thresholds if table is not None else threshold
    figures = verification_figures(
        distances, pairs.same, pairs.people, threshold=used, threshold_from=threshold_from, replicates=replicates
    )
    if used is None:
        used = figures.accuracy.threshold
    return Variant(name, table, distances, 0.0 if used is None else used, figures)
