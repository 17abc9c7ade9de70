from __future__ import annotations

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.data import Augmentation

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)


def test_all_off_changes_nothing() -> None:
    assert np.array_equal(Augmentation()(IMAGE, np.random.default_rng(0)), IMAGE)


def test_mirror_turns_half() -> None:
    rng = np.random.default_rng(0)
    turned = [np.array_equal(Augmentation(mirror=True)(IMAGE, rng), IMAGE[:, ::-1]) for _ in range(200)]
    assert 70 < sum(turned) < 130


@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 3},
        {"zoom": 0.2},
        {"rotate": 20},
        {"light": 0.3},
        {"colour": 0.3},
        {"grey": 1},
        {"blur": 1},
        {"low_resolution": 1},
        {"jpeg": 1},
        {"occlusion": 1},
    ],
)
def test_each_changes_the_picture_and_keeps_its_form(settings: dict) -> None:
    varied = Augmentation(**settings)(IMAGE, np.random.default_rng(1))
    assert (varied.shape, varied.dtype) == (IMAGE.shape, np.uint8)
    assert varied.flags.c_contiguous
    assert not np.array_equal(varied, IMAGE)
    again = Augmentation(**settings)(IMAGE, np.random.default_rng(1))
    assert np.array_equal(varied, again)


def test_grey_is_grey_and_shift_moves() -> None:
    grey = Augmentation(grey=1)(IMAGE, np.random.default_rng(0))
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()
    spot = np.zeros((21, 21, 3), np.uint8)
    spot[10, 10] = 255
    places = []
    for seed in range(50):
        moved = Augmentation(shift=4)(spot, np.random.default_rng(seed)).astype(float).sum(axis=2)
        places.append((moved * np.arange(21)[:, None]).sum() / moved.sum())
    assert 5.9 < min(places) < 7.5
    assert 12.5 < max(places) < 14.1


@pytest.mark.parametrize("settings", [{"grey": 1.5}, {"shift": -1}, {"blur": -0.1}, {"zoom": float("nan")}])
def test_senseless(settings: dict) -> None:
    with pytest.raises(InvalidArgumentError):
        Augmentation(**settings)


def test_unknown_name() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown augmentation 'flip'"):
        Augmentation.from_dict({"flip": 1})
