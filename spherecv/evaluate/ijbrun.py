"""IJB-B and IJB-C, from files to figures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from spherecv.align import FaceAligner
from spherecv.brief import brief
from spherecv.checks import check_choice
from spherecv.errors import DatasetError
from spherecv.evaluate.croprun import Flip, embed_crops
from spherecv.evaluate.ijbfiles import (
    Landmarks,
    positions_of,
    read_landmarks,
    read_media,
    read_subjects,
    read_template_pairs,
)
from spherecv.evaluate.paired import PairedShare, compare_shares
from spherecv.evaluate.subject import Subject
from spherecv.evaluate.templatesets import (
    SearchRates,
    TemplateRates,
    Templates,
    Weighing,
    pool_templates,
    search_rates,
    verification_rates,
)
from spherecv.images import load_image
from spherecv.records import Face

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class TemplateExperiment:
    """A model on IJB-B or IJB-C.

    Attributes
    ----------
    subject : dict
        `Subject.to_dict`, and how images were pooled.
    verification : TemplateRates or None
        Where pairs were given.
    searches : tuple of SearchRates
        One for each gallery.
    images, templates : int
        How many.
    failures : dict of str to str
        Images that could not be used, and why.
    empty : int
        Templates that have no other image.
    notes : tuple of str
    """

    subject: dict[str, Any]
    verification: TemplateRates | None
    searches: tuple[SearchRates, ...]
    images: int
    templates: int
    failures: dict[str, str]
    empty: int
    notes: tuple[str, ...]

    __repr__ = brief

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.subject["model"])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            **self.subject,
            "verification": None if self.verification is None else self.verification.to_dict(),
            "searches": [rates.to_dict() for rates in self.searches],
            "images": self.images,
            "failed_images": self.failures,
            "templates": self.templates,
            "templates_without_image": self.empty,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """Draw the figures as text."""
        lost = f"{len(self.failures):,} of which could not be used; {self.empty:,} templates without any"
        lines = [f"{self.model}: {self.templates:,} templates of {self.images:,} images, {lost}"]
        if self.verification is not None:
            counts = f"{self.verification.genuine:,} genuine and {self.verification.impostors:,} impostor pairs"
            lines += ["", f"1:1, {counts}:"]
            lines += [f"  TAR at FAR {far:g}: {figure}" for far, figure in self.verification.tar.items()]
        for rates in self.searches:
            counts = f"{rates.mated:,} searches with a mate and {rates.unmated:,} without"
            lines += ["", f"1:N, {rates.name}: {rates.gallery:,} templates, {counts}:"]
            lines += [f"  rank {rank}: {100 * share:.2f} %" for rank, share in rates.ranks.items()]
            lines += [
                f"  TPIR at FPIR {rate:g}: " + ("too few searches" if share is None else f"{100 * share:.2f} %")
                for rate, share in rates.tpir.items()
            ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


class MediaImages:
    """Images of a folder, cut out by given landmarks or taken as they are.

    Parameters
    ----------
    folder : path
    names : sequence of str
    landmarks : Landmarks, optional
    aligner : FaceAligner, optional
        Needed with landmarks.
    """

    def __init__(
        self,
        folder: AnyPath,
        names: Sequence[str],
        landmarks: Landmarks | None = None,
        aligner: FaceAligner | None = None,
    ) -> None:
        self.path = Path(folder)
        self._names = names
        self._points = None if landmarks is None else landmarks.points
        self._aligner = aligner

    def __len__(self) -> int:
        return len(self._names)

    def load(self, number: int) -> NDArray[np.uint8]:
        """Read one image, and cut the face out; raises `ImageError`."""
        image = load_image(self.path / self._names[number])
        if self._points is None or self._aligner is None:
            return image
        points = self._points[number]
        box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
        return np.asarray(self._aligner.align(image, [Face(box=box, landmarks=points.astype(np.float32))])[0])

    def stamp(self) -> dict[str, Any]:
        """The folder, and a hash of names and landmarks; the images' times of change are not looked at."""
        digest = hashlib.sha256("\n".join(self._names).encode())
        if self._points is not None:
            digest.update(np.ascontiguousarray(self._points).tobytes())
        return {"set": str(self.path.resolve()), "images": digest.hexdigest()}


@dataclass(frozen=True)
class IjbFiles:
    """The files of IJB-B or IJB-C.

    Attributes
    ----------
    media : path
        Which image belongs to which template and medium; see `read_media`.
    pairs : path, optional
        Of the 1:1 protocol; see `read_template_pairs`.
    galleries : sequence of path
        Of the 1:N protocol, each measured by itself; see `read_subjects`.
    probes : path, optional
        Needed with galleries.
    landmarks : path, optional
        See `read_landmarks`: the faces are cut out by them as the recipe says. Without it the images are ready crops.
    """

    media: AnyPath
    pairs: AnyPath | None = None
    galleries: Sequence[AnyPath] = ()
    probes: AnyPath | None = None
    landmarks: AnyPath | None = None


