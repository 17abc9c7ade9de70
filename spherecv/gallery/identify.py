"""Identification: stored faces near a probe, grouped by person, as a `Match`."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from spherecv.gallery.rows import Hit, Vector
from spherecv.gallery.store import Store
from spherecv.metrics import Metric, similarity
from spherecv.records import Candidate, EmbeddedFace, Match
from spherecv.thresholds import Threshold

Template = Literal["best", "mean"]
_FIRST_LOOK = 4


def nearest_people(store: Store, probes: Vector, count: int, metric: Metric, template: Template) -> list[list[Hit]]:
    """Find the people nearest to each probe.

    Parameters
    ----------
    store : Store
    probes : ndarray of float32, shape (P, D)
    count : int
        How many people for each.
    metric : {"cosine", "euclidean"}
    template : {"best", "mean"}
        A person is as near as the nearest of their images, or as the quality-weighted mean of them.

    Returns
    -------
    list of list of Hit
        For each probe at most `count` hits of different owners, the nearest first.
    """
    if template == "mean":
        return store.nearest_templates(probes, count, metric)
    answers: list[list[Hit]] = [[] for _ in probes]
    pending = np.arange(len(probes))
    look = count * _FIRST_LOOK
    while len(pending):
        # A person with many images crowds the others out of the nearest faces: look further until enough are found.
        found = store.nearest(probes[pending], look, metric, "known")
        again = []
        for position, hits in zip(pending, found, strict=True):
            answers[position] = _first_of_each(hits)[:count]
            if len(answers[position]) < count and len(hits) == look:
                again.append(position)
        pending = np.array(again, np.intp)
        look *= 4
    return answers


def _first_of_each(hits: Sequence[Hit]) -> list[Hit]:
    seen: dict[Hashable, Hit] = {}
    for hit in hits:
        seen.setdefault(hit.owner, hit)
    return list(seen.values())


def as_match(
    store: Store,
    hits: Sequence[Hit],
    probe: EmbeddedFace | None,
    threshold: Threshold,
    metric: Metric,
    *,
    people: int | None = None,
) -> Match:
    """Make the answer for one face.

    Parameters
    ----------
    store : Store
    hits : sequence of Hit
        The nearest first.
    probe : EmbeddedFace or None
        In the probe image.
    threshold : Threshold
    metric : {"cosine", "euclidean"}
    people : int, optional
        How many people it was compared with; None where the hits are images of unknown people: then nobody is named.
    """
    candidates = tuple(_candidates(store, hits, metric))
    near = candidates and candidates[0].distance <= threshold.value and people is not None
    return Match(
        identity=candidates[0].identity if near else None,
        candidates=candidates,
        threshold=threshold.value,
        metric=metric,
        face=None if probe is None else probe.face,
        far=threshold.rate,
        threshold_source=threshold.source,
        people=people,
        faces_found=None if probe is None else probe.faces_found,
    )


def _candidates(store: Store, hits: Sequence[Hit], metric: Metric) -> list[Candidate]:
    if not hits:
        return []
    values = similarity([hit.distance for hit in hits], metric)
    means = hits[0].face < 0
    found = store.describe_people([hit.owner for hit in hits]) if means else store.describe([hit.face for hit in hits])
    return [
        Candidate(face.identity, hit.distance, float(value), face.path or None, face.box, face.metadata)
        for hit, value, face in zip(hits, values, found, strict=True)
        if face is not None  # else another process removed it after the search: forgotten is forgotten
    ]
