"""Assignment of detected faces to tracks, by overlap and embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spherecv.records import Face

_NEVER = 1e6


@dataclass(frozen=True)
class Rules:
    """When a face may belong to a track.

    Attributes
    ----------
    same : float
        Cosine distance to the track's template up to which a face is taken for the same person.
    overlap : float
        Intersection over union from which a face is taken for the track's where its embedding says nothing.
    doubts : int
        Detections in a row that may be taken for the track's by their place alone, although their embeddings say
        otherwise: blurred, turned and half hidden faces are far from their own.
    clear : float
        Quality, 0..1, from which only half as many may.
    reach : float
        How far somebody can get in a second, in widths of their face.
    """

    same: float = 0.7
    overlap: float = 0.3
    doubts: int = 4
    clear: float = 0.75
    reach: float = 8.0


class Expected(NamedTuple):
    """Where a track should be by now.

    Attributes
    ----------
    box : ndarray of float, shape (4,)
    template : ndarray of float32, shape (D,), or None
    unseen : float
        Seconds since its face was found.
    doubts : int
        Detections in a row that were taken for its own against their embeddings.
    """

    box: NDArray[np.floating]
    template: NDArray[np.float32] | None
    unseen: float
    doubts: int = 0


class Pair(NamedTuple):
    """A track and a face that belong together.

    Attributes
    ----------
    track, face : int
    sure : bool
        Whether the embedding says so too; the face of an unsure pair must not change the template.
    """

    track: int
    face: int
    sure: bool


def associate(
    tracks: Sequence[Expected], faces: Sequence[Face], embeddings: Sequence[NDArray[np.float32] | None], rules: Rules
) -> list[Pair]:
    """Give each face to at most one track, and each track at most one face, at the least total cost.

    The cost of a pair is 1 - overlap + cosine distance. A pair is possible where the embedding is near and the place
    within reach, or where the boxes overlap and the embedding cannot be relied on.

    Parameters
    ----------
    tracks : sequence of Expected
    faces : sequence of Face
    embeddings : sequence of ndarray of float32, shape (D,), or None
        One for each face; None where it was not embedded.
    rules : Rules

    Returns
    -------
    list of Pair
    """
    from scipy.optimize import linear_sum_assignment

    if not tracks or not faces:
        return []
    overlaps = box_overlaps(np.stack([track.box for track in tracks]), np.stack([face.box for face in faces]))
    costs = np.full(overlaps.shape, _NEVER)
    sure = np.zeros(overlaps.shape, bool)
    for row, track in enumerate(tracks):
        for column, (face, embedding) in enumerate(zip(faces, embeddings, strict=True)):
            overlap = float(overlaps[row, column])
            distance = None if track.template is None or embedding is None else _cosine(track.template, embedding)
            if distance is not None and distance <= rules.same:
                sure[row, column] = overlap >= rules.overlap or _within_reach(track, face, rules)
            patience = rules.doubts if face.quality is None or face.quality < rules.clear else rules.doubts // 2
            if sure[row, column] or (overlap >= rules.overlap and (distance is None or track.doubts < patience)):
                costs[row, column] = 1.0 - overlap + (rules.same if distance is None else distance)
    rows, columns = linear_sum_assignment(costs)
    return [
        Pair(int(row), int(column), bool(sure[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if costs[row, column] < _NEVER
    ]


def may_be_lost_one(track: Expected, face: Face, rules: Rules) -> bool:
    """Whether a face that is nobody's may be a lost track's: near enough, and too poor for its embedding to deny it.

    Somebody who comes out from behind somebody else is half hidden at first, and like nobody.
    """
    poor = face.quality is not None and face.quality < rules.clear
    return poor and track.unseen > 0 and track.doubts < rules.doubts and _within_reach(track, face, rules)


def box_overlaps(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every box of `a`, shape (N, 4), with every one of `b`, (M, 4): shape (N, M)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    sides = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - corner, 0, None)
    shared = sides.prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared))


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 - float(a @ b) / lengths if lengths > 0 else 1.0


def _within_reach(track: Expected, face: Face, rules: Rules) -> bool:
    width, height = float(track.box[2] - track.box[0]), float(track.box[3] - track.box[1])
    middle = np.array((track.box[0] + track.box[2], track.box[1] + track.box[3])) / 2
    growth = max(face.height / height, height / face.height)
    distance = float(np.hypot(*(np.array(face.center) - middle))) / max(width, face.width)
    return growth < 2.0 and distance <= 1.0 + rules.reach * track.unseen
