"""The functions of the face_recognition package, on SphereCV's models: change the import, keep the code.

    import spherecv.compat.face_recognition as face_recognition

Images are RGB, boxes `(top, right, bottom, left)`, and a distance of at most 0.6 is the same person: encodings are
scaled so that the threshold measured for the model lies there. Encodings that were stored with dlib cannot be compared
with these: make them again. Its two commands are `python -m spherecv.compat.face_recognition KNOWN_FOLDER IMAGE` and
`python -m spherecv.compat.face_recognition.face_detection IMAGE`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.checks import batch_of, check_choice, check_count, check_distance, plain_number, shown
from spherecv.errors import InvalidArgumentError
from spherecv.images import load_image

if TYPE_CHECKING:
    from spherecv.pipeline import FacePipeline
    from spherecv.records import Face
    from spherecv.verify import FaceVerifier

Location = tuple[int, int, int, int]
TOLERANCE = 0.6
_SAME_FACE = 0.3
"""Overlap (intersection over union) from which a given box and a found face are one."""
_MARGIN = 0.4


@dataclass
class _Engine:
    pipeline: FacePipeline
    scale: float


_lock = threading.Lock()
_engine: _Engine | None = None


def use(verifier: FaceVerifier) -> None:
    """Choose model, detector and threshold for all functions here; by default those of `FaceVerifier()`.

    Parameters
    ----------
    verifier : FaceVerifier
        With the cosine metric. Its threshold is what the tolerance 0.6 will mean.

    Raises
    ------
    InvalidArgumentError
        A verifier with another metric.
    MissingThresholdError
        It has no threshold.
    """
    global _engine
    if verifier.metric != "cosine":
        raise InvalidArgumentError(f"face_recognition needs a verifier with metric='cosine', not {verifier.metric!r}")
    threshold = verifier.threshold.value
    if not 0 < threshold <= 2:
        raise InvalidArgumentError(f"a cosine threshold lies above 0 and up to 2, but this one is {threshold}")
    # |a - b| = s sqrt(2 d) for encodings of length s and cosine distance d.
    with _lock:
        _engine = _Engine(verifier.pipeline, TOLERANCE / float(np.sqrt(2 * threshold)))


def load_image_file(file: str | IO[bytes], mode: str = "RGB") -> NDArray[np.uint8]:
    """Load an image as RGB of shape (H, W, 3), or with `mode="L"` as grey of shape (H, W); a JPEG may break off."""
    check_choice("mode", mode, ("RGB", "L"))
    image = load_image(file, truncated=True)  # as face_recognition sets Pillow
    if mode == "RGB":
        return np.ascontiguousarray(image[:, :, ::-1])
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def face_locations(img: NDArray[Any], number_of_times_to_upsample: int = 1, model: str = "hog") -> list[Location]:
    """Find faces.

    Parameters
    ----------
    img : ndarray of uint8, shape (H, W, 3)
        RGB.
    number_of_times_to_upsample : int
        Accepted and not needed: small faces are found by the detector's own pyramid.
    model : str
        Accepted: `"hog"` and `"cnn"` both stand for SphereCV's detector.

    Returns
    -------
    list of (top, right, bottom, left)
        In pixels, within the image.
    """
    _check_ignored(number_of_times_to_upsample, model, ("hog", "cnn"))
    image = load_image(img, color="rgb")
    return [_location(face, image.shape) for face in _use_default().pipeline.detector.detect(image)]


def batch_face_locations(
    images: Sequence[NDArray[Any]], number_of_times_to_upsample: int = 1, batch_size: int = 128
) -> list[list[Location]]:
    """Find the faces of several images; `batch_size` is accepted and not needed."""
    _check_ignored(batch_size, "cnn", ("cnn",))
    return [face_locations(image, number_of_times_to_upsample, "cnn") for image in batch_of("images", images)]


def face_landmarks(
    face_image: NDArray[Any], face_locations: Sequence[Sequence[int]] | None = None, model: str = "large"
) -> list[dict[str, list[tuple[int, int]]]]:
    """Find the five landmarks of faces: dlib has 5 or 68 points, SphereCV's detectors have these.

    Parameters
    ----------
    face_image : ndarray of uint8, shape (H, W, 3)
        RGB.
    face_locations : list of (top, right, bottom, left), optional
        Which faces; by default all. Of a location where no face is found, the entry is empty.
    model : {"large", "small"}
        With `"large"` the corners of the mouth stand in both lips; `"small"` has eyes and nose only.

    Returns
    -------
    list of dict
        `left_eye` and `right_eye` as seen in the image, one point (x, y) each, `nose_tip`, `top_lip`, `bottom_lip`.
    """
    check_choice("model", model, ("large", "small"))
    image = load_image(face_image, color="rgb")
    found = _use_default().pipeline.detector.detect(image)
    if face_locations is None:
        return [_named_points(face, model) for face in found]
    answers: list[dict[str, list[tuple[int, int]]]] = []
    for top, right, bottom, left in _boxes(face_locations):
        near = [face for face in found if _overlap(face, (left, top, right, bottom)) >= _SAME_FACE]
        answers.append(_named_points(near[0], model) if near else {})
    return answers


def _named_points(face: Face, model: str) -> dict[str, list[tuple[int, int]]]:
    points = [(round(float(x)), round(float(y))) for x, y in np.asarray(face.landmarks)]
    named = {"left_eye": points[:1], "right_eye": points[1:2], "nose_tip": points[2:3]}
    return named if model == "small" else {**named, "top_lip": points[3:], "bottom_lip": points[3:]}


def face_encodings(
    face_image: NDArray[Any],
    known_face_locations: Sequence[Sequence[int]] | None = None,
    num_jitters: int = 1,
    model: str = "small",
) -> list[NDArray[np.float32]]:
    """Encode the faces of an image.

    Parameters
    ----------
    face_image : ndarray of uint8, shape (H, W, 3)
        RGB.
    known_face_locations : list of (top, right, bottom, left), optional
        Which faces; by default all that are found.
    num_jitters : int
        Encode the mean of so many crops, shifted, scaled and turned a little, always in the same way; so many times
        slower. With 1 the crop as it is.
    model : str
        Accepted: `"small"` and `"large"` are one here.

    Returns
    -------
    list of ndarray of float32, shape (D,)
        Of the model's size, not dlib's 128.
    """
    check_count("num_jitters", num_jitters)
    check_choice("model", model, ("small", "large"))
    engine = _use_default()
    image = load_image(face_image, color="rgb")
    found = engine.pipeline.detector.detect(image)
    if known_face_locations is None:
        crops = engine.pipeline.aligner.align(image, found) if found else None
    else:
        crops = _crops_at(engine.pipeline, image, found, _boxes(known_face_locations))
    if crops is None or not len(crops):
        return []
    rows = _embedded(engine.pipeline, crops, num_jitters)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return list(rows * (engine.scale / np.where(lengths > 0, lengths, 1)).astype(np.float32))


def face_distance(face_encodings: ArrayLike, face_to_compare: ArrayLike) -> NDArray[np.float64]:
    """Euclidean distances of encodings to one; 0.6 is the model's threshold. Shape (N,)."""
    known = _numbers(face_encodings)
    if known.ndim and not len(known):
        return np.empty(0)
    one = _numbers(face_to_compare)
    if known.ndim != 2 or known.shape[1:] != one.shape:
        raise InvalidArgumentError(f"encodings must have equal sizes, but got {known.shape} and {one.shape}")
    return np.asarray(np.linalg.norm(known - one, axis=1))


