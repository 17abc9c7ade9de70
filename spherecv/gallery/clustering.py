"""Clustering of unlabelled faces: dense neighbourhoods within a measured distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.checks import check_count
from spherecv.errors import InvalidArgumentError
from spherecv.gallery.exact import within
from spherecv.gallery.matrix import Matrix
from spherecv.metrics import Metric

_MOST_LINKS = 50_000_000
"""Pairs within the distance that are kept, 800 MB: more means a distance at which nearly everybody is one person."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Faces grouped into people.

    Attributes
    ----------
    labels : ndarray of int64, shape (N,)
        The group of each face, from 0, the largest group first; -1 for a face alone.
    faces : tuple of (str, tuple or None)
        Of each face: the image, and the box in it where known.
    distance : float
        Faces at most so far apart are neighbours.
    min_faces : int
        Neighbours, itself counted, that make a face the core of a group.
    measured : str
        How well the distance groups people, in words, where it is the model's own or of a rate; empty where the caller
        gave it.
    precision, recall, f1 : float or None
        Where labels were given: of all pairs of faces in one group, the share that is of one person; of all pairs of
        one person, the share that is in one group; and their harmonic mean.
    """

    labels: NDArray[np.int64]
    faces: tuple[tuple[str, tuple[float, float, float, float] | None], ...]
    distance: float
    min_faces: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    measured: str = ""

    __repr__ = brief

    @property
    def groups(self) -> list[list[int]]:
        """Numbers of the faces of each group, the largest group first; faces alone are in none."""
        order = np.argsort(self.labels, kind="stable")
        order = order[self.labels[order] >= 0]
        borders = np.flatnonzero(np.diff(self.labels[order])) + 1
        return [part.tolist() for part in np.split(order, borders) if len(part)]

    def to_dict(self) -> dict[str, Any]:
        """The groups as plain Python values, ready for JSON."""
        scores = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {
            "people": [[_face(*self.faces[number]) for number in group] for group in self.groups],
            "alone": [_face(*self.faces[number]) for number in np.flatnonzero(self.labels < 0)],
            "distance": self.distance,
            "min_faces": self.min_faces,
            "measured": self.measured,
            **{name: value for name, value in scores.items() if value is not None},
        }


def _face(image: str, box: tuple[float, ...] | None) -> dict[str, Any]:
    return {"image": image, "box": None if box is None else [round(value, 2) for value in box]}


def cluster_rows(
    embeddings: NDArray[np.float32], limit: float, *, metric: Metric = "cosine", min_faces: int = 2
) -> NDArray[np.int64]:
    """Group embeddings as DBSCAN does (Ester et al., 1996).

    A face with at least `min_faces` neighbours within the distance, itself counted, is the core of a group; cores that
    are neighbours are one group; another face joins the group of its nearest core.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (N, D)
    limit : float
        The distance.
    metric : {"cosine", "euclidean"}
    min_faces : int
        2 groups by chains of likeness; larger ones ask for denser groups, which more faces are needed for.

    Returns
    -------
    ndarray of int64, shape (N,)
        Groups from 0, the largest first; -1 for a face in none.

    Raises
    ------
    InvalidArgumentError
        So large a distance that nearly all faces are neighbours.
    """
    check_count("min_faces", min_faces)
    first, second, away = _links(embeddings, limit, metric)
    count = len(embeddings)
    core = np.bincount(first, minlength=count) >= min_faces
    labels = _components(first, second, core, count)
    _join_borders(labels, first, second, away, core)
    return _by_size(labels)


def _links(
    embeddings: NDArray[np.float32], limit: float, metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All ordered pairs within the distance, each face with itself too."""
    matrix = Matrix(embeddings.shape[1], metric)
    matrix.append(embeddings)
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    held = 0
    for row, found, away in within(matrix, embeddings, limit):
        parts.append((np.full(len(found), row, np.int64), found, away))
        held += len(found)
        if held > _MOST_LINKS:
            raise InvalidArgumentError(
                f"more than {_MOST_LINKS:,} pairs lie within a distance of {limit:g}: nearly everybody would be one "
                "person; give a smaller distance, or a lower far"
            )
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    first, second, distances = (np.concatenate(column) for column in zip(*parts, strict=True))
    return first, second, distances


def _components(
    first: NDArray[np.int64], second: NDArray[np.int64], core: NDArray[np.bool_], count: int
) -> NDArray[np.int64]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    both = core[first] & core[second]
    graph = coo_matrix((np.ones(int(both.sum()), np.int8), (first[both], second[both])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    return np.where(core, labels, -1).astype(np.int64)


def _join_borders(
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    away: NDArray[np.float64],
    core: NDArray[np.bool_],
) -> None:
    touching = ~core[first] & core[second]
    edges = np.flatnonzero(touching)
    edges = edges[np.lexsort((second[edges], away[edges], first[edges]))]
    border, nearest = np.unique(first[edges], return_index=True)
    labels[border] = labels[second[edges[nearest]]]


def _by_size(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    named, where, sizes = np.unique(labels[labels >= 0], return_inverse=True, return_counts=True)
    first_of = np.full(len(named), len(labels))
    np.minimum.at(first_of, where, np.flatnonzero(labels >= 0))
    rank = np.empty(len(named), np.int64)
    rank[np.lexsort((first_of, -sizes))] = np.arange(len(named))
    ordered = np.full(len(labels), -1, np.int64)
    ordered[labels >= 0] = rank[where]
    return ordered


def pair_scores(labels: NDArray[np.int64], truth: Sequence[Any] | ArrayLike) -> tuple[float, float, float]:
    """Precision, recall and F1 of a grouping over all pairs of faces; a face alone is in a pair with nobody.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        -1 for a face alone.
    truth : sequence, length N
        Who each face is of.

    Returns
    -------
    precision, recall, f1 : float
        0..1; a precision without a single pair is 1.

    Raises
    ------
    InvalidArgumentError
        The lengths differ.
    """
    people = np.unique(np.asarray(truth), return_inverse=True)[1]
    if people.shape != labels.shape:
        raise InvalidArgumentError(f"labels must have {len(labels)} entries, one a face, but got {len(people)}")
    grouped = np.where(labels >= 0, labels, labels.max(initial=0) + 1 + np.arange(len(labels)))
    together = _pairs(np.unique(np.stack([grouped, people]), axis=1, return_counts=True)[1])
    claimed, wanted = _pairs(np.unique(grouped, return_counts=True)[1]), _pairs(np.bincount(people))
    precision = together / claimed if claimed else 1.0
    recall = together / wanted if wanted else 1.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _pairs(sizes: NDArray[np.int64]) -> float:
    return float((sizes * (sizes - 1.0) / 2).sum())
