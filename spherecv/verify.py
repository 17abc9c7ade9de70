"""FaceVerifier: two images to an answer, at a threshold with its provenance."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from spherecv import metrics
from spherecv.checks import batch_of, shown
from spherecv.config import ModelName, PipelineSettings, Stages, describe, open_pipeline
from spherecv.decision import DecisionRule
from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError, SphereCVError
from spherecv.images import ImageSource, LabelledImage, load_both, shown_source
from spherecv.metrics import Metric
from spherecv.pipeline import OnError, WhichFace
from spherecv.records import EmbeddedFace, Verification, VerificationMatrix, several_note
from spherecv.templates import SetWarning
from spherecv.thresholds import Calibration, Threshold
from spherecv.zoo import DEFAULT_MODEL, ModelSource, Recipe

if TYPE_CHECKING:
    from spherecv.video.kinds import SetSource
    from spherecv.video.sets import EmbeddedSet


class _Side(NamedTuple):
    """One side of a comparison: the face that stands for it, its image, and of how many faces it was made."""

    face: EmbeddedFace
    image: NDArray[np.uint8]
    label: str
    faces: int = 1
    notes: tuple[str, ...] = ()



class FaceVerifier:
    """Decide whether two images show the same person.

    Parameters
    ----------
    model : str, path, (path, path), ModelSource, FaceEmbedder, PipelineConfig or FacePipeline
        The name of a model (`spherecv models list`), the path of an `.onnx` file, a prototxt and a caffemodel, an
        embedder of your own; or the description of a whole pipeline, or an open one, which takes no settings.
    metric : {"cosine", "euclidean"}
    threshold : float, optional
        The largest distance that counts as the same person. By default the one that the model's manifest knows.
    far : float, optional
        Ask for the threshold that was measured at this false accept rate, 0..1.
    calibration : Calibration or path, optional
        What `spherecv calibrate` wrote for this model, recipe, metric and detector: gives thresholds and probabilities
        in place of the manifest's.
    prior : float
        Share of genuine pairs among all that will be compared, 0..1 exclusive, for the probability.
    **settings
        As for `PipelineConfig`: `recipe`, `detector` (a kind, or a `FaceDetector` of your own), `preset`, `min_size`,
        `backend`, `device`, `threads`. The recipe `"sefiks"` with SphereFace-20 is that of the sefiks.com tutorial.

    Attributes
    ----------
    pipeline : FacePipeline
    decision : DecisionRule

    Raises
    ------
    InvalidArgumentError
        A value of the wrong type or out of its range.
    MissingThresholdError
        No threshold is known at the rate asked for; the message names the known rates.
    SphereCVError
        As for `PipelineConfig.open`.

    Examples
    --------
    >>> verifier = FaceVerifier()                          # doctest: +SKIP
    >>> verifier.verify("a.jpg", "b.jpg").verified         # doctest: +SKIP
    True
    """

    def __init__(
        self,
        model: ModelName | ModelSource | FaceEmbedder | Stages = DEFAULT_MODEL,
        *,
        metric: Metric = "cosine",
        threshold: float | None = None,
        far: float | None = None,
        calibration: Calibration | str | os.PathLike[str] | None = None,
        prior: float = 0.5,
        **settings: Unpack[PipelineSettings],
    ) -> None:
        stages = describe(model, **settings)
        self.decision = DecisionRule.of(  # before the nets are opened, which takes longer
            stages, metric=metric, threshold=threshold, far=far, calibration=calibration, prior=prior
        )
        self.pipeline = open_pipeline(stages)

    @classmethod
    def from_caffe(
        cls,
        prototxt: str | os.PathLike[str],
        caffemodel: str | os.PathLike[str],
        *,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> FaceVerifier:
        """Build a verifier on a Caffe model.

        Parameters
        ----------
        prototxt, caffemodel : path
            The two files of the model.
        recipe : Recipe, str or path, optional
            How it wants its input; may be left out for files that the manifest knows by their hashes.
        **settings
            As for the class.

        Returns
        -------
        FaceVerifier
            Without a threshold for these files, `distance` works and `verify` raises `MissingThresholdError`.

        Raises
        ------
        ModelFileError
            The files cannot be read, or do not belong together.
        InvalidArgumentError
            No recipe, and the files are not known.
        """
        return cls(ModelSource.from_caffe(prototxt, caffemodel, recipe=recipe), **settings)

    @property
    def metric(self) -> Metric:
        """How embeddings are compared: `"cosine"` or `"euclidean"`."""
        return self.decision.metric

    @property
    def threshold(self) -> Threshold:
        """The threshold in use, with its provenance; raises `MissingThresholdError` where none is known."""
        return self.decision.threshold

    def threshold_at(self, far: float | None, *, face: WhichFace = "largest") -> Threshold:
        """Look up the threshold that was measured at a false accept rate; see `DecisionRule.threshold_at`."""
        return self.decision.threshold_at(far, face=face)

    @property
    def known_thresholds(self) -> list[Threshold]:
        """Thresholds that were measured at a false accept rate, for this model, recipe and metric; highest first."""
        return self.decision.known_thresholds

    @property
    def prior(self) -> float | None:
        """The share of genuine pairs that probabilities assume, 0..1; None where no probability can be given."""
        return self.decision.prior

    def distance(self, a: SetSource, b: SetSource, *, face: WhichFace = "largest") -> float:
        """Measure the distance between the faces of two images; needs no threshold.

        Parameters
        ----------
        a, b : path, bytes, binary file object, ndarray or PIL image; or several, or a clip
            As for `verify`.
        face : {"largest", "center", "only", "whole"}
            Which face counts where there are several.

        Returns
        -------
        float

        Raises
        ------
        ImageError, NoFaceError
        """
        first, second = (side.face.embedding for side in self._both(a, b, face))
        return self.decision.distance(first, second)

    def verify(
        self, a: SetSource, b: SetSource, *, face: WhichFace = "largest", far: float | None = None
    ) -> Verification:
        """Decide whether two images, two sets of images, or two clips show the same person.

        Parameters
        ----------
        a, b : path, bytes, binary file object, ndarray or PIL image; or several, or a clip
            On either side: an image; several of one person, as a list or tuple, a folder or a list file; or a video
            file or address. Of several faces one template is made, the mean of the best weighted by their quality
            (see `spherecv.video.embed_set`), and templates are compared as images are.
        face : {"largest", "center", "only", "whole"}
            Which face counts where there are several; with `"only"` several are an error. `verify_all` compares all.
        far : float, optional
            Decide this pair at the threshold that was measured at this false accept rate, 0..1.

        Returns
        -------
        Verification
            For a set, its face and image are the best ones, `templates` says of how many faces, and there is no
            probability, which is known of single images only.

        Raises
        ------
        ImageError, VideoError, NoFaceError
            An image cannot be read, or has no face: never a silent comparison of backgrounds. Of a set, none can.
        SeveralFacesError
            With `face="only"`, an image has several.
        MissingThresholdError
            No threshold is known for this model, recipe and metric.

        Warns
        -----
        SetWarning
            Some faces of a set are unlike the others; `notes` of the answer says so too.
        """
        started = perf_counter()
        threshold = self.threshold_at(far, face=face)
        one, other = self._both(a, b, face)
        seconds = perf_counter() - started
        answer = self.judge(
            one.face,
            other.face,
            threshold,
            face=face,
            images=(one.image, other.image),
            labels=(one.label, other.label),
            seconds=seconds,
        )
        answer = replace(answer, notes=one.notes + other.notes)
        if one.faces == other.faces == 1:
            return answer
        return replace(answer, templates=(one.faces, other.faces), probability=None, prior=None)

    def verify_pairs(
        self,
        pairs: Iterable[tuple[ImageSource, ImageSource]],
        *,
        face: WhichFace = "largest",
        errors: OnError = "raise",
    ) -> list[Verification | SphereCVError]:
        """Decide many pairs. An image named by the same path in several pairs is detected and embedded once.

        Parameters
        ----------
        pairs : iterable of two images each
        face : {"largest", "center", "only", "whole"}
        errors : {"raise", "return"}
            Whether a pair with an unusable image ends the run or is answered with its error.

        Returns
        -------
        list of Verification, or of SphereCVError in place of it
            In the order of the pairs; without the images and crops, so that long lists stay small.

        Raises
        ------
        ImageError, NoFaceError
            With `errors="raise"`.
        InvalidArgumentError
            Not pairs of images.
        MissingThresholdError
            No threshold is known for this model, recipe and metric.
        """
        rows = list(batch_of("pairs", pairs))
        for place, pair in enumerate(rows):
            _check_pair(place, pair)
        threshold = self.threshold_at(None, face=face)
        sources = {_key(image): image for pair in rows for image in pair}
        answers = self._run(sources.values(), face, errors)
        known = {key: _without_crop(answer) for key, answer in zip(sources, answers, strict=True)}
        return [
            self._judge_known(known[_key(a)], known[_key(b)], threshold, face, (shown_source(a), shown_source(b)))
            for a, b in rows
        ]

    def verify_all(self, a: ImageSource, b: ImageSource) -> VerificationMatrix:
        """Compare every face of one image with every face of another.

        Parameters
        ----------
        a, b : path, bytes, binary file object, ndarray or PIL image

        Returns
        -------
        VerificationMatrix
            Distances of shape (N, M), and which of them are the same person.

        Raises
        ------
        ImageError, NoFaceError
        MissingThresholdError
            No threshold is known for this model, recipe and metric.
        """
        threshold = self.threshold
        first, second = (self._faces(found) for found in self.pipeline.run([a, b], face="all"))
        distances = metrics.pairwise_distance(_embeddings(first), _embeddings(second), self.metric)
        return VerificationMatrix(
            distances=distances,
            verified=distances <= threshold.value,
            similarities=metrics.similarity(distances, self.metric),
            threshold=threshold.value,
            metric=self.metric,
            faces=(tuple(first), tuple(second)),
        )

    def _run(
        self, images: Iterable[ImageSource | LabelledImage], face: WhichFace, errors: OnError = "raise"
    ) -> Iterator[list[EmbeddedFace] | SphereCVError]:
        if face == "all":
            raise InvalidArgumentError("face='all' gives several faces an image: verify_all compares them")
        return self.pipeline.run(images, face=face, errors=errors)

    def _both(self, a: SetSource, b: SetSource, face: WhichFace) -> list[_Side]:
        """What stands for each side, and what is to be said of it."""
        from spherecv.video.kinds import is_set

        if is_set(a) or is_set(b):
            from spherecv.video.sets import embed_set  # with all that videos need

            return [
                self._set_side(embed_set(self.pipeline, side, face=face, metric=self.metric), face) for side in (a, b)
            ]
        loaded = load_both(cast("ImageSource", a), cast("ImageSource", b))
        found = [self._faces(one)[0] for one in self._run(loaded, face)]
        return [
            _Side(one, image.image, image.label, notes=several_note(image.label, one.faces_found, face))
            for one, image in zip(found, loaded, strict=True)
        ]

    def _set_side(self, found: EmbeddedSet, face: WhichFace) -> _Side:
        doubts = found.doubts(self.decision.usual_distance, self.metric)
        for doubt in doubts:
            warnings.warn(doubt, SetWarning, stacklevel=4)
        return _Side(found.face, found.image, found.label, found.faces, (*found.crowding(face), *doubts))

    @staticmethod
    def _faces(found: list[EmbeddedFace] | SphereCVError) -> list[EmbeddedFace]:
        if isinstance(found, SphereCVError):
            raise found
        return found

    def _judge_known(
        self,
        first: EmbeddedFace | SphereCVError,
        second: EmbeddedFace | SphereCVError,
        threshold: Threshold,
        face: WhichFace,
        labels: tuple[str, str],
    ) -> Verification | SphereCVError:
        if isinstance(first, SphereCVError):
            return first
        if isinstance(second, SphereCVError):
            return second
        return self.judge(first, second, threshold, face=face, labels=labels)

    def judge(
        self,
        first: EmbeddedFace,
        second: EmbeddedFace,
        threshold: Threshold | None = None,
        *,
        face: WhichFace = "largest",
        images: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None,
        labels: tuple[str, str] = ("the first image", "the second image"),
        seconds: float | None = None,
    ) -> Verification:
        """Decide about two faces that are embedded already, by the model of this verifier.

        Parameters
        ----------
        first, second : EmbeddedFace
        threshold : Threshold, optional
            By default the one in use.
        face : {"largest", "center", "only", "all", "whole"}
            Which faces they are; with `"whole"` the answer says that no detector found them.
        images : tuple of two ndarrays, optional
            The images they are from, to be kept in the answer.
        labels : tuple of two str
            What the answer calls them.
        seconds : float, optional
            What finding and embedding them took.

        Returns
        -------
        Verification

        Raises
        ------
        MissingThresholdError
            No threshold was given, and none is known.
        """
        threshold = threshold or self.threshold_at(None, face=face)
        rule = self.decision
        distance = rule.distance(first.embedding, second.embedding)
        return Verification(
            verified=distance <= threshold.value,
            distance=distance,
            threshold=threshold.value,
            metric=rule.metric,
            similarity=float(metrics.similarity(distance, rule.metric)),
            faces=(first, second),
            model=self.pipeline.embedder.name,
            detector=rule.detector_used(face),
            threshold_source=threshold.source,
            far=threshold.rate,
            probability=rule.probability(distance),
            prior=rule.prior,
            images=images,
            seconds=seconds,
            face_taken=face,
            labels=labels,
            notes=tuple(
                note
                for label, one in zip(labels, (first, second), strict=True)
                for note in several_note(label, one.faces_found, face)
            ),
        )


def _embeddings(faces: list[EmbeddedFace]) -> NDArray[np.float32]:
    return np.stack([face.embedding for face in faces])


def _check_pair(place: int, pair: object) -> None:
    single = isinstance(pair, str | bytes) or getattr(pair, "shape", None) == ()  # such an array has no length
    count = len(pair) if isinstance(pair, Sized) and not single else None
    if count != 2:
        what = shown(pair) if count is None else f"{count} of them"
        raise InvalidArgumentError(f"pairs[{place}] must be two images, but got {what}")


def _key(source: ImageSource) -> object:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else id(source)


def _without_crop(answer: list[EmbeddedFace] | SphereCVError) -> EmbeddedFace | SphereCVError:
    return answer if isinstance(answer, SphereCVError) else replace(answer[0], crop=None)
