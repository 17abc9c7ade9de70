"""Submissions to Trillion Pairs, from a list of images to a file of features."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np

from spherecv.align import FaceAligner
from spherecv.errors import DatasetError
from spherecv.evaluate.croprun import Flip, combined, embed_crops
from spherecv.evaluate.featurefiles import write_features
from spherecv.evaluate.ijbfiles import Landmarks
from spherecv.evaluate.ijbrun import MediaImages
from spherecv.evaluate.subject import Subject

_NUMBERS = 10


def read_listed(folder: str | os.PathLike[str], path: str | os.PathLike[str], subject: Subject) -> MediaImages:
    """Read a list of images, with landmarks or without.

    Parameters
    ----------
    folder : path
        Of the images.
    path : path
        A path a line, or a path and ten numbers, five `x y` in pixels, by which the faces are cut out.
    subject : Subject
        Whose recipe says how.

    Returns
    -------
    MediaImages

    Raises
    ------
    DatasetError
        The list cannot be read, holds nothing, or a line is not of the form of the first.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a list of images: {error}") from None
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise DatasetError(f"{path} names no images")
    width = len(rows[0][1])
    points = np.empty((len(rows), _NUMBERS))
    for place, (number, words) in enumerate(rows):
        if len(words) != width or width not in (1, 1 + _NUMBERS):
            raise DatasetError(f"{path}, line {number}: expected a path, or a path and ten numbers: {words}")
        try:
            points[place] = [float(word) for word in words[1:]] if width > 1 else 0.0
        except ValueError:
            raise DatasetError(f"{path}, line {number}: landmarks must be numbers: {words}") from None
    landmarks = Landmarks(points.reshape(-1, 5, 2), np.ones(len(rows))) if width > 1 else None
    recipe = subject.source.recipe
    aligner = FaceAligner(recipe.template, size=recipe.size, alignment=recipe.alignment, margin=recipe.margin)
    return MediaImages(folder, tuple(words[0] for _, words in rows), landmarks, aligner)


def write_submission(
    source: MediaImages,
    subject: Subject,
    out: str | os.PathLike[str],
    *,
    flip: str = "add",
    saved: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, str]:
    """Embed the images of a list and write their features.

    Parameters
    ----------
    source : MediaImages
    subject : Subject
    out : path
        See `write_features`.
    flip : {"add", "concatenate", "none"}
        As for `evaluate_crops`.
    saved, progress
        As for `evaluate_crops`.

    Returns
    -------
    dict of int to str
        Positions of the images that could not be used, and why; their features are zeros.

    Raises
    ------
    CalibrationError, DatasetError, StorageError
    """
    store, _ = embed_crops(source, subject, mirror=flip != "none", saved=saved, progress=progress)
    write_features(
        out, store.rows(), change=lambda block: np.nan_to_num(combined(np.asarray(block), cast(Flip, flip)))
    )
    return store.failures
