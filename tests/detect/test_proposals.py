"""The first stage of MTCNN alone, on small images, beside the plain reading; and how many pixels it holds at once."""

from __future__ import annotations

from math import ceil

import cv2
import numpy as np
import pytest

from spherecv.detect import proposals, pyramid
from spherecv.detect.nets import NetPool
from spherecv.detect.proposals import Proposer


@pytest.fixture(scope="module")
def images(lfw) -> list[np.ndarray]:
    """Faces of LFW of several sizes and shapes; one smaller than any face looked for."""
    sizes = [(90, 70), (64, 100), (121, 57), (80, 80), (40, 33), (11, 30)]
    return [cv2.resize(image[60:190, 60:190], size[::-1]) for image, size in zip(lfw, sizes, strict=False)]


@pytest.fixture
def propose(sessions):
    def run(images, sizes, *, progressive, threshold=0.3, factor=0.7, spread=map):
        pool = NetPool(lambda: sessions[0], "P-Net", ("scores", "offsets"))
        return Proposer(pool, threshold, factor, progressive, spread).propose(images, sizes)

    return run


def first_stage(plain, pnet, bgr, min_size, progressive, threshold=0.3, factor=0.7):
    """As `plain.detect_face` begins; every scale, and every scale's squares, one after the other."""
    image, found = bgr[:, :, ::-1].astype(np.float32), []
    im_data = plain.normalised(image)
    for scale in plain.scales_of(*image.shape[:2], min_size, factor):
        rows, columns = (int(np.ceil(side * scale)) for side in image.shape[:2])
        im_data = plain.im_resample(im_data if progressive else plain.normalised(image), rows, columns)
        out = pnet.run(plain.as_blob(im_data))
        boxes = plain.generate_bounding_box(out["prob1"][0, 1], out["conv4-2"][0], scale, threshold)
        found.append(boxes[plain.nms(boxes, 0.5, "Union")])
    boxes = np.concatenate([np.zeros((0, 9), np.float32), *found])
    boxes = boxes[plain.nms(boxes, 0.7, "Union")]
    extent = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
    return np.fix(plain.rerec(boxes[:, :4] + boxes[:, 5:] * extent))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("at_once", "band", "factor"), [(8_000_000, 48_000, 0.7), (6000, 600, 0.9), (1, 2000, 0.7)])
def test_squares_are_those_of_the_plain_reading(
    plain, sessions, images, propose, progressive, at_once, band, factor, monkeypatch
) -> None:
    monkeypatch.setattr(proposals, "PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(pyramid, "_BAND_PIXELS", band)
    sizes = [14, 20, 12, 24, 16, 20]
    got = propose(images, sizes, progressive=progressive, factor=factor)
    expected = [
        first_stage(plain, sessions[0], image, size, progressive, factor=factor)
        for image, size in zip(images, sizes, strict=True)
    ]
    assert sum(map(len, expected)) > 100
    assert len(expected[-1]) == 0
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_least_score_is_enough(sessions, images, propose) -> None:
    """A square whose score equals the threshold counts."""
    image = images[0][:12, :12]
    scores = []

    class Listening:
        def run(self, blob):
            outputs = sessions[0].run(blob)
            scores.append(outputs["prob1"][0, 1])
            return outputs

    pool = NetPool(Listening, "P-Net", ("scores", "offsets"))
    Proposer(pool, 0.0, 0.7, False, map).propose([image], [12])
    (score,) = scores[0].ravel()
    for threshold, count in ((score, 1), (np.nextafter(score, np.float32(1)), 0)):
        assert len(propose([image], [12], progressive=False, threshold=threshold)[0]) == count


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("at_once", [16_000, 15_999, 7_999])
@pytest.mark.parametrize(("height", "width"), [(100, 80), (50, 160)])
def test_no_more_pixels_than_promised_are_held_at_once(
    propose, progressive, at_once, height, width, monkeypatch
) -> None:
    monkeypatch.setattr(proposals, "PIXELS_AT_ONCE", at_once)
    sources, levels = [], []

    def spread(work, items):
        items = list(items)
        if isinstance(items[0], np.ndarray):
            sources.append(items)
        else:  # rows of scales, each with its place
            levels.append([planes[0, 0].size for planes, start in items])
        return map(work, items)

    monkeypatch.setattr(pyramid, "_BAND_PIXELS", 1 << 40)  # whole scales
    images = [np.zeros((height, width, 3), np.uint8)] * 5  # 8000 pixels each, and in the level of full size
    propose(images, [12] * 5, progressive=progressive, spread=spread)
    together = [len(group) for group in sources]
    assert together == {16_000: [2, 2, 1]}.get(at_once, [1] * 5)
    scales = [0.7**power for power in range(9) if min(height, width) * 0.7**power >= 12]
    each = [ceil(height * scale) * ceil(width * scale) for scale in scales]
    expected = []
    for count in together:
        groups = filled(([sum(each)] if progressive else each) * count, at_once)
        expected += [each * len(group) for group in groups] if progressive else groups
    assert levels == expected


def filled(sizes: list[int], most: int) -> list[list[int]]:
    """Lists of sizes that each hold as many as fit, and at least one."""
    lists: list[list[int]] = [[]]
    for size in sizes:
        if lists[-1] and sum(lists[-1]) + size > most:
            lists.append([])
        lists[-1].append(size)
    return lists