def evaluate_ijb(
    folder: AnyPath,
    files: IjbFiles,
    subject: Subject,
    *,
    flip: Flip = "add",
    weighing: Weighing = "length",
    detector_scores: bool = True,
    saved: Callable[[dict[str, Any]], str] | None = None,
    replicates: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> TemplateExperiment:
    """Run IJB-B's or IJB-C's protocols.

    Parameters
    ----------
    folder : path
        Of the images.
    files : IjbFiles
    subject : Subject
    flip, weighing
        As for `pool_templates`.
    detector_scores : bool
        Weigh images by the scores beside the landmarks, where there are any.
    saved : callable, optional
        Where to keep embeddings, given what `MediaImages.stamp` says; an interrupted run resumes from there.
    replicates : int
        Of the bootstrap over people.
    progress : callable, optional
        Called with the number of images done and in all.

    Returns
    -------
    TemplateExperiment

    Raises
    ------
    DatasetError, NotEnoughDataError, CalibrationError
        Files that are not what they should be, too few pairs, or saved rows of something else.
    """
    check_choice("flip", flip, get_args(Flip))
    check_choice("weighing", weighing, get_args(Weighing))
    pairs, probes, landmarks = files.pairs, files.probes, files.landmarks
    if bool(files.galleries) != (probes is not None):
        raise DatasetError("galleries and probes go together: give both, or neither")
    listed = read_media(files.media)
    numbers = np.unique(listed.templates)
    wanted = None if pairs is None else read_template_pairs(pairs, numbers)
    tables = [(Path(path).stem, *read_subjects(path)) for path in files.galleries]
    searches = None if probes is None else read_subjects(probes)
    for name, templates, _ in [*tables, *([("probes", *searches)] if searches is not None else [])]:
        positions_of(templates, numbers, name)
    recipe = subject.source.recipe
    points = None if landmarks is None else read_landmarks(landmarks, listed.names)
    aligner = FaceAligner(recipe.template, size=recipe.size, alignment=recipe.alignment, margin=recipe.margin)
    source = MediaImages(folder, listed.names, points, aligner)
    where = None if saved is None else saved(source.stamp())
    store, changes = embed_crops(source, subject, mirror=flip != "none", saved=where, progress=progress)
    pooled = pool_templates(
        store.rows(),
        listed.templates,
        listed.media,
        flip=flip,
        weighing=weighing,
        scores=points.scores if points is not None and detector_scores else None,
    )
    rates = None
    if wanted is not None:
        rates = verification_rates(pooled, wanted.first, wanted.second, wanted.same, replicates=replicates)
    weighed = "detector's score" if points is not None and detector_scores else "nothing else"
    how = {"flip": flip, "weighing": weighing, "weighed_by": weighed, "aligned": landmarks is not None}
    return TemplateExperiment(
        subject={**subject.to_dict(), **how},
        verification=rates,
        searches=tuple(_searched(pooled, table, searches) for table in tables) if searches is not None else (),
        images=len(listed),
        templates=len(numbers),
        failures={listed.names[number]: why for number, why in store.failures.items()},
        empty=int(np.count_nonzero(pooled.empty)),
        notes=_notes(rates, store.failures, pooled, dict(changes)),
    )


def compare_templates_of(
    experiments: Sequence[TemplateExperiment], *, replicates: int = 1000
) -> tuple[PairedShare, ...]:
    """Compare each two models on the same genuine pairs, at every false accept rate.

    Parameters
    ----------
    experiments : sequence of TemplateExperiment
        On the same files.
    replicates : int

    Returns
    -------
    tuple of PairedShare
    """
    found: list[PairedShare] = []
    for a, b in combinations(experiments, 2):
        if a.verification is None or b.verification is None:
            continue
        one, two = a.verification, b.verification
        found += [
            compare_shares(
                one.accepted[far],
                two.accepted[far],
                one.owners,
                what=f"TAR at FAR {far:g}",
                names=(a.model, b.model),
                replicates=replicates,
            )
            for far in one.accepted
        ]
    return tuple(found)


def _searched(
    pooled: Templates,
    table: tuple[str, NDArray[np.int64], NDArray[np.int64]],
    probes: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> SearchRates:
    name, templates, subjects = table
    mine, theirs = (positions_of(numbers, pooled.numbers, name) for numbers in (templates, probes[0]))
    return search_rates(
        pooled.embeddings[mine],
        subjects,
        pooled.embeddings[theirs],
        probes[1],
        gallery_empty=pooled.empty[mine],
        probes_empty=pooled.empty[theirs],
        name=name,
    )


def _notes(
    rates: TemplateRates | None, failures: dict[int, str], pooled: Templates, changes: dict[str, int]
) -> tuple[str, ...]:
    notes = [f"{count} images: {what}" for what, count in sorted(changes.items())]
    if failures:
        notes.append(f"{len(failures)} images could not be used and are left out of their templates")
    if pooled.empty.any():
        count = np.count_nonzero(pooled.empty)
        notes.append(f"{count} templates have no image: their pairs and searches count as misses")
    if rates is not None and rates.unsupported:
        few = ", ".join(f"{far:g}" for far in rates.unsupported)
        notes.append(f"FAR {few}: rests on fewer than 30 false accepts")
    return tuple(notes)
