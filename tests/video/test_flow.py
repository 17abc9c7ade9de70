from __future__ import annotations

import cv2
import numpy as np
import pytest

from spherecv.records import Face
from spherecv.video.flow import Flow

POINTS = np.array([[180, 130], [220, 130], [200, 150], [182, 170], [218, 170]], np.float32)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rough = np.random.default_rng(0).integers(0, 255, (40, 53, 3)).astype(np.uint8)
    return cv2.resize(rough, (640, 480), interpolation=cv2.INTER_CUBIC)


@pytest.mark.runtime
@pytest.mark.parametrize(("shift", "size", "turn"), [((7, -4), 1.0, 0), ((0, 0), 1.06, 0), ((-3, 2), 0.97, 4)])
def test_a_face_moves_as_the_picture_does(picture, shift, size, turn) -> None:
    move = cv2.getRotationMatrix2D((200.0, 150.0), turn, size)
    move[:, 2] += shift
    after = cv2.warpAffine(picture, move, (640, 480), borderMode=cv2.BORDER_REPLICATE)
    flow = Flow()
    flow.start(picture)
    (moved,) = flow.follow(after, [Face((150, 90, 250, 210), 0.9, POINTS, 0.8)])
    assert moved.center == pytest.approx((200 + shift[0], 150 + shift[1]), abs=0.7)
    assert moved.width == pytest.approx(100 * size, rel=0.02)
    np.testing.assert_allclose(moved.landmarks, POINTS @ move[:, :2].T + move[:, 2], atol=0.7)
    assert moved.quality is None


@pytest.mark.runtime
def test_large_frames_are_followed_in_their_own_pixels(picture) -> None:
    large = cv2.resize(picture, (1920, 1440))
    flow = Flow()
    flow.start(large)
    (moved,) = flow.follow(np.roll(large, (9, 21), (0, 1)), [Face((600, 300, 900, 700))])
    assert moved.box == pytest.approx([621, 309, 921, 709], abs=2)


@pytest.mark.runtime
def test_what_cannot_be_followed_is_lost(picture) -> None:
    face = Face((150, 90, 250, 210))
    flow = Flow()
    assert flow.follow(picture, [face]) == [None]  # there is no frame before
    assert flow.follow(picture, []) == []
    other = np.random.default_rng(1).integers(0, 255, picture.shape).astype(np.uint8)
    assert flow.follow(other, [face]) == [None]  # a cut
    flow.start(picture)
    assert flow.follow(picture[:400], [face]) == [None]  # another size
    assert flow.follow(np.full_like(picture[:400], 90), [face]) == [None]  # the lid is on
    for line in (np.zeros((1, 3000, 3), np.uint8), np.zeros((3000, 1, 3), np.uint8)):
        flow.start(line)
        assert flow.follow(line, [face]) == [None]
