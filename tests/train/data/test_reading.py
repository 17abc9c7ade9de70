from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import ImageError
from spherecv.train.data import Augmentation, Item, View

RNG = np.random.default_rng(0)


@pytest.fixture
def picture(tmp_path: Path) -> Item:
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    return Item(str(tmp_path / "p.png"), 0)


def test_bgr_and_middle(picture: Item) -> None:
    read = View(4, 4).read(picture, RNG)
    rgb = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    assert np.array_equal(read, rgb[2:6, 1:5, ::-1])


def test_random_crops_reach_every_corner(picture: Item) -> None:
    whole = View(8, 6).read(picture, RNG)
    corners = {tuple(View(7, 5, random_crop=True).read(picture, RNG)[0, 0]) for _ in range(60)}
    assert corners == {tuple(whole[y, x]) for y in (0, 1) for x in (0, 1)}


def test_resize_and_grey(picture: Item) -> None:
    assert View(16, 12, resize=(16, 12)).read(picture, RNG).shape == (16, 12, 3)
    grey = View(8, 6, colour=False).read(picture, RNG)
    expected = np.asarray(Image.open(picture.path).convert("L")).astype(int)
    assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1


def test_a_shard_that_ends_early(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"x" * 10)
    with pytest.raises(ImageError, match="truncated"):
        View(4, 4).read(Item(str(tmp_path / "s.tar"), 0, 5, 100), RNG)


def test_settings_survive_json(picture: Item) -> None:
    view = View(4, 4, resize=(8, 8), augmentation=Augmentation(blur=0.5))
    import json

    assert View.from_dict(json.loads(json.dumps(view.to_dict()))) == view
