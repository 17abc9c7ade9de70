from __future__ import annotations

import numpy as np
import pytest

from spherecv.dataset.crops import CENTER_SHARE, center_crop, check_policy
from spherecv.errors import InvalidArgumentError


def test_the_middle_of_an_lfw_photo_is_where_its_face_is() -> None:
    image = np.zeros((250, 250, 3), np.uint8)
    image[105:145, 105:145] = 255
    crop = center_crop(image, (112, 96))
    assert crop.shape == (112, 96, 3)
    scale = 112 / (CENTER_SHARE * 250)
    rows = np.flatnonzero(crop[:, 48, 0] > 127)
    assert len(rows) == pytest.approx(40 * scale, abs=1.5)
    assert rows.mean() == pytest.approx(55.5, abs=0.6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (200, 3, 3), (5000, 40, 3)])
def test_any_shape_gives_a_crop_of_the_size(shape) -> None:
    assert center_crop(np.full(shape, 9, np.uint8), (112, 112)).shape == (112, 112, 3)
    assert (center_crop(np.full(shape, 9, np.uint8), (112, 96)) == 9).all()


def test_an_unknown_policy_is_refused() -> None:
    assert check_policy("skip") == "skip"
    with pytest.raises(InvalidArgumentError, match="skip, center, fail"):
        check_policy("ignore")
