from __future__ import annotations

import numpy as np
import pytest

from spherecv import FaceDetector
from spherecv.detect.base import Detections
from spherecv.detect.turns import ByCrop, ByNets, ByScore, with_turns

IMAGE = np.zeros((30, 50, 3), np.uint8)
IMAGE[5:15, 10:20] = 200
IMAGE[5:8, 10:13] = 255  # the corner that says how the square is turned
NOBODY = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32))


class Judge:
    """A net that prefers the turns given, one a call, then upright crops."""

    def __init__(self, side: int, *turns: int) -> None:
        self.side, self.turns, self.calls = side, list(turns), 0

    def run(self, pictures: np.ndarray) -> object:
        self.calls += 1
        assert pictures.shape == (4, 3, self.side, self.side)
        turn = self.turns.pop(0) if self.turns else 0

        class Said:
            scores = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]][:, [turn, turn]]

        return Said


def seen(image: np.ndarray, score: float) -> Detections:
    """The square, as a detector would find it, with the bright corner for landmarks."""
    ys, xs = np.nonzero(image[..., 0])
    edges = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    ys, xs = np.nonzero(image[..., 0] == 255)
    corner = [(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2]
    return Detections(np.float32([edges]), np.float32([score]), np.float32([[corner] * 5]))


def nets(rnet: Judge, onet: Judge) -> ByNets:
    return ByNets(rnet, onet)  # type: ignore[arg-type]


def finds(*scores: float):
    """A detector that finds the square in the images shown, one after the other, with these scores; 0 for nobody."""
    left = list(scores)
    return lambda images: [seen(image, score) if (score := left.pop(0)) else NOBODY for image in images]


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize(("score", "third"), [(0.995, True), (0.999, False)])
def test_a_lying_face_comes_back_in_the_coordinates_of_the_image(turn: int, score: float, third: bool) -> None:
    found = seen(IMAGE, score)
    rnet, onet = (Judge(24), Judge(48, turn)) if third else (Judge(24, turn), Judge(48))
    (answer,) = with_turns(nets(rnet, onet), finds(0.9999), [IMAGE], [found])
    assert answer.scores.tolist() == [np.float32(0.9999)]
    np.testing.assert_allclose(answer.boxes, found.boxes)
    np.testing.assert_allclose(answer.landmarks, found.landmarks)
    assert onet.calls == third


def test_an_upright_or_certain_face_stays_and_a_worse_one_is_not_taken() -> None:
    found, certain = seen(IMAGE, 0.995), seen(IMAGE, 0.9999)
    rnet, onet = Judge(24), Judge(48)
    assert with_turns(nets(rnet, onet), finds(), [IMAGE], [certain])[0] is certain
    assert rnet.calls == onet.calls == 0
    assert with_turns(nets(rnet, onet), finds(), [IMAGE], [found])[0] is found
    assert with_turns(nets(rnet, Judge(48, 1)), finds(0.994), [IMAGE], [found])[0] is found


def test_a_face_that_lies_in_the_turned_image_too_is_not_taken() -> None:
    found = seen(IMAGE, 0.995)
    assert with_turns(nets(Judge(24, 2), Judge(48, 1)), finds(0.9999), [IMAGE], [found])[0] is found


def test_nobody_and_doubtful_faces_are_looked_at_in_all_turns() -> None:
    doubtful = seen(IMAGE, 0.95)
    rule = nets(Judge(24), Judge(48))
    assert rule.asked(IMAGE, NOBODY).keys() == rule.asked(IMAGE, doubtful).keys() == {1, 2, 3}
    # Turns 1, 3, 2: the most certain of them, if it is certain enough.
    (answer,) = with_turns(rule, finds(0.992, 0.999, 0.0), [IMAGE], [NOBODY])
    assert answer.scores.tolist() == [np.float32(0.999)]
    assert with_turns(rule, finds(0.98, 0.0, 0.98), [IMAGE], [NOBODY])[0] is NOBODY
    assert with_turns(rule, finds(0.99, 0.0, 0.99), [IMAGE], [doubtful])[0] is doubtful


def test_images_without_anybody_are_searched_in_their_own_way() -> None:
    searched = []

    def search(images):
        searched.append(len(images))
        return [NOBODY] * len(images)

    with_turns(nets(Judge(24), Judge(48, 1)), finds(0.9999), [IMAGE] * 3, [NOBODY, seen(IMAGE, 0.995), NOBODY], search)
    assert searched == [2, 2, 2]


def test_beside_a_certain_face_only_the_lying_one_is_replaced() -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    small = [2.0, 2.0, 12.0, 12.0]
    lying = [20.0, 20.0, 50.0, 50.0]
    points = np.zeros((2, 5, 2), np.float32)
    found = Detections(np.float32([small, lying]), np.float32([0.9999, 0.995]), points)

    def look(images):
        turned = np.float32([[10, 20, 40, 50], [0, 50, 8, 58]])
        return [Detections(turned, np.float32([0.9998, 0.9997]), points)]

    (answer,) = with_turns(nets(Judge(24), Judge(48, 1)), look, [image], [found])
    np.testing.assert_allclose(answer.boxes, [small, lying])
    assert answer.scores.tolist() == [np.float32(0.9999), np.float32(0.9998)]


def test_by_score_every_turn_is_tried_below_the_limit() -> None:
    rule = ByScore(0.9, 0.906)
    sure, unsure = seen(IMAGE, 0.91), seen(IMAGE, 0.8)
    assert with_turns(rule, finds(), [IMAGE], [sure])[0] is sure
    (answer,) = with_turns(rule, finds(0.85, 0.95, 0.92), [IMAGE], [unsure])
    assert answer.scores.tolist() == [np.float32(0.95)]
    assert with_turns(rule, finds(0.79, 0.0, 0.7), [IMAGE], [unsure])[0] is unsure
    assert with_turns(rule, finds(0.85, 0.0, 0.0), [IMAGE], [NOBODY])[0] is NOBODY


def test_by_score_a_nearly_sure_face_may_stand_on_its_head() -> None:
    nearly = seen(IMAGE, 0.903)
    (answer,) = with_turns(ByScore(0.9, 0.906), finds(0.92), [IMAGE], [nearly])
    assert answer.scores.tolist() == [np.float32(0.92)]


def test_where_it_costs_nothing_the_nets_are_asked_about_certain_faces_too() -> None:
    certain = seen(IMAGE, 0.9997)
    rule = ByNets(Judge(24, 3), Judge(48), 1.0)  # type: ignore[arg-type]
    (answer,) = with_turns(rule, finds(0.9999), [IMAGE], [certain])
    assert answer.scores.tolist() == [np.float32(0.9999)]


def crop_rule(*turns: int) -> ByCrop:
    """Both nets say the same."""
    return ByCrop(Judge(24, *turns), Judge(48, *turns), 0.99995)  # type: ignore[arg-type]


def test_boxes_of_another_detector_are_turned_as_both_nets_say() -> None:
    sure, doubtful = seen(IMAGE, 0.9999), seen(IMAGE, 0.6)
    assert with_turns(crop_rule(), finds(), [IMAGE], [sure])[0] is sure
    certain = seen(IMAGE, 0.99996)
    assert with_turns(crop_rule(3), finds(), [IMAGE], [certain])[0] is certain
    for score in (0.99996, 0.995):  # a little less certain than the lying one is enough
        (answer,) = with_turns(crop_rule(3), finds(score), [IMAGE], [sure])
        assert answer.scores.tolist() == [np.float32(score)]
    assert with_turns(crop_rule(3), finds(0.98), [IMAGE], [sure])[0] is sure
    assert with_turns(crop_rule(3, 1), finds(0.9999), [IMAGE], [sure])[0] is sure  # it lies there too
    (answer,) = with_turns(crop_rule(), finds(0.7, 0.999, 0.8), [IMAGE], [doubtful])
    assert answer.scores.tolist() == [np.float32(0.999)]


def test_a_crop_that_is_a_face_in_no_turn_is_looked_at_in_all() -> None:
    rule = ByCrop(Judge(24, 1), Judge(48, 2), 0.99995)  # type: ignore[arg-type]
    assert rule.asked(IMAGE, seen(IMAGE, 0.9999)).keys() == {1, 2, 3}


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_faces_of_turned_photographs_are_those_of_the_upright_ones(lfw: list[np.ndarray], quarter: int) -> None:
    detector = FaceDetector()
    missing = 0
    for image, turned in ((image, np.ascontiguousarray(np.rot90(image, -quarter))) for image in lfw):
        upright, lying = detector.detect(image)[0], detector.detect(turned)
        missing += not lying
        for face in lying[:1]:
            assert face.turn == 90 * quarter
            height, width = image.shape[:2]
            x, y = (face.landmarks + 0.5).T
            back = {1: (y, height - x), 2: (width - x, height - y), 3: (width - y, x)}[quarter]
            np.testing.assert_allclose(np.stack(back, axis=1) - 0.5, upright.landmarks, atol=0.5)
    assert missing <= len(lfw) // 20
