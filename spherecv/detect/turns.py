"""Faces that lie on their side or stand on their head, found in the turned image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.detect.base import Detections
from spherecv.detect.crops import as_net_input, cut
from spherecv.detect.nets import NetPool

Image = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
Look = Callable[[Sequence[Image]], list[Detections]]

_TURNS = (1, 3, 2)
# Of 2,400 lying images of LFW the most certain "upright" face of MTCNN scored 0.9988; of 800 upright ones 85 % score
# 0.9995 or more, 96 % 0.998 or more, and 99 % 0.99 or more.
CERTAIN, _LIKELY, _DOUBTFUL = 0.9995, 0.998, 0.99
_BARELY = 0.7
"""Of 500 LFW images 99 % have more upright, as both nets' scores multiplied."""
_AROUND = 1.1
_SMALL, _LARGE = 24, 48
_SAME = 0.3
"""Overlap (intersection over union) from which the face of the turned image is the one that was asked about."""


class TurnRule(Protocol):
    """When to look at a turned image, and what to believe there.

    Attributes
    ----------
    certain : float
        Score of the most certain face from which the image stands upright.
    slack : float
        By how much a face of the turned image may be less certain, once it is confirmed.
    """

    certain: float
    slack: float

    def asked(self, image: Image, found: Detections) -> dict[int, float]:
        """Quarter turns, counter-clockwise, that the image may have, each with the least score of a face there."""

    def confirmed(self, image: Image, found: Detections) -> bool:
        """Whether the most certain face, found in a turned image, is upright in that."""


class ByScore:
    """A rule for detectors whose upright faces are always more certain than what they find in a turned image.

    Parameters
    ----------
    certain : float
        Score from which the image does not lie on its side.
    upright : float
        Score from which it does not stand on its head either.
    """

    slack = 0.0

    def __init__(self, certain: float, upright: float) -> None:
        self.certain = certain
        self._upright = upright

    def asked(self, image: Image, found: Detections) -> dict[int, float]:  # noqa: ARG002 - see TurnRule
        """Every turn, where no face is certain; where no face is found at all, only a certain one is accepted."""
        top = found.scores.max(initial=0)
        if top >= self.certain:
            return {} if top >= self._upright else {2: 0.0}
        return dict.fromkeys(_TURNS, 0.0 if top else self.certain)

    def confirmed(self, image: Image, found: Detections) -> bool:  # noqa: ARG002 - see TurnRule
        """Always: the score has said so."""
        return True


class ByNets:
    """The rule for MTCNN: its second and third net say how a face lies, which costs little.

    Parameters
    ----------
    rnet, onet : NetPool
    asked_below : float
        Score from which the nets are not asked.
    """

    certain = CERTAIN
    slack = 0.0

    def __init__(self, rnet: NetPool, onet: NetPool, asked_below: float = CERTAIN) -> None:
        self._asked_below = asked_below
        self._rnet = rnet
        self._onet = onet

    def asked(self, image: Image, found: Detections) -> dict[int, float]:
        """The turns of the largest and the most certain face, as the nets score them; all, where that is doubtful."""
        if not len(found.scores):
            return dict.fromkeys(_TURNS, _DOUBTFUL)
        largest = int(np.argmax(np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)))
        turns: dict[int, float] = {}
        for suspect in {largest, int(np.argmax(found.scores))}:
            score = float(found.scores[suspect])
            if score < self._asked_below:
                # The third net is the surer one, and takes three times as long.
                net, side = (self._rnet, _SMALL) if score >= _LIKELY else (self._onet, _LARGE)
                turns[_turn_of(net, side, image, found.boxes[suspect])] = score
        if found.scores.max() < _DOUBTFUL:
            turns = {turn: turns.get(turn, _LIKELY) for turn in _TURNS}
        turns.pop(0, None)
        return turns

    def confirmed(self, image: Image, found: Detections) -> bool:
        """Whether the second net says so: MTCNN finds faces in a wrong turn too."""
        return not _turn_of(self._rnet, _SMALL, image, found.boxes[np.argmax(found.scores)])


class ByCrop:
    """The rule for other detectors of upright faces, whose scores hardly tell how a face lies: MTCNN's nets do.

    Parameters
    ----------
    rnet, onet : NetPool
    asked_below : float
        Score from which the nets are not asked.
    """

    certain = CERTAIN
    slack = 0.01

    def __init__(self, rnet: NetPool, onet: NetPool, asked_below: float) -> None:
        self._asked_below = asked_below
        self._rnet = rnet
        self._onet = onet

    def asked(self, image: Image, found: Detections) -> dict[int, float]:
        """The turn of the most certain face, as both nets score it; all, where that or the face is doubtful."""
        top = float(found.scores.max(initial=0))
        if not top or top >= self._asked_below:
            return {} if top else dict.fromkeys(_TURNS, _DOUBTFUL)
        scores = self._scores(image, found)
        if top < _DOUBTFUL or scores.max() < _BARELY:
            return dict.fromkeys(_TURNS, top - self.slack)
        turn = int(np.argmax(scores))
        return {turn: top - self.slack} if turn else {}

    def confirmed(self, image: Image, found: Detections) -> bool:
        """Whether both nets together say so."""
        return not np.argmax(self._scores(image, found))

    def _scores(self, image: Image, found: Detections) -> FloatArray:
        box = found.boxes[np.argmax(found.scores)]
        second, third = _turn_scores(self._rnet, _SMALL, image, box), _turn_scores(self._onet, _LARGE, image, box)
        return second * third


