"""Results: frozen, validated records with `to_dict` and `plot`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from PIL.Image import Image

FloatArray = NDArray[np.float32]
ImageArray = NDArray[np.uint8]


WHOLE = "whole"
"""Stands for the detector where whole images were taken as ready-made crops."""


def detector_text(detector: str) -> str:
    """Say in an answer what found the faces."""
    return "no detector, whole images as crops" if detector == WHOLE else f"detector {detector}"


def probability_text(probability: float) -> str:
    """Write a probability to three digits; at the ends, where these would claim certainty, as a bound."""
    if probability >= 0.9995:
        return "above 0.999"
    return "below 0.001" if probability < 0.0005 else f"{probability:.3f}"


def rate_text(rate: float) -> str:
    """Write a false accept rate for people: in per cent, and of how many pairs one is wrong."""
    return f"{100 * rate:.2g} %, about 1 in {1 / rate:,.0f} pairs of different people" if rate > 0 else "none seen"


def taken_text(which: str) -> str:
    """Say which of several faces is meant."""
    return {"largest": "the largest", "center": "the one nearest the middle"}.get(which, which)


def several_note(label: str, count: int | None, which: str) -> tuple[str, ...]:
    """Say that an image shows several faces, and which was taken; empty where it shows one."""
    return (f"{label}: {count} faces found, {taken_text(which)} taken",) if (count or 0) > 1 else ()


def _checked(name: str, value: Any, *shapes: tuple[int, ...]) -> FloatArray:
    array = np.array(value, dtype=np.float32)
    if array.shape not in shapes:
        wanted = " or ".join(str(shape) for shape in shapes)
        raise InvalidArgumentError(f"{name} must have shape {wanted}, but got {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidArgumentError(f"{name} must be finite, but got {array.tolist()}")
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class Fingerprint:
    """What decides the embeddings of a pipeline: embeddings of different models or recipes cannot be compared.

    Attributes
    ----------
    model : str
        What the model is called.
    key : str
        What identifies the model's files and recipe: `ModelSource.key`.
    detector : str
        What found the faces; empty for embeddings that came ready-made.
    """

    model: str
    key: str
    detector: str = ""


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one image.

    Attributes
    ----------
    box : ndarray of float32, shape (4,)
        `x1, y1, x2, y2` in pixels of the image; may reach past its border. Read-only.
    score : float
        The detector's confidence, 0..1.
    landmarks : ndarray of float32, shape (5, 2) or (2, 2), or None
        `x, y` in pixels, in the order image-left eye, image-right eye, nose, image-left mouth corner, image-right
        mouth corner; or the eyes alone. Read-only.
    quality : float or None
        How far this face can be trusted for recognition, 0..1; see `spherecv.quality.face_quality`.

    Raises
    ------
    InvalidArgumentError
        A shape, range or value that no face can have.
    """

    box: FloatArray
    score: float = 1.0
    landmarks: FloatArray | None = None
    quality: float | None = None

    def __post_init__(self) -> None:
        box = _checked("box", self.box, (4,))
        if box[2] <= box[0] or box[3] <= box[1]:
            raise InvalidArgumentError(f"box must have x1 < x2 and y1 < y2, but got {box.tolist()}")
        object.__setattr__(self, "box", box)
        if self.landmarks is not None:
            object.__setattr__(self, "landmarks", _checked("landmarks", self.landmarks, (5, 2), (2, 2)))
        for name in ("score", "quality"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise InvalidArgumentError(f"{name} must be within 0..1, but got {value}")

    def __repr__(self) -> str:
        """Say what it is in a line."""
        box = ", ".join(f"{value:.0f}" for value in self.box)
        points = "" if self.landmarks is None else f", {len(self.landmarks)} landmarks"
        quality = "" if self.quality is None else f", quality={self.quality:.2f}"
        return f"Face(box=({box}), score={self.score:.3f}{quality}{points})"

    @property
    def width(self) -> float:
        """Width of the box in pixels."""
        return float(self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        """Height of the box in pixels."""
        return float(self.box[3] - self.box[1])

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, `x, y` in pixels."""
        return float(self.box[0] + self.box[2]) / 2, float(self.box[1] + self.box[3]) / 2

    @property
    def turn(self) -> int:
        """Quarter turn in which the face lies in its image, clockwise, in degrees: 0, 90, 180 or 270; by its eyes."""
        if self.landmarks is None:
            return 0
        x, y = self.landmarks[1] - self.landmarks[0]
        return round(math.degrees(math.atan2(y, x)) / 90) % 4 * 90

    def to_dict(self) -> dict[str, Any]:
        """The face as plain Python values, ready for JSON."""
        return {
            "box": [round(float(v), 2) for v in self.box],
            "score": round(float(self.score), 6),
            "landmarks": None if self.landmarks is None else [[round(float(v), 2) for v in p] for p in self.landmarks],
            "quality": None if self.quality is None else round(float(self.quality), 4),
            "turn": self.turn,
        }


@dataclass(frozen=True, eq=False)
class EmbeddedFace:
    """A face with what was made of it.

    Attributes
    ----------
    face : Face
        Where it is in its image.
    crop : ndarray of uint8, shape (h, w, 3), or None
        The aligned BGR crop that the net saw; dropped by calls that answer many pairs.
    embedding : ndarray of float32, shape (D,)
        What the net made of the crop, by the model's recipe.
    faces_found : int or None
        Faces found in its image, of which this is one; None where nothing counted them: for whole images as crops, and
        for the tracks of a video.
    """

    face: Face
    crop: ImageArray | None
    embedding: FloatArray
    faces_found: int | None = None

    def __repr__(self) -> str:
        """Say what it is in a line: arrays of hundreds of numbers tell nothing."""
        box = ", ".join(f"{value:.0f}" for value in self.face.box)
        quality = "" if self.face.quality is None else f", quality={self.face.quality:.2f}"
        crop = "" if self.crop is None else f", crop={self.crop.shape[0]}x{self.crop.shape[1]}"
        found = "" if self.faces_found is None else f", one of {self.faces_found}"
        return f"EmbeddedFace(box=({box}){quality}{crop}, embedding of {len(self.embedding)} numbers{found})"


@dataclass(frozen=True, eq=False)
class Verification:
    """The answer to "is this the same person?".

    Attributes
    ----------
    verified : bool
        Whether `distance <= threshold`.
    distance : float
        Between the two embeddings, in the unit of `metric`.
    threshold : float
        The largest distance that counts as the same person.
    metric : str
        `"cosine"` or `"euclidean"`.
    similarity : float
        Grows with likeness: cosine similarity -1..1, or 1 / (1 + distance).
    probability : float or None
        That the two are the same person, 0..1; only where a calibration was given.
    prior : float or None
        The share of genuine pairs that the probability assumes, 0..1.
    far : float or None
        The false accept rate that the threshold was measured at, 0..1.
    threshold_source : str
        What the threshold was measured on, in words.
    model, detector : str
        Names of the embedder and of the detector.
    faces : tuple of EmbeddedFace
        The two faces compared, first image's first.
    images : tuple of ndarray, or None
        The two BGR images; kept by `verify`, dropped by the batch calls.
    seconds : float or None
        Wall time of the comparison, detection and embedding included; None for one of many.
    templates : (int, int)
        Of how many faces each side's embedding was made: 1 for an image, more for a set or a clip.
    face_taken : str
        Which of several faces counted: `"largest"`, `"center"`, `"only"` or `"whole"`.
    labels : (str, str)
        What to call the two images: their paths, where they have any.
    notes : tuple of str
        What to know before trusting the answer: images with several faces, and which was taken; sets whose own faces
        disagree.
    """

    verified: bool
    distance: float
    threshold: float
    metric: str
    similarity: float
    faces: tuple[EmbeddedFace, EmbeddedFace] = field(repr=False)
    model: str
    detector: str
    threshold_source: str = "given by the caller"
    far: float | None = None
    probability: float | None = None
    prior: float | None = None
    images: tuple[ImageArray, ImageArray] | None = field(default=None, repr=False)
    seconds: float | None = None
    templates: tuple[int, int] = (1, 1)
    face_taken: str = "largest"
    labels: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()

    __repr__ = brief

    def __bool__(self) -> bool:
        return self.verified

    @property
    def faces_found(self) -> tuple[int | None, int | None]:
        """How many faces each image shows, of which one was compared; None where nothing counted them."""
        return self.faces[0].faces_found, self.faces[1].faces_found

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain Python values, in deepface's vocabulary, ready for JSON."""
        first, second = (embedded.face.to_dict() for embedded in self.faces)
        return {
            "verified": self.verified,
            "distance": self.distance,
            "threshold": self.threshold,
            "similarity": self.similarity,
            "probability": self.probability,
            "prior": self.prior,
            "far": self.far,
            "threshold_source": self.threshold_source,
            "model": self.model,
            "detector_backend": self.detector,
            "similarity_metric": self.metric,
            "facial_areas": {"img1": first, "img2": second},
            "time": None if self.seconds is None else round(self.seconds, 4),
            "faces_used": {"img1": self.templates[0], "img2": self.templates[1]},
            "faces_found": {"img1": self.faces_found[0], "img2": self.faces_found[1]},
            "face_taken": self.face_taken,
            "notes": list(self.notes),
        }

    def plot(self) -> Image:
        """Draw both images with their landmarks, both crops, and the distance on its scale.

        Returns
        -------
        PIL.Image.Image
            Shown by a notebook as it is; `.save(path)` writes it.

        Raises
        ------
        InvalidArgumentError
            The images were not kept: the batch calls drop them.
        """
        from spherecv.drawing import draw_verification

        if self.images is None:
            raise InvalidArgumentError("this result kept no images to draw: use verify(a, b), not a batch call")
        notes = list(self.notes)
        if self.far is not None:
            notes.append(f"False accept rate {rate_text(self.far)}.")
        if self.probability is not None:
            notes.append(
                f"Probability of the same person {probability_text(self.probability)}, at a prior of {self.prior:g}."
            )
        notes.append(f"Threshold: {self.threshold_source}.")
        return draw_verification(
            self.images,
            [embedded.face for embedded in self.faces],
            [embedded.crop for embedded in self.faces],
            distance=self.distance,
            threshold=self.threshold,
            metric=self.metric,
            heading=f"{self.model}, {detector_text(self.detector)}, {self.metric}",
            labels=self.labels,
            notes=notes,
        )


@dataclass(frozen=True, eq=False)
class VerificationMatrix:
    """Every face of one image compared with every face of another.

    Attributes
    ----------
    distances : ndarray of float64, shape (N, M)
    verified : ndarray of bool, shape (N, M)
        Where the distance is at most the threshold.
    similarities : ndarray of float64, shape (N, M)
    threshold : float
    metric : str
    faces : tuple of two tuples of EmbeddedFace
        The N faces of the first image and the M of the second, the rows and columns of the matrices.
    """

    distances: NDArray[np.float64]
    verified: NDArray[np.bool_]
    similarities: NDArray[np.float64]
    threshold: float
    metric: str
    faces: tuple[tuple[EmbeddedFace, ...], tuple[EmbeddedFace, ...]] = field(repr=False)

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The matrices as plain Python values, ready for JSON."""
        first, second = ([embedded.face.to_dict() for embedded in side] for side in self.faces)
        return {
            "distances": self.distances.tolist(),
            "verified": self.verified.tolist(),
            "similarities": self.similarities.tolist(),
            "threshold": self.threshold,
            "similarity_metric": self.metric,
            "facial_areas": {"img1": first, "img2": second},
        }


@dataclass(frozen=True, eq=False)
class Candidate:
    """Someone, or some image, that a face may be of.

    Attributes
    ----------
    identity : str or None
        Who; None for an image of nobody known.
    distance, similarity : float
        As in `Verification`.
    image : str or None
        The nearest enrolled image; None where the distance is to an average of several.
    box : tuple of float, or None
        Where the face is in that image: `x1, y1, x2, y2` in pixels.
    metadata : mapping
        What was said of the person when they were enrolled.
    """

    identity: str | None
    distance: float
    similarity: float
    image: str | None = None
    box: tuple[float, float, float, float] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The candidate as plain Python values, ready for JSON."""
        return {
            "identity": self.identity,
            "distance": self.distance,
            "similarity": self.similarity,
            "image": self.image,
            "box": None if self.box is None else [round(float(value), 2) for value in self.box],
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, eq=False)
class Match:
    """The answer to "who is this?" for one face.

    Attributes
    ----------
    identity : str or None
        The nearest person, if near enough; None says that it is nobody of the gallery. Never a guess.
    candidates : tuple of Candidate
        The nearest people or images, the nearest first, however far; empty for an empty gallery.
    threshold : float
        The largest distance that counts as the same person.
    metric : str
        `"cosine"` or `"euclidean"`.
    face : Face or None
        Where the face is in the probe image; None where only an embedding was given.
    far : float or None
        The false accept rate of one comparison that the threshold was measured at, 0..1.
    threshold_source : str
        What the threshold was measured on, in words.
    probability : float or None
        A classifier's certainty, 0..1; None for plain distances.
    people : int or None
        How many people of the gallery the face was compared with; None where it was compared with images, or one
        person.
    faces_found : int or None
        Faces found in the probe image, of which this is one; None where nothing counted them.
    """

    identity: str | None
    candidates: tuple[Candidate, ...]
    threshold: float
    metric: str
    face: Face | None = None
    far: float | None = None
    threshold_source: str = "given by the caller"
    probability: float | None = None
    people: int | None = None
    faces_found: int | None = None

    __repr__ = brief

    def __bool__(self) -> bool:
        return self.identity is not None

    @property
    def fpir(self) -> float | None:
        """False positive identification rate, 0..1: how often a stranger is given some name of this gallery.

        1 - (1 - FAR)^people, as if the comparisons were independent; None where the rate or the number is not known.
        """
        return None if self.far is None or self.people is None else 1.0 - (1.0 - self.far) ** self.people

    @property
    def distance(self) -> float | None:
        """Distance to the nearest candidate; None for an empty gallery."""
        return self.candidates[0].distance if self.candidates else None

    @property
    def similarity(self) -> float | None:
        """Similarity to the nearest candidate; None for an empty gallery."""
        return self.candidates[0].similarity if self.candidates else None

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain Python values, ready for JSON."""
        return {
            "identity": self.identity,
            "distance": self.distance,
            "similarity": self.similarity,
            "threshold": self.threshold,
            "similarity_metric": self.metric,
            "far": self.far,
            "threshold_source": self.threshold_source,
            "probability": self.probability,
            "people": self.people,
            "fpir": self.fpir,
            "faces_found": self.faces_found,
            "face": None if self.face is None else self.face.to_dict(),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
        }
