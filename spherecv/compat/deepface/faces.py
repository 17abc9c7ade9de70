"""Faces as deepface answers them: areas, crops, embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice
from spherecv.compat.deepface.errors import DataTypeError, DimensionMismatchError, deepface_errors
from spherecv.compat.deepface.stages import Stages
from spherecv.images import load_image
from spherecv.pipeline import WhichFace
from spherecv.records import EmbeddedFace, Face

Image: TypeAlias = NDArray[np.uint8]
Area: TypeAlias = dict[str, Any]

NO_AREA: Area = dict.fromkeys(("x", "y", "w", "h", "left_eye", "right_eye"))
"""The area of an embedding that was given in place of an image."""
_WITH_FIVE = ("retinaface",)
"""Detectors of which deepface answers nose and mouth too."""


@dataclass(frozen=True)
class Found:
    """A face of one image, embedded."""

    embedded: EmbeddedFace
    area: Area
    confidence: float

    @property
    def embedding(self) -> NDArray[np.float32]:
        """What the model made of it."""
        return self.embedded.embedding


def loaded(source: Any, where: str = "") -> Image:
    """Load an image as deepface does, arrays as BGR; raises `ImgNotFound`."""
    with deepface_errors(where):
        return load_image(source)


def images_of(source: Any) -> tuple[list[Any], bool]:
    """The images that a caller gave, and whether they were several: a list, or an array of four axes."""
    if isinstance(source, list) or (isinstance(source, np.ndarray) and source.ndim == 4):
        return list(source), True
    return [source], False


def located(stages: Stages, image: Image, *, enforce: bool, most: int | None = None, where: str = "") -> list[Face]:
    """Find the faces of an image: the largest ones where a number is given; none for an image taken as a crop.

    Raises
    ------
    FaceNotDetected
        There is none, with `enforce`.
    """
    from spherecv.errors import NoFaceError

    if stages.skip:
        return []
    found = stages.pipeline.detector.detect(image)
    if not found and enforce:
        with deepface_errors(where):
            raise NoFaceError(
                f"no face found in an image of {image.shape[1]}x{image.shape[0]} by {stages.pipeline.detector_name}: "
                "take a clearer one, or pass enforce_detection=False for ready-made crops"
            )
    if most is None or most >= len(found):
        return found
    return sorted(found, key=lambda face: face.width * face.height, reverse=True)[:most]


def embedded(
    stages: Stages, source: Any, *, enforce: bool, most: int | None = None, where: str = ""
) -> list[Found]:
    """Find and embed the faces of an image; one that has none, where that is let pass, is taken as a crop."""
    image = loaded(source, where)
    faces = located(stages, image, enforce=enforce, most=most, where=where)
    if not faces:
        (whole,) = stages.pipeline.faces(image, face=_WHOLE)
        return [Found(whole, whole_area(image), 0.0)]
    crops = stages.pipeline.aligner.align(image, faces)
    rows = stages.pipeline.embedder.embed(crops)
    return [
        Found(EmbeddedFace(face, crop, row), area_of(face, image, stages.detector), round(float(face.score), 2))
        for face, crop, row in zip(faces, crops, rows, strict=True)
    ]


_WHOLE: WhichFace = "whole"


def ready_embedding(values: Sequence[Any], stages: Stages, number: int) -> NDArray[np.float32]:
    """Take a list for an embedding that was made before; raises `DataTypeError` or `DimensionMismatchError`."""
    if not all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values):
        raise DataTypeError(f"img{number}_path is a list, and so must be an embedding: numbers only")
    height, width = stages.pipeline.aligner.size
    size = stages.pipeline.embedder.embed(np.zeros((1, height, width, 3), np.uint8)).shape[1]
    if len(values) != size:
        raise DimensionMismatchError(
            f"img{number}_path must be an embedding of {size} numbers, as {stages.model} makes them, but got "
            f"{len(values)}"
        )
    try:
        with np.errstate(over="ignore"):
            row = np.asarray(values, np.float32)
    except OverflowError:  # an int beyond any float
        row = np.full(size, np.inf, np.float32)
    if not np.isfinite(row).all():
        raise DataTypeError(f"img{number}_path is an embedding with numbers that are NaN, infinite or too large")
    return row


def whole_area(image: Image) -> Area:
    """The area of an image that is taken as a crop."""
    return {**NO_AREA, "x": 0, "y": 0, "w": int(image.shape[1]), "h": int(image.shape[0])}


def area_of(face: Face, image: Image, detector: str) -> Area:
    """The box in whole pixels within the image, and the eyes as the person has them: left is on the image's right."""
    height, width = image.shape[:2]
    left, top, right, bottom = (float(value) for value in face.box)
    x, y = max(0, int(left)), max(0, int(top))
    area: Area = {"x": x, "y": y, "w": max(0, min(width, int(right)) - x), "h": max(0, min(height, int(bottom)) - y)}
    points = [] if face.landmarks is None else [_inside(point, width, height) for point in face.landmarks]
    five = dict(zip(("right_eye", "left_eye", "nose", "mouth_right", "mouth_left"), points, strict=False))
    area |= {name: five.get(name) for name in ("left_eye", "right_eye")}
    if detector in _WITH_FIVE:
        area |= {name: five[name] for name in ("nose", "mouth_left", "mouth_right") if name in five}
    return area


def cut(face: Face, image: Image, *, align: bool, expand: float) -> Image:
    """Cut a face out by its box, wider by `expand` per cent, turned so that the eyes lie level where `align` asks."""
    import cv2

    most = float(np.hypot(*image.shape[:2]))  # beyond it all is black
    wider, higher = (min(float(side) * (1 + expand / 100), most) for side in (face.width, face.height))
    across, down = face.center
    if align and face.landmarks is not None:
        right_eye, left_eye = np.asarray(face.landmarks, np.float64)[:2]
        angle = float(np.degrees(np.arctan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0])))
        turn = cv2.getRotationMatrix2D((across, down), angle, 1.0)
        size = (max(1, round(wider)), max(1, round(higher)))
        turn[:, 2] += np.array((wider / 2 - across, higher / 2 - down))
        return np.asarray(cv2.warpAffine(image, turn, size), np.uint8)
    top, bottom = max(0, round(down - higher / 2)), round(down + higher / 2)
    left, right = max(0, round(across - wider / 2)), round(across + wider / 2)
    return image[top:bottom, left:right]


def coloured(image: Image, color: str, *, normalize: bool) -> NDArray[Any]:
    """A crop in the caller's colours, as float 0..1 or uint8."""
    import cv2

    check_choice("color_face", color, ("rgb", "bgr", "gray"))
    shown: NDArray[Any] = image
    if color == "rgb":
        shown = np.ascontiguousarray(image[:, :, ::-1])
    elif color == "gray":
        shown = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    return shown / 255 if normalize else shown


def nonempty(crops: Iterator[tuple[Face, Image]]) -> Iterator[tuple[Face, Image]]:
    """Those that have pixels: a box may lie outside its image."""
    return (pair for pair in crops if pair[1].size)


def _inside(point: Any, width: int, height: int) -> tuple[int, int] | None:
    x, y = int(point[0]), int(point[1])
    return (x, y) if 0 <= x < width and 0 <= y < height else None
