"""One template from several images, or a video, of one person."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.errors import (
    ImageError,
    InvalidArgumentError,
    NoFaceError,
    SeveralFacesError,
    SphereCVError,
)
from spherecv.images import (
    ImageSource,
    LabelledImage,
    find_images,
    load_labelled,
    load_or_error,
    shown_source,
)
from spherecv.metrics import Metric
from spherecv.pipeline import FacePipeline, WhichFace
from spherecv.records import EmbeddedFace, several_note, taken_text
from spherecv.templates import BEST, SetTemplate, unlike_text, unlike_the_rest
from spherecv.video.frames import open_frames
from spherecv.video.kinds import SetSource, is_set, is_video
from spherecv.video.tracker import FaceTracker
from spherecv.video.tracks import Frame

ENOUGH = 4 * BEST
"""Faces of one person after which no more of a clip is looked at: a template keeps the best quarter of them."""
_BATCH = 16
_MOST_PEOPLE = 16
"""People of a clip whose faces are held at a time."""


@dataclass(frozen=True, eq=False)
class EmbeddedSet:
    """A set or a clip, embedded.

    Attributes
    ----------
    face : EmbeddedFace
        The best face, where it is in `image`, its crop, and the template as its embedding.
    image : ndarray of uint8, shape (H, W, 3)
        The image or frame of the best face.
    faces : int
        Faces that the template was made of, or that were weighed for it.
    failures : tuple of SphereCVError
        Images that could not be read or show no face.
    kept : tuple of (str, ndarray of float32)
        The faces that the template stands on: what to call the image of each, and its embedding; of a set only.
    crowded : tuple of str
        Images of a set that show several faces, of which one was taken.
    label : str
        What to call it.
    """

    face: EmbeddedFace
    image: NDArray[np.uint8]
    faces: int
    failures: tuple[SphereCVError, ...] = ()
    kept: tuple[tuple[str, NDArray[np.float32]], ...] = ()
    crowded: tuple[str, ...] = ()
    label: str = "the set given"

    __repr__ = brief

    def crowding(self, which: WhichFace) -> tuple[str, ...]:
        """Say that images show several faces, of which `which` was taken."""
        images = self.faces + len(self.failures)
        if images == 1 or not self.crowded:
            return several_note(self.label, self.face.faces_found if images == 1 else None, which)
        return (f"{self.label}: {len(self.crowded)} of {images} images with several faces, {taken_text(which)} taken",)

    def doubts(self, usual: float | None, metric: Metric) -> tuple[str, ...]:
        """Say that faces are unlike the others: farther than `usual` from more than half of them."""
        if usual is None or not len(others := unlike_the_rest([row for _, row in self.kept], usual, metric=metric)):
            return ()
        return (unlike_text(self.label, [self.kept[place][0] for place in others], len(self.kept)),)


def embed_set(
    pipeline: FacePipeline,
    source: SetSource,
    *,
    face: WhichFace = "largest",
    best: int = BEST,
    metric: Metric = "cosine",
) -> EmbeddedSet:
    """Make one template of an image, of several, or of a clip.

    Parameters
    ----------
    pipeline : FacePipeline
    source : image, sequence of images, or path
        One image as for `load_image`; a list or tuple of them, a folder, or a list file (`.txt`); or a video file or an
        address. All images must show the same person.
    face : {"largest", "center", "only", "whole"}
        Which face of an image counts; with `"only"`, an image with several is left out, as one that cannot be read. Of
        a clip it is the person with most faces found, weighted by their quality; at most the first 64 faces of them are
        looked at.
    best : int
        Faces that the template stands on: those of the highest quality.
    metric : {"cosine", "euclidean"}
        What the template will be compared by.

    Returns
    -------
    EmbeddedSet

    Raises
    ------
    ImageError, VideoError
        Nothing can be read.
    NoFaceError
        No face is found in any image or frame.
    InvalidArgumentError
        An empty set, or `face="all"`.
    """
    if face == "all":
        raise InvalidArgumentError("face='all' gives several people: a template is of one")
    if is_video(source):
        return _from_clip(pipeline, source, best, metric)
    images: Sequence[ImageSource]
    if isinstance(source, list | tuple) and not isinstance(source, LabelledImage):
        images = source
    elif isinstance(source, str | os.PathLike) and is_set(source):
        images = find_images(source)
    else:
        images = [cast("ImageSource", source)]
    return replace(_from_images(pipeline, images, face, best, metric), label=_label(source, len(images)))


def _from_images(
    pipeline: FacePipeline, images: Sequence[ImageSource], face: WhichFace, best: int, metric: Metric
) -> EmbeddedSet:
    if not images:
        raise InvalidArgumentError("a set of images must hold at least one")
    template = SetTemplate(best=best, metric=metric)
    failures: list[SphereCVError] = []
    chosen: tuple[EmbeddedFace, LabelledImage] | None = None
    names: list[str] = []
    crowded: list[str] = []
    for start in range(0, len(images), _BATCH):
        loaded = [load_or_error(load_labelled, image) for image in images[start : start + _BATCH]]
        failures += [item for item in loaded if isinstance(item, SphereCVError)]
        readable = [item for item in loaded if not isinstance(item, SphereCVError)]
        for item, found in zip(readable, pipeline.run(readable, face=face, errors="return"), strict=True):
            if isinstance(found, SphereCVError):
                failures.append(found)
                continue
            template.add(found[0].embedding, found[0].face.quality, len(names))
            names.append(item.label)
            crowded += [item.label] if (found[0].faces_found or 0) > 1 else []
            if chosen is None or (found[0].face.quality or 0.0) > (chosen[0].face.quality or 0.0):
                chosen = found[0], item
    if chosen is None:
        raise failures[0] if len(images) == 1 else _all_failed(failures)
    shown = replace(chosen[0], embedding=template.vector)
    kept = tuple((names[one.frame], one.embedding) for one in template.kept)
    return EmbeddedSet(shown, chosen[1].image, template.seen, tuple(failures), kept, tuple(crowded))


def _label(source: SetSource, images: int) -> str:
    if isinstance(source, list | tuple) and not isinstance(source, LabelledImage):
        return shown_source(source[0]) if images == 1 else f"the {images} images given"
    return shown_source(source)


def _all_failed(failures: Sequence[SphereCVError]) -> SphereCVError:
    kinds = [type(error) for error in failures]
    kind = next((kind for kind in (NoFaceError, SeveralFacesError) if kind in kinds), ImageError)
    return kind(f"none of the {len(failures)} images of the set could be used; the first: {failures[0]}")


def _from_clip(pipeline: FacePipeline, source: object, best: int, metric: Metric) -> EmbeddedSet:
    frames = open_frames(source, drop=False)  # type: ignore[arg-type]
    tracker = FaceTracker(pipeline, best=best, metric=metric)
    weights: dict[int, float] = {}
    shown: dict[int, tuple[EmbeddedFace, Frame, int, NDArray[np.float32]]] = {}
    count = 0
    try:
        for count, frame in enumerate(frames, start=1):  # noqa: B007 - the number of frames, for the message
            for track in tracker.update(frame).tracks:
                if not track.detected or track.template is None or track.best is None:
                    continue
                weights[track.id] = weights.get(track.id, 0.0) + (track.face.quality or 0.0)
                before = shown.get(track.id)
                newer = before is None or before[0] is not track.best
                shown[track.id] = (track.best, frame if newer else before[1], track.faces, track.template)  # type: ignore[index]
            for light in sorted(shown, key=lambda number: weights[number])[:-_MOST_PEOPLE]:
                del shown[light], weights[light]
            if shown and max(held[2] for held in shown.values()) >= ENOUGH:
                break
    finally:
        frames.close()
    if not shown:
        raise NoFaceError(f"no face found in the {count:,} frames of {frames.label} by {pipeline.detector.name}")
    main = max(shown, key=lambda number: weights[number])
    embedded, frame, faces, template = shown[main]
    return EmbeddedSet(replace(embedded, embedding=template), frame.image, faces, label=frames.label)
