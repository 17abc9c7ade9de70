"""Whole protocols, from folders to figures: what the command line and the notebooks call."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from spherecv.errors import DatasetError
from spherecv.evaluate.collection import ImageEmbeddings, embed_images
from spherecv.evaluate.embedded import require_pairs, sides_of, usable_pairs
from spherecv.evaluate.experiment import Experiment, Variant, make_variant
from spherecv.evaluate.folds import FoldTable, evaluate_folds, evaluate_split, fold_distances
from spherecv.evaluate.groups import GroupRates, false_match_rates, read_groups
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.pairs import PairList, find_pairs
from spherecv.evaluate.subject import Subject
from spherecv.evaluate.ytf import Pooling, frames_of, make_templates, read_splits, read_videos
from spherecv.metrics import Metric, distance

AnyPath = str | os.PathLike[str]
Progress = Callable[[int, int], None]
SavedAt = Callable[[AnyPath, bool], AnyPath | None]
"""Where embeddings of a folder are kept, given whether they are mirrored; None keeps nothing."""

_REFINED = "authors' evaluation"
_PLAIN = "plain: no mirror, no mean, best threshold"


def keep_nothing(_folder: AnyPath, _mirror: bool) -> None:
    """Keep no embeddings: a `SavedAt`."""
    return


def evaluate_lfw(
    images: AnyPath,
    pairs: AnyPath,
    subject: Subject,
    *,
    training_pairs: AnyPath | None = None,
    saved: SavedAt = keep_nothing,
    replicates: int = 1000,
    progress: Progress | None = None,
) -> Experiment:
    """Run LFW view 2, or view 1 where the list has no folds, both as the SphereFace authors evaluate and plainly.

    Parameters
    ----------
    images : path
        Images, or aligned crops, as `Name/Name_0001.jpg`, of any suffix.
    pairs : path
        `pairs.txt` (view 2), or `pairsDevTest.txt` (view 1).
    subject : Subject
        The model and its stages.
    training_pairs : path, optional
        `pairsDevTrain.txt`: chooses mean and threshold in view 1. Without it the best threshold of the tested pairs is
        taken, which is optimistic, and says so.
    saved : callable
        Where to keep embeddings.
    replicates : int
        Of the bootstrap over identities.
    progress : callable, optional
        Called with the number of images done and in all.

    Returns
    -------
    Experiment

    Raises
    ------
    DatasetError, NotEnoughDataError, CalibrationError
        The lists or images are not what they should be; see `read_pairs`, `find_pairs`, `embed_images`.
    """
    tested = find_pairs(read_pairs(pairs), images)
    view2 = bool(tested.folds.any())
    training = None if training_pairs is None or view2 else find_pairs(read_pairs(training_pairs), images)
    names = dict.fromkeys([*tested.images, *(training.images if training is not None else ())])
    found = embed_images(
        images, list(names), subject, mirror=True, saved=saved(images, True), progress=progress
    )
    used, left_out = usable_pairs(tested, found)
    notes = list(used.notes)
    variants = []
    for name, refined in ((_REFINED, True), (_PLAIN, False)):
        recipe = replace(subject.source.recipe, mirror=refined, normalize=False)
        rows = found.by(recipe)
        left, right = sides_of(used, found, rows)
        table: FoldTable | None = None
        if view2:
            table = evaluate_folds(
                left, right, used.same, used.folds, subtract_mean=refined, authors_threshold=refined
            )
            where = "threshold of the other folds"
        elif training is not None:
            chosen, _ = usable_pairs(training, found)
            table = evaluate_split(
                (*sides_of(chosen, found, rows), chosen.same),
                (left, right, used.same),
                subtract_mean=refined,
                authors_threshold=refined,
            )
            where = f"threshold of {Path(training.source).name}"
        else:
            where = ""
        distances = table.distances if table is not None else distance(left, right)
        variants.append(
            make_variant(name, used, distances, table=table, threshold_from=where, replicates=replicates)
        )
        notes += [note for note in (table.notes if table is not None else ()) if note not in notes]
    if not view2 and training is None:
        notes.append("no training pairs: the threshold is the best of the tested pairs, and no mean was subtracted")
    return _experiment(
        f"LFW view {2 if view2 else 1}", subject, used, images, tuple(variants), found, tested, left_out, notes
    )


def evaluate_pairs(
    images: AnyPath,
    pairs: AnyPath,
    subject: Subject,
    *,
    metric: Metric = "cosine",
    threshold: float | None = None,
    threshold_from: str = "threshold given",
    saved: SavedAt = keep_nothing,
    replicates: int = 1000,
    progress: Progress | None = None,
) -> Experiment:
    """Compare the pairs of any list, by the model's own recipe, as `FaceVerifier` does.

    Parameters
    ----------
    images : path
        The folder that the list's paths are relative to.
    pairs : path
        Of any form that `read_pairs` reads.
    subject : Subject
    metric : {"cosine", "euclidean"}
    threshold : float, optional
        The largest distance accepted. By default the other folds choose it where the list has folds, and otherwise it
        is the best of these very pairs, which is optimistic, and says so.
    threshold_from : str
        Where the threshold comes from, in words.
    saved, replicates, progress
        As for `evaluate_lfw`.

    Returns
    -------
    Experiment

    Raises
    ------
    DatasetError, NotEnoughDataError, CalibrationError
        As for `evaluate_lfw`.
    """
    tested = find_pairs(read_pairs(pairs), images)
    recipe = subject.source.recipe
    found = embed_images(images, tested.images, subject, saved=saved(images, recipe.mirror), progress=progress)
    used, left_out = usable_pairs(tested, found)
    rows = found.by(recipe)
    left, right = sides_of(used, found, rows)
    distances = distance(left, right, metric)
    table = None
    if threshold is None and len(np.unique(used.folds)) > 1:
        table = fold_distances(distances, used.same, used.folds)
        threshold_from = "threshold of the other folds"
    variant = make_variant(
        f"{metric} distance",
        used,
        distances,
        table=table,
        threshold=threshold,
        threshold_from=threshold_from,
        replicates=replicates,
    )
    notes = [*used.notes, *(table.notes if table is not None else ())]
    return _experiment("pairs", subject, used, images, (variant,), found, tested, left_out, notes)


def evaluate_ytf(
    images: AnyPath,
    splits: AnyPath,
    subject: Subject,
    *,
    corrections: AnyPath | None = None,
    faulty: AnyPath | None = None,
    frames: int | None = None,
    pooling: Pooling = "mean",
    saved: SavedAt = keep_nothing,
    replicates: int = 1000,
    progress: Progress | None = None,
) -> Experiment:
    """Run YouTube Faces: 10 splits of video pairs, a template for each video from its frames.

    Parameters
    ----------
    images : path
        Frames, as `PERSON/NUMBER/FRAME`.
    splits : path
        `splits.txt`.
    subject : Subject
    corrections : path, optional
        Known label errors; see `read_splits`.
    faulty : path, optional
        Names of videos known to be faulty, `PERSON/NUMBER` a line: the same figures without their pairs stand beside.
    frames : int, optional
        Frames taken of each video, evenly spread; by default all.
    pooling : {"mean", "quality"}
        See `make_templates`.
    saved, replicates, progress
        As for `evaluate_lfw`.

    Returns
    -------
    Experiment

    Raises
    ------
    DatasetError, NotEnoughDataError, CalibrationError
        As for `evaluate_lfw`.
    """
    tested = read_splits(splits, corrections=corrections)
    videos = frames_of(tested, images, limit=frames)
    names = [name for video in videos.values() for name in video]
    found = embed_images(images, names, subject, mirror=True, saved=saved(images, True), progress=progress)
    position = {name: i for i, name in enumerate(found.names)}
    rows = {video: [position[name] for name in of if name in position] for video, of in videos.items()}
    variants: list[Variant] = []
    corrected: list[Variant] = []
    bad = () if faulty is None else read_videos(faulty, tested)
    notes = list(tested.notes)
    used, left_out = tested, 0
    for name, refined in ((f"{_REFINED}, {pooling} of frames", True), (f"{_PLAIN}, {pooling} of frames", False)):
        table = found.by(replace(subject.source.recipe, mirror=refined, normalize=False))
        templates, empty = make_templates(table, found.qualities, rows, pooling=pooling)
        used = tested.without(empty)
        left_out = len(tested) - len(used)
        require_pairs(used)
        kinds = [(name, used, variants)]
        if faulty is not None:
            title = f"{name}; without {len(bad)} faulty videos, {len(used) - len(used.without(bad))} pairs"
            kinds.append((title, used.without(bad), corrected))
        for title, pairs, goal in kinds:
            left, right = (
                np.stack([templates[pairs.images[i]] for i in side]) for side in (pairs.first, pairs.second)
            )
            folds = evaluate_folds(
                left, right, pairs.same, pairs.folds, subtract_mean=refined, authors_threshold=refined
            )
            where = "threshold of the other folds"
            goal.append(
                make_variant(title, pairs, folds.distances, table=folds, threshold_from=where, replicates=replicates)
            )
            notes += [note for note in folds.notes if note not in notes]
    both = (*variants, *corrected)
    return _experiment("YouTube Faces", subject, used, images, both, found, tested, left_out, notes, videos)


def evaluate_groups(
    images: AnyPath,
    table: AnyPath,
    subject: Subject,
    threshold: float,
    *,
    columns: tuple[str, ...] = (),
    saved: SavedAt = keep_nothing,
    progress: Progress | None = None,
) -> tuple[GroupRates, ...]:
    """Measure false match rates by group on a folder of people, each of whom is there once.

    Parameters
    ----------
    images : path
    table : path
        See `read_groups`. Rows whose image is not in the folder are passed over.
    subject : Subject
    threshold : float
        The largest cosine distance accepted.
    columns : tuple of str
        The columns to group by.
    saved, progress
        As for `evaluate_lfw`.

    Returns
    -------
    tuple of GroupRates
        One for each column.

    Raises
    ------
    DatasetError, NotEnoughDataError, CalibrationError
    """
    files, groups = read_groups(table, columns)
    here = {path.name: path.relative_to(images).as_posix() for path in Path(images).rglob("*") if path.is_file()}
    there = {name: here.get(Path(name).name, "") for name in files}
    names = [name for name in there.values() if name]
    if not names:
        raise DatasetError(f"no image of {table} is in {images}")
    recipe = subject.source.recipe
    found = embed_images(images, names, subject, saved=saved(images, recipe.mirror), progress=progress)
    usable = set(found.names)
    kept = [i for i, name in enumerate(files) if there[name] in usable]
    rows = found.by(recipe)[found.rows([there[files[i]] for i in kept])]
    results = []
    for column, values in groups.items():
        told = [place for place, i in enumerate(kept) if values[i]]  # an empty cell tells no group
        chosen = [values[kept[place]] for place in told]
        if len(set(chosen)) > 1 or (chosen and column in columns):
            results.append(false_match_rates(rows[told], chosen, threshold, column=column))
    return tuple(results)


def _experiment(
    protocol: str,
    subject: Subject,
    used: PairList,
    images: AnyPath,
    variants: tuple[Variant, ...],
    found: ImageEmbeddings,
    tested: PairList,
    left_out: int,
    notes: list[str],
    videos: dict[str, list[str]] | None = None,
) -> Experiment:
    needed = {name for of in videos.values() for name in of} if videos is not None else set(tested.images)
    failures = {name: why for name, why in found.failures.items() if name in needed}
    centred = sum(1 for name, flag in zip(found.names, found.centred, strict=True) if flag and name in needed)
    if failures:
        notes = [*notes, f"{len(failures)} images could not be used; {left_out} pairs need them and are left out"]
    if centred:
        notes = [*notes, f"{centred} images have no face that was found; their middle was taken"]
    return Experiment(
        protocol, subject.to_dict(), used, Path(images), variants, failures, left_out, centred, (), tuple(notes)
    )