def with_turns(
    rule: TurnRule, look: Look, images: Sequence[Image], answers: Sequence[Detections], search: Look | None = None
) -> list[Detections]:
    """Look again, in the turned image, where nobody was found or a face seems to lie.

    Parameters
    ----------
    rule : TurnRule
    look : callable
        Finds upright faces, as the answers were found.
    images : sequence of ndarray of uint8, shape (H, W, 3)
    answers : sequence of Detections
        What `look` says of the images.
    search : callable, optional
        In place of `look` for images in which nobody was found.

    Returns
    -------
    list of Detections
        The answers, or the faces of the turned image in the coordinates of the image as it came; their landmarks keep
        the order of a face, so that alignment sets them upright.
    """
    asked = [rule.asked(image, found) for image, found in zip(images, answers, strict=True)]
    together = list(answers)
    for quarter in _TURNS:
        for finds, empty in ((look, False), (search or look, True)):
            waiting = (place for place, turns in enumerate(asked) if quarter in turns)
            places = [place for place in waiting if empty == (not len(answers[place].scores))]
            turned = [np.ascontiguousarray(np.rot90(images[place], -quarter)) for place in places]
            for place, image, found in zip(places, turned, finds(turned) if turned else [], strict=True):
                if found.scores.max(initial=0) > asked[place][quarter] and rule.confirmed(image, found):
                    back = _turned_back(found, quarter, *images[place].shape[:2])
                    together[place] = _better(together[place], back, rule)
    return together


def _turn_of(net: NetPool, side: int, image: Image, box: FloatArray) -> int:
    """Quarter turns, counter-clockwise, by which a face is turned, as a net scores its crop in each."""
    return int(np.argmax(_turn_scores(net, side, image, box)))


def _turn_scores(net: NetPool, side: int, image: Image, box: FloatArray) -> FloatArray:
    """How a net scores the crop of a face, turned back by 0 to 3 quarters."""
    middle, half = (box[:2] + box[2:]) / 2, _AROUND * float(np.max(box[2:] - box[:2])) / 2
    square = np.concatenate([middle - half + 1, middle + half]).round()[None].astype(np.float32)
    crop = cut([image], np.zeros(1, np.intp), square, side)[0]
    return np.asarray(net.run(as_net_input(np.stack([np.rot90(crop, -turn) for turn in range(4)]))).scores[:, 1])


def _better(before: Detections, turned: Detections, rule: TurnRule) -> Detections:
    """Whichever has the more certain face; beside an upright face that is certain, only what lies is replaced."""
    top = before.scores.max(initial=0)
    if top < rule.certain:
        return turned if turned.scores.max() > top - rule.slack else before
    shared = _overlaps(before.boxes, turned.boxes) >= _SAME
    better = shared & (turned.scores[None] > before.scores[:, None] - rule.slack)
    kept, taken = ~better.any(axis=1), better.any(axis=0)
    return Detections(*(np.concatenate([old[kept], new[taken]]) for old, new in zip(before, turned, strict=True)))


def _turned_back(found: Detections, quarter: int, height: int, width: int) -> Detections:
    """From the coordinates of `rot90(image, -quarter)` to those of the image, of shape (height, width)."""
    first, second = (_points_back(found.boxes[:, part], quarter, height, width) for part in (slice(2), slice(2, 4)))
    boxes = np.hstack([np.minimum(first, second), np.maximum(first, second)])
    # Landmarks count from the middle of the first pixel, boxes from its edge.
    landmarks = _points_back(found.landmarks + 0.5, quarter, height, width) - 0.5
    return Detections(boxes.astype(np.float32), found.scores, landmarks.astype(np.float32))


def _points_back(points: FloatArray, quarter: int, height: int, width: int) -> FloatArray:
    x, y = points[..., 0], points[..., 1]
    moved = {1: (y, height - x), 2: (width - x, height - y), 3: (width - y, x)}[quarter]
    return np.stack(moved, axis=-1)


def _overlaps(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of each box of `a` with each of `b`."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(sides, 0), axis=2)
    first, second = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b))
    return np.asarray(shared / (first[:, None] + second[None] - shared), np.float32)