def compare_faces(
    known_face_encodings: ArrayLike, face_encoding_to_check: ArrayLike, tolerance: float = TOLERANCE
) -> list[bool]:
    """Tell which encodings are of the same person as one."""
    limit = check_distance("tolerance", tolerance)
    return [bool(near) for near in face_distance(known_face_encodings, face_encoding_to_check) <= limit]


def _use_default() -> _Engine:
    if _engine is None:
        from spherecv.verify import FaceVerifier

        use(FaceVerifier())
    assert _engine is not None  # noqa: S101 - for the type checker
    return _engine


def _embedded(pipeline: FacePipeline, crops: NDArray[np.uint8], jitters: int) -> NDArray[np.float32]:
    """Embeddings of crops, or the mean directions of those of several near crops each."""
    if jitters == 1:
        return pipeline.embedder.embed(crops)
    means = []
    for crop in crops:
        rows = pipeline.embedder.embed(_jittered(crop, jitters))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        means.append((rows / np.where(lengths > 0, lengths, 1)).mean(axis=0))
    return np.stack(means)


def _jittered(crop: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """The crop, and others of the same face with landmarks a few pixels off, as a detector would put them."""
    import cv2

    height, width = crop.shape[:2]
    random = np.random.default_rng(0)  # the same crops for every face, so that an encoding can be made again
    crops = [crop]
    for angle, scale, *shift in random.uniform((-3, 0.97, -1.5, -1.5), (3, 1.03, 1.5, 1.5), (count - 1, 4)):
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
        turn[:, 2] += shift
        moved = cv2.warpAffine(crop, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
        crops.append(np.asarray(moved, np.uint8))
    return np.stack(crops)


def _boxes(locations: Any) -> list[Location]:
    """Whole pixels of the locations given, in any iterable."""
    boxes = []
    rows: Any = locations.tolist() if isinstance(locations, np.ndarray) else locations
    for location in batch_of("the locations", rows):
        try:
            top, right, bottom, left = np.asarray(location, np.float64).tolist()
            boxes.append((int(top), int(right), int(bottom), int(left)))
        except (TypeError, ValueError, OverflowError):
            given = shown(location) if not isinstance(location, tuple | list) else shown(str(location))
            raise InvalidArgumentError(f"a location is (top, right, bottom, left), but got {given}") from None
    return boxes


def _numbers(encodings: Any) -> NDArray[np.float64]:
    try:
        values = np.asarray(encodings, np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.array(np.nan)
    if encodings is None or not np.isfinite(values).all():
        raise InvalidArgumentError("encodings must hold finite numbers, equally many in each, as face_encodings makes")
    return values


def _crops_at(
    pipeline: FacePipeline, image: NDArray[np.uint8], found: Sequence[Face], locations: Sequence[Location]
) -> NDArray[np.uint8]:
    height, width = pipeline.aligner.size
    crops = np.empty((len(locations), height, width, 3), np.uint8)
    for number, (top, right, bottom, left) in enumerate(locations):
        overlaps = [_overlap(face, (left, top, right, bottom)) for face in found]
        if overlaps and max(overlaps) >= _SAME_FACE:
            crops[number] = pipeline.aligner.align(image, [found[int(np.argmax(overlaps))]])[0]
        else:
            crops[number] = _crop_of_box(pipeline, image, (left, top, right, bottom))
    return crops


def _crop_of_box(
    pipeline: FacePipeline, image: NDArray[np.uint8], box: tuple[int, int, int, int]
) -> NDArray[np.uint8]:
    """A face that was given and not found: looked for again around its box, and else taken as it is."""
    import cv2

    left, top, right, bottom = box
    across, down = int(_MARGIN * (right - left)), int(_MARGIN * (bottom - top))
    around = image[max(0, top - down) : bottom + down, max(0, left - across) : right + across]
    inside = image[max(0, top) : bottom, max(0, left) : right]
    if not inside.size:
        raise InvalidArgumentError(f"the location {(top, right, bottom, left)} lies outside the image")
    found = pipeline.detector.detect(np.ascontiguousarray(around))
    if found:
        nearest = max(found, key=lambda face: face.width * face.height)
        crop: NDArray[np.uint8] = pipeline.aligner.align(np.ascontiguousarray(around), [nearest])[0]
        return crop
    height, width = pipeline.aligner.size
    return np.asarray(cv2.resize(inside, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _overlap(face: Face, box: tuple[int, int, int, int]) -> float:
    left, top = max(face.box[0], box[0]), max(face.box[1], box[1])
    right, bottom = min(face.box[2], box[2]), min(face.box[3], box[3])
    shared = max(0.0, float(right - left)) * max(0.0, float(bottom - top))
    return shared / (face.width * face.height + (box[2] - box[0]) * (box[3] - box[1]) - shared)


def _location(face: Face, shape: tuple[int, ...]) -> Location:
    left, top, right, bottom = (round(float(value)) for value in face.box)
    return max(0, top), min(shape[1], right), min(shape[0], bottom), max(0, left)


def _check_ignored(count: int, model: str, models: tuple[str, ...]) -> None:
    number = plain_number(count)
    if not isinstance(number, int) or number < 0:
        raise InvalidArgumentError(f"a count must be a whole number from 0, but got {shown(count)}")
    check_choice("model", model, models)
