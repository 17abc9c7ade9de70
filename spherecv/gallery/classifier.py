"""Classifier on a person's own images: trained by scikit-learn, stored as plain numbers, may answer nobody."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import GalleryError, MissingDependencyError, NotEnoughDataError
from spherecv.gallery.exact import unit
from spherecv.gallery.rows import Table, Vector
from spherecv.records import Candidate, Face, Match

Kind = Literal["logistic", "svm"]
FOLDS = 5


@dataclass(frozen=True)
class ClassifierReport:
    """How well a classifier did on what it had not seen.

    Attributes
    ----------
    kind : {"logistic", "svm"}
    people, faces : int
        What it was trained on.
    reject_below : float
        Scores below this are answered with nobody.
    accuracy : float
        Share of the left-out faces that were named rightly, rejected ones counted as wrong (cross-validation over
        images).
    strangers_named : float
        Share of the faces of left-out people that were given a name (cross-validation over people).
    """

    kind: Kind
    people: int
    faces: int
    reject_below: float
    accuracy: float
    strangers_named: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return dict(self.__dict__)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear classifier of unit embeddings.

    Attributes
    ----------
    kind : {"logistic", "svm"}
    names : tuple of str
    weights : ndarray of float32, shape (C, D)
    offsets : ndarray of float32, shape (C,)
    reject_below : float
        Probability (logistic), or margin (SVM), below which the answer is nobody.
    """

    kind: Kind
    names: tuple[str, ...]
    weights: NDArray[np.float32]
    offsets: NDArray[np.float32]
    reject_below: float = 0.0

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score of each person for each embedding, shape (N, C): probabilities, or margins squeezed into 0..1."""
        margins = unit(embeddings).astype(np.float64) @ self.weights.T.astype(np.float64) + self.offsets
        if self.kind == "svm":
            # One classifier for each person: no probabilities over people, only a score that grows with the margin.
            return np.asarray(1.0 / (1.0 + np.exp(-2.0 * margins)))
        raised = np.exp(margins - margins.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def match(self, embedding: Vector, k: int, face: Face | None = None) -> Match:
        """Answer for one embedding, shape (D,), with the `k` people of the highest scores."""
        scores = self.scores(embedding[None])[0]
        best = np.argsort(-scores, kind="stable")[:k]
        first = float(scores[best[0]])
        return Match(
            identity=self.names[best[0]] if first >= self.reject_below else None,
            candidates=tuple(
                Candidate(self.names[place], 1.0 - float(scores[place]), float(scores[place])) for place in best
            ),
            threshold=1.0 - self.reject_below,
            metric=self.kind,
            face=face,
            threshold_source="left-out people of the gallery",
            probability=first,
        )

    def to_bytes(self) -> bytes:
        """The classifier as an `.npz` without pickle."""
        stream = io.BytesIO()
        note = json.dumps({"kind": self.kind, "names": list(self.names), "reject_below": self.reject_below})
        np.savez(stream, weights=self.weights, offsets=self.offsets, note=np.frombuffer(note.encode(), np.uint8))
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Classifier:
        """Read what `to_bytes` made; raises `GalleryError` for anything else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as held:
                note = json.loads(held["note"].tobytes())
                return cls(
                    note["kind"], tuple(note["names"]), held["weights"], held["offsets"], float(note["reject_below"])
                )
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise GalleryError(f"the gallery's classifier is damaged ({error}): fit it again") from None


def fit(table: Table, kind: Kind, *, strangers: float, seed: int = 0) -> tuple[Classifier, ClassifierReport]:
    """Train a classifier, and choose how certain it must be to name anybody.

    The least score is chosen on people that a fold's classifier has never seen, so that a share `strangers` of their
    faces is named; the accuracy is measured on images that it has not seen.

    Parameters
    ----------
    table : Table
        Faces of known people.
    kind : {"logistic", "svm"}
    strangers : float
        Share of strangers' faces that may be given a name, 0..1.
    seed : int
        Of the folds.

    Raises
    ------
    NotEnoughDataError
        Fewer than three people, or one with a single face.
    MissingDependencyError
    """
    names = [table.names[owner] for owner in np.unique(table.owners).tolist()]
    labels = np.unique(table.owners, return_inverse=True)[1]
    counts = np.bincount(labels)
    if len(names) < 3:
        raise NotEnoughDataError(f"a classifier needs three people at least, but the gallery holds {len(names)}")
    if counts.min() < 2:
        lonely = names[int(counts.argmin())]
        raise NotEnoughDataError(f"a classifier needs two images of each person, but {lonely!r} has {counts.min()}")
    rows = unit(table.vectors)
    strange = _stranger_scores(rows, labels, kind, seed)
    least = float(np.quantile(strange, 1.0 - strangers, method="higher"))
    reject = float(np.nextafter(least, np.inf))
    trained = _train(rows, labels, names, kind)
    classifier = Classifier(trained.kind, trained.names, trained.weights, trained.offsets, reject)
    return classifier, ClassifierReport(
        kind=kind,
        people=len(names),
        faces=len(rows),
        reject_below=reject,
        accuracy=_accuracy(rows, labels, kind, reject, seed),
        strangers_named=float((strange >= reject).mean()),
    )


def _train(rows: NDArray[np.float32], labels: NDArray[np.intp], names: list[str], kind: Kind) -> Classifier:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import LinearSVC
    except ImportError:
        raise MissingDependencyError("scikit-learn", "gallery", "a classifier") from None
    # Balanced: somebody with a hundred images is not more likely to be on the next one than somebody with three.
    if kind == "svm":
        model = LinearSVC(C=1.0, class_weight="balanced", random_state=0)
    else:
        model = LogisticRegression(C=100.0, class_weight="balanced", max_iter=500)
    model.fit(rows, labels)
    weights, offsets = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(weights) == 1:  # two people: scikit-learn keeps one boundary
        weights, offsets = np.concatenate([-weights, weights]) / 2, np.concatenate([-offsets, offsets]) / 2
    return Classifier(kind, tuple(names), weights.astype(np.float32), offsets.astype(np.float32))


def _stranger_scores(
    rows: NDArray[np.float32], labels: NDArray[np.intp], kind: Kind, seed: int
) -> NDArray[np.float64]:
    """Highest score of each face, from a classifier that knows its person not."""
    people = np.random.default_rng(seed).permutation(int(labels.max()) + 1)
    # Two people must stay known in every fold, or there is nothing to tell apart.
    folds = min(FOLDS, len(people) // 2) if len(people) > 3 else len(people)
    scores = np.empty(len(rows))
    for part in np.array_split(people, max(folds, 2)):
        left_out = np.isin(labels, part)
        known, compact = np.unique(labels[~left_out], return_inverse=True)
        fold = _train(rows[~left_out], compact, [str(number) for number in known], kind)
        scores[left_out] = fold.scores(rows[left_out]).max(axis=1)
    return scores


def _accuracy(
    rows: NDArray[np.float32], labels: NDArray[np.intp], kind: Kind, reject: float, seed: int
) -> float:
    """Share of faces named rightly by a classifier that knows their people, but not them."""
    from sklearn.model_selection import StratifiedKFold

    folds = int(min(FOLDS, np.bincount(labels).min()))
    right = np.zeros(len(rows), bool)
    for known, left_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels):
        fold = _train(rows[known], labels[known], [str(number) for number in range(int(labels.max()) + 1)], kind)
        scores = fold.scores(rows[left_out])
        right[left_out] = (scores.argmax(axis=1) == labels[left_out]) & (scores.max(axis=1) >= reject)
    return float(right.mean())
