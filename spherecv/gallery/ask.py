"""Questions to a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from spherecv.checks import check_distance
from spherecv.errors import GalleryError, IdentityError
from spherecv.gallery.base import GalleryBase, check_choice, checked_count, checked_rows
from spherecv.gallery.classifier import Classifier
from spherecv.gallery.identify import Template, as_match, nearest_people
from spherecv.gallery.rows import Hit, Vector
from spherecv.gallery.sqlite import check_name
from spherecv.images import ImageSource
from spherecv.metrics import distance, similarity
from spherecv.pipeline import WhichFace
from spherecv.records import Candidate, EmbeddedFace, Face, Match
from spherecv.templates import pooled
from spherecv.thresholds import Threshold

CLASSIFIER = "classifier"
"""What the classifier is kept under in the store."""


class Asking(GalleryBase):
    """The part of a gallery that answers."""

    def threshold(self, *, threshold: float | Threshold | None = None, far: float | None = None) -> Threshold:
        """Settle which distance counts as the same person, as the questions below do.

        Raises
        ------
        MissingThresholdError
            Neither is given, and none is known for this model, recipe and metric.
        """
        return self._stages.threshold(threshold, far)

    def identify(
        self,
        image: ImageSource,
        k: int = 5,
        *,
        threshold: float | Threshold | None = None,
        far: float | None = None,
        template: Template = "best",
        face: WhichFace = "all",
    ) -> list[Match]:
        """Say who is on a photo, face by face; the answer may be nobody.

        Parameters
        ----------
        image : path, bytes, binary file object, ndarray or PIL image
        k : int
            Candidates to name for each face.
        threshold : float or Threshold, optional
            The largest distance that counts as the same person; by default the one known for the model.
        far : float, optional
            Take the threshold measured at this false accept rate. It is the rate of one comparison: a stranger has as
            many chances as the gallery has people.
        template : {"best", "mean"}
            A person is as near as the nearest of their images, or as the quality-weighted mean of them.
        face : {"all", "largest", "center", "whole"}

        Returns
        -------
        list of Match
            One for each face found.

        Raises
        ------
        ImageError, NoFaceError, MissingThresholdError
        """
        settled = self._stages.threshold(threshold, far, face)
        found = self.pipeline.faces(image, face=face)
        hits = self._people(_stacked(found), k, template)
        return [
            as_match(self.store, near, item.face, settled, self.metric)
            for item, near in zip(found, hits, strict=True)
        ]

    def identify_embeddings(
        self, embeddings: ArrayLike, k: int = 5, *, threshold: float, template: Template = "best"
    ) -> list[Match]:
        """Say who ready-made embeddings are of; arguments and answers as for `identify`, one for each row."""
        settled = Threshold(check_distance("threshold", threshold))
        hits = self._people(checked_rows(embeddings), k, template)
        return [as_match(self.store, near, None, settled, self.metric) for near in hits]

    def _people(self, rows: Vector, k: int, template: Template) -> list[list[Hit]]:
        check_choice("template", template, Template)
        return nearest_people(self.store, rows, checked_count(k), self.metric, template)

    def find(
        self,
        image: ImageSource,
        k: int = 100,
        *,
        threshold: float | Threshold | None = None,
        far: float | None = None,
        face: WhichFace = "all",
    ) -> list[Match]:
        """Find photos of the people on a photo among those that `add_unknown` took in.

        Parameters
        ----------
        image : path, bytes, binary file object, ndarray or PIL image
        k : int
            Most photos to name for each face.
        threshold, far, face
            As for `identify`.

        Returns
        -------
        list of Match
            One for each face found; its candidates are the photos within the threshold, its identity is None.
        """
        settled = self._stages.threshold(threshold, far, face)
        found = self.pipeline.faces(image, face=face)
        hits = self.store.nearest(_stacked(found), checked_count(k), self.metric, "unknown")
        near = [[hit for hit in row if hit.distance <= settled.value] for row in hits]
        return [
            as_match(self.store, row, item.face, settled, self.metric, photos=True)
            for item, row in zip(found, near, strict=True)
        ]

    def verify(
        self,
        identity: str,
        image: ImageSource,
        *,
        threshold: float | Threshold | None = None,
        far: float | None = None,
        template: Template = "mean",
        face: WhichFace = "largest",
    ) -> Match:
        """Say whether a photo shows the person it is said to show.

        Parameters
        ----------
        identity : str
            Of the gallery.
        image : path, bytes, binary file object, ndarray or PIL image
        threshold, far
            As for `identify`.
        template : {"mean", "best"}
        face : {"largest", "center", "whole"}
            Which one, where the photo shows several.

        Returns
        -------
        Match
            True where they are; its one candidate is the person.

        Raises
        ------
        IdentityError
            The gallery does not hold them.
        """
        check_name(identity)
        check_choice("template", template, Template)
        check_choice("face", face, Literal["largest", "center", "whole"])
        settled = self._stages.threshold(threshold, far, face)
        with self.store.snapshot():
            table, (note,) = self.store.table(identity=identity), self.store.people_metadata([identity])
        if not len(table.ids):
            raise IdentityError(f"{self.store.label} holds no face of {identity!r}")
        (found,) = self.pipeline.faces(image, face=face)
        mean = template == "mean"
        stored = pooled(table.vectors, table.qualities, metric=self.metric) if mean else table.vectors
        away = float(distance(found.embedding, stored, self.metric).min())
        candidate = Candidate(identity, away, float(similarity(away, self.metric)), metadata=note)
        return Match(
            identity=identity if away <= settled.value else None,
            candidates=(candidate,),
            threshold=settled.value,
            metric=self.metric,
            face=found.face,
            far=settled.rate,
            threshold_source=settled.source,
        )

    def classify(self, image: ImageSource, k: int = 5, *, face: WhichFace = "all") -> list[Match]:
        """Say who is on a photo by the classifier that `fit_classifier` trained; it may answer nobody.

        Arguments and answers are as for `identify`; a candidate's distance is 1 - its score, and `probability` is the
        score of the first.

        Raises
        ------
        GalleryError
            No classifier was fitted, or somebody was removed, renamed or merged since.
        """
        trained = self._classifier()
        return [
            _judged(trained, item.embedding, item.face, checked_count(k))
            for item in self.pipeline.faces(image, face=face)
        ]

    def classify_embeddings(self, embeddings: ArrayLike, k: int = 5) -> list[Match]:
        """Say who ready-made embeddings are of, by the classifier; answers as for `classify`, one for each row."""
        trained = self._classifier()
        return [_judged(trained, row, None, checked_count(k)) for row in checked_rows(embeddings)]

    def _classifier(self) -> Classifier:
        data = self.store.attachment(CLASSIFIER)
        if data is None:
            raise GalleryError(
                f"{self.store.label} has no classifier: fit_classifier (or `spherecv gallery fit`) makes one, and a "
                "removal takes it away"
            )
        return Classifier.from_bytes(data)


def _judged(trained: Classifier, embedding: Vector, face: Face | None, k: int) -> Match:
    scores = trained.scores(embedding[None])[0]
    best = np.lexsort((np.arange(len(scores)), -scores))[:k]
    first = float(scores[best[0]])
    return Match(
        identity=trained.names[best[0]] if first >= trained.reject_below else None,
        candidates=tuple(
            Candidate(trained.names[place], 1.0 - float(scores[place]), float(scores[place])) for place in best
        ),
        threshold=1.0 - trained.reject_below,
        metric=trained.kind,
        face=face,
        threshold_source="left-out people of the gallery",
        probability=first,
    )


def _stacked(found: Sequence[EmbeddedFace]) -> Vector:
    return np.stack([item.embedding for item in found])
