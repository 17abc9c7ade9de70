from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from spherecv.quality import face_quality, frontalness
from spherecv.records import Face
from spherecv.zoo.recipe import TEMPLATES

SPHEREFACE_TEMPLATE = np.array(TEMPLATES["sphereface"])


def test_quality_falls_with_blur_size_turn_and_score() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    photo = cv2.GaussianBlur(photo, (0, 0), 1.5)
    good = Face(box=(50, 50, 250, 250), score=0.99, landmarks=SPHEREFACE_TEMPLATE + 60)
    best = face_quality(photo, good)
    assert 0.5 < best <= 1.0
    turned = good.landmarks.copy()
    turned[2, 0] += 14
    assert face_quality(cv2.GaussianBlur(photo, (0, 0), 6), good) < best
    assert face_quality(photo, replace(good, box=(100, 100, 130, 130))) < best
    assert face_quality(photo, replace(good, landmarks=turned)) < best
    assert face_quality(photo, replace(good, score=0.5)) < best


def test_a_face_outside_the_image_has_no_quality() -> None:
    assert face_quality(np.zeros((50, 50, 3), np.uint8), Face(box=(60, 60, 90, 90))) == 0.0


def test_frontalness_is_one_for_the_template_and_does_not_depend_on_the_angle() -> None:
    frontal = frontalness(SPHEREFACE_TEMPLATE)
    assert frontal > 0.95
    c, s = np.cos(0.7), np.sin(0.7)
    rotation = np.array([[c, -s], [s, c]])
    assert np.isclose(frontalness(3 * SPHEREFACE_TEMPLATE @ rotation), frontal)
    assert frontalness(np.ones((5, 2))) == 0.0


def rated_plainly(photo: np.ndarray, face: Face) -> float:
    """The formula of `face_quality`, with its numbers written out."""
    x1, y1, x2, y2 = face.box.tolist()
    left, top = max(0, math.floor(x1)), max(0, math.floor(y1))
    patch = photo[top : max(0, math.ceil(y2)), left : max(0, math.ceil(x2))]
    kind = cv2.INTER_AREA if patch.shape[0] > 64 and patch.shape[1] > 64 else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(patch, (64, 64), interpolation=kind), cv2.COLOR_BGR2GRAY)
    variance = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    factors = [min(1, (x2 - x1) / 112, (y2 - y1) / 112), variance / (variance + 100), face.score]
    if face.landmarks is not None and len(face.landmarks) == 5:
        factors.append(frontalness(face.landmarks))
    return math.prod(factors) ** (1 / len(factors))


@pytest.mark.parametrize(
    "box",
    [
        (50, 40, 250, 260),
        (50.5, 40.5, 130.25, 160.75),
        (40, 50, 104, 200),  # as wide as the patch
        (40, 50, 200, 110),
        (10, 20, 30, 50),
        (-30, -20, 60, 90),
        (200, 250, 400, 420),
        (90, 100, 92, 140),  # the narrowest that is looked at
        (90, 100, 130, 102),
    ],
)
def test_quality_is_the_formula(box: tuple[float, ...]) -> None:
    photo = np.random.default_rng(2).integers(0, 256, (300, 280, 3), np.uint8)
    photo = cv2.GaussianBlur(photo, (0, 0), 2)
    for landmarks in (None, SPHEREFACE_TEMPLATE + 3, np.array([[3.0, 4], [5, 6]])):
        face = Face(box=box, score=0.75, landmarks=landmarks)
        assert face_quality(photo, face) == pytest.approx(rated_plainly(photo, face), rel=1e-6)


def test_a_face_of_one_pixel_across_has_no_quality() -> None:
    photo = np.random.default_rng(3).integers(0, 256, (60, 60, 3), np.uint8)
    for box in ((20, 20, 21, 50), (20, 20, 50, 21), (-10, 10, 1, 50), (59, 10, 90, 50), (10, 59, 50, 90)):
        assert face_quality(photo, Face(box=box, score=1.0)) == 0.0


@pytest.mark.parametrize(
    ("landmarks", "expected"),
    [
        ([(0, 0), (10, 0), (5, 10), (2, 20), (8, 20)], 1.0),
        ([(0, 0), (10, 0), (8, 10), (2, 20), (8, 20)], 0.4),
        ([(0, 0), (10, 0), (2, 4), (2, 20), (8, 20)], 0.4),
        ([(40, 70), (40, 80), (60, 76), (60, 72), (60, 78)], 0.8),  # the head lies on its side
        ([(0, 0), (10, 0), (30, 10), (2, 20), (8, 20)], 0.0),
        ([(0, 0), (1, 0), (0.75, 0.5), (0, 1), (1, 1)], 0.5),  # eyes, and mouth, one pixel apart
        ([(5, 0), (5, 0), (5, 10), (2, 20), (8, 20)], 0.0),
        ([(0, 0), (10, 0), (5, 10), (5, 0), (5, 0)], 0.0),
    ],
)
def test_frontalness_is_the_formula(landmarks: list[tuple[float, float]], expected: float) -> None:
    for points in (landmarks, np.array(landmarks, np.float32)):
        assert frontalness(points) == pytest.approx(expected)
    if np.array(landmarks).dtype == int:
        assert frontalness(np.array(landmarks, np.uint8) + np.uint8(170)) == pytest.approx(expected)  # no overflow
