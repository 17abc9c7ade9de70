from __future__ import annotations

import numpy as np
import pytest

from spherecv.detect.crops import as_net_input, cut

IMAGES = [np.random.default_rng(i).integers(1, 256, (40, 50, 3), dtype=np.uint8) for i in range(2)]


def crop_of(box, size, owner=0):
    return cut(IMAGES, np.array([owner]), np.array([box], np.float32), size)[0]


def test_a_box_counts_from_one_and_includes_its_last_pixel():
    np.testing.assert_array_equal(crop_of((11, 6, 34, 29), 24), IMAGES[0][5:29, 10:34])


def test_each_box_comes_from_its_own_image():
    boxes = np.array([[1, 1, 24, 24], [2, 2, 25, 25], [3, 3, 26, 26]], np.float32)
    crops = cut(IMAGES, np.array([0, 1, 0]), boxes, 24)
    for crop, owner, start in zip(crops, (0, 1, 0), (0, 1, 2), strict=True):
        np.testing.assert_array_equal(crop, IMAGES[owner][start : start + 24, start : start + 24])


def test_what_lies_outside_is_black():
    crop = crop_of((-3, -1, 20, 22), 24)
    assert not crop[:2].any()
    assert not crop[:, :4].any()
    np.testing.assert_array_equal(crop[2:, 4:], IMAGES[0][:22, :20])
    crop = crop_of((40, 30, 63, 53), 24)
    np.testing.assert_array_equal(crop[:11, :11], IMAGES[0][29:, 39:])
    assert not crop[11:].any()
    assert not crop[:, 11:].any()


OUTSIDE = [(-40, -40, -10, -10), (51, 1, 80, 30), (1, 41, 30, 70), (0, 0, 0, 0), (-9, 5, 0, 14)]
INSIDE_OUT = [(30, 30, 20, 20), (60, 1, 55, 9)]


@pytest.mark.parametrize("box", OUTSIDE + INSIDE_OUT)
def test_boxes_that_hold_nothing_of_the_image_are_black(box):
    assert not crop_of(box, 24).any()


def test_nets_see_columns_first_red_first_and_small_numbers():
    pictures = np.zeros((2, 3, 4, 3), np.float32)
    pictures[1, 2, 3] = (0, 127.5, 255)  # blue, green, red of the last pixel
    planes = as_net_input(pictures)
    assert planes.shape == (2, 3, 4, 3)
    assert planes.flags.c_contiguous
    assert planes[1, :, 3, 2].tolist() == [127.5 / 128, 0, -127.5 / 128]
    assert (planes[0] == -127.5 / 128).all()
