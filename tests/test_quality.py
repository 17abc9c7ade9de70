from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

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
