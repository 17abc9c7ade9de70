from __future__ import annotations

import numpy as np
import pytest

from spherecv.detect.base import Detections
from spherecv.detect.turns import with_turns

IMAGE = np.zeros((30, 50, 3), np.uint8)
IMAGE[5:15, 10:20] = 200
IMAGE[5:8, 10:13] = 255  # the corner that says how the square is turned


class Judge:
    """A third net that prefers one turn of the crop."""

    def __init__(self, turn: int) -> None:
        self.turn, self.calls = turn, 0

    def run(self, pictures: np.ndarray) -> object:
        self.calls += 1
        assert pictures.shape == (4, 3, 48, 48)

        class Said:
            scores = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]][:, [self.turn, self.turn]]

        return Said


def seen(image: np.ndarray, score: float) -> Detections:
    """The square, as a detector would find it, with the bright corner for landmarks."""
    ys, xs = np.nonzero(image[..., 0])
    edges = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    ys, xs = np.nonzero(image[..., 0] == 255)
    corner = [(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2]
    return Detections(np.float32([edges]), np.float32([score]), np.float32([[corner] * 5]))


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_lying_face_comes_back_in_the_coordinates_of_the_image(turn: int) -> None:
    found = seen(IMAGE, 0.95)
    answer = with_turns(Judge(turn), lambda image: seen(image, 0.99), IMAGE, found)  # type: ignore[arg-type]
    assert answer.scores[0] == np.float32(0.99)
    np.testing.assert_allclose(answer.boxes, found.boxes)
    np.testing.assert_allclose(answer.landmarks, found.landmarks)


def test_an_upright_or_certain_face_stays_and_a_worse_one_is_not_taken() -> None:
    found, certain = seen(IMAGE, 0.95), seen(IMAGE, 0.9999)
    judge = Judge(1)
    assert with_turns(judge, lambda image: seen(image, 0.99), IMAGE, certain) is certain  # type: ignore[arg-type]
    assert judge.calls == 0
    assert with_turns(judge, lambda image: seen(image, 0.94), IMAGE, found) is found  # type: ignore[arg-type]
    assert with_turns(Judge(0), lambda image: seen(image, 0.99), IMAGE, found) is found  # type: ignore[arg-type]
