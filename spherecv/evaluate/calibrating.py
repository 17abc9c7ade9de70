"""A calibration from a list of pairs or a labelled folder: embeds, measures, and binds the result to the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spherecv import __version__
from spherecv.brief import brief
from spherecv.checks import check_choice
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.allpairs import compare_all
from spherecv.evaluate.calibration import Measured, calibrate_all, calibrate_pairs
from spherecv.evaluate.collection import ImageEmbeddings, embed_images
from spherecv.evaluate.curves import FAR_TARGETS
from spherecv.evaluate.embedded import sides_of, usable_pairs
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.pairs import PairList, find_pairs, folder_pairs
from spherecv.evaluate.run import AnyPath, SavedAt, keep_nothing
from spherecv.evaluate.subject import Subject
from spherecv.metrics import Metric, distance
from spherecv.thresholds import Calibration
from spherecv.zoo import Learnt, ModelSource


@dataclass(frozen=True)
class Choice:
    """What a calibration shall hold.

    Attributes
    ----------
    rule : str or float
        What the default threshold is chosen for: a false accept rate, or `"best accuracy"`, `"EER"`,
        `"information gain"`.
    rates : tuple of float
        Further rates that must be there.
    impostors : {"listed", "all"}
        Whether a list's own impostor pairs count, or every pair of different people on its images.
    metric : {"cosine", "euclidean"}
    replicates : int
        Of the bootstrap.
    """

    rule: str | float = "best accuracy"
    rates: tuple[float, ...] = ()
    impostors: str = "listed"
    metric: Metric = "cosine"
    replicates: int = 1000

    __repr__ = brief


def calibrate_subject(
    pairs: AnyPath,
    subject: Subject,
    choice: Choice,
    *,
    images: AnyPath | None = None,
    saved: SavedAt = keep_nothing,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure thresholds and a probability, and say what for: the first of what `measure_subject` returns."""
    return measure_subject(pairs, subject, choice, images=images, saved=saved, progress=progress)[0]


def measure_subject(
    pairs: AnyPath,
    subject: Subject,
    choice: Choice,
    *,
    images: AnyPath | None = None,
    saved: SavedAt = keep_nothing,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Calibration, Measured]:
    """Measure thresholds and a probability, and say what for.

    Parameters
    ----------
    pairs : path
        A list of pairs, or an `identity/image` folder, of which all pairs count.
    subject : Subject
    choice : Choice
    images : path, optional
        Folder of the list's images; by default the list's own.
    saved, progress
        As for `evaluate_lfw`.

    Returns
    -------
    Calibration
    Measured
        What it was made of, the distances among it, as for a plot.

    Raises
    ------
    NotEnoughDataError
        A rate rests on too few false accepts, or a kind of pair is missing.
    DatasetError, CalibrationError
        As for `evaluate_pairs`.
    InvalidArgumentError
        All pairs of embeddings that are not of unit length by another metric than cosine, or an unknown choice.
    """
    check_choice("impostors", choice.impostors, ("listed", "all"))
    if choice.replicates < 1:
        raise InvalidArgumentError("a calibration states intervals: the bootstrap needs at least one replicate")
    source = Path(pairs)
    listed = None if source.is_dir() else read_pairs(source)
    every = listed is None or choice.impostors == "all"
    if every and choice.metric != "cosine" and not subject.source.recipe.normalize:
        raise InvalidArgumentError(
            "without unit length (the recipe's normalize), all pairs are compared by cosine only: list the pairs for "
            "another metric"
        )
    folder = source if listed is None else Path(images) if images is not None else source.parent
    if listed is None:
        names, identities, _ = folder_pairs(folder)
    else:
        listed = find_pairs(listed, folder)
        names, identities = listed.images, listed.identities
    recipe = subject.source.recipe
    found = embed_images(folder, names, subject, saved=saved(folder, recipe.mirror), progress=progress)
    if every:
        measured = _all(found, names, identities, subject, choice)
    elif listed is not None:
        measured = _listed(found, listed, subject, choice)
    lost = [name for name in names if name in found.failures]
    failed = len(lost)
    notes = list(measured.notes if listed is None else (*listed.notes, *measured.notes))
    if failed:
        first = "; ".join(f"{name}: {found.failures[name]}" for name in lost[:3]) + "; ..." * (failed > 3)
        notes.append(
            f"{failed} of {len(names)} images could not be used, and the pairs that need them are left out ({first})"
        )
    notes += _learnt(subject.source, [folder / name for name in names])
    calibration = Calibration(
        model=subject.source.name,
        model_key=subject.source.key,
        recipe=recipe,
        metric=choice.metric,
        detector=subject.detector,
        face=subject.face,
        no_face=subject.no_face,
        dataset=source.name,
        impostor_pairs_from="all pairs of different people" if every else "listed pairs",
        genuine=measured.genuine,
        impostors=measured.impostors,
        identities=measured.identities,
        images=len(names) - failed,
        failed=failed,
        thresholds=measured.thresholds,
        probability=measured.probability,
        notes=tuple(notes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )
    return calibration, measured


def _learnt(source: ModelSource, images: list[Path]) -> list[str]:
    """Say where images were learnt by the weights, which tell these apart better than others."""
    learnt = Learnt.beside(list(source.files.values())[-1])
    count = 0 if learnt is None else learnt.count(images)
    if not count:
        return []
    warning = (
        f"WARNING: {source.name} was tuned on {count} of the {len(images)} images, which it tells apart better than "
        "people it has not seen: thresholds and rates are too good to be true; calibrate on other people"
    )
    return [warning]


def _listed(found: ImageEmbeddings, listed: PairList, subject: Subject, choice: Choice) -> Measured:
    used, _ = usable_pairs(listed, found)
    left, right = sides_of(used, found, found.by(subject.source.recipe))
    return calibrate_pairs(
        distance(left, right, choice.metric),
        used.same,
        used.people,
        choose=choice.rule,
        rates=choice.rates,
        replicates=choice.replicates,
    )


def _all(
    found: ImageEmbeddings, names: tuple[str, ...], identities: NDArray[np.intp], subject: Subject, choice: Choice
) -> Measured:
    kept = [i for i, name in enumerate(names) if name not in found.failures]
    if len(kept) < 2:
        raise NotEnoughDataError("fewer than two images could be used")
    rows = found.by(subject.source.recipe)[found.rows([names[i] for i in kept])]
    people = identities[kept]
    asked = [far for far in (choice.rule, *choice.rates) if isinstance(far, float)]
    compared = compare_all(rows, people, rates=sorted({*asked, *FAR_TARGETS}), replicates=choice.replicates)
    return calibrate_all(
        compared,
        np.unique(people, return_counts=True)[1],
        metric=choice.metric,
        choose=choice.rule,
        rates=choice.rates,
        replicates=choice.replicates,
    )
