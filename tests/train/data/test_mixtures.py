"""Mixtures of two faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spherecv.errors import InvalidArgumentError
from spherecv.train.data import View, combine, mixture, open_dataset, open_mixtures


@given(seed=st.integers(0, 2**32), first=st.integers(0, 255), second=st.integers(0, 255))
def test_every_pixel_lies_between_its_two(seed: int, first: int, second: int) -> None:
    one, other = np.full((9, 7, 3), first, np.uint8), np.full((9, 7, 3), second, np.uint8)
    mixed = mixture(one, other, np.random.default_rng(seed))
    assert mixed.shape == one.shape
    assert min(first, second) <= mixed.min() <= mixed.max() <= max(first, second)


def test_the_weights_of_both_add_up_to_one() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(2))
    there = mixture(one, other, np.random.default_rng(3)).astype(int)
    back = mixture(other, one, np.random.default_rng(3)).astype(int)
    assert np.abs(there + back - one - other.astype(int)).max() <= 1


def test_some_fade_between_halves_and_some_blend_evenly() -> None:
    black, white = np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)
    ranges = [np.ptp(mixture(white, black, np.random.default_rng(seed))) for seed in range(50)]
    assert min(ranges) < 60
    assert max(ranges) > 230


def _pictures(folder: Path, count: int) -> Path:
    (folder / "a").mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((14, 14, 3), 10 * number, np.uint8)).save(folder / "a" / f"{number}.png")
    return folder


def test_they_are_written_once_and_with_a_seed(tmp_path: Path) -> None:
    dataset = open_dataset(_pictures(tmp_path / "faces", 5))
    calls: list[tuple[int, int]] = []
    first = open_mixtures(dataset, 12, tmp_path, height=12, width=10, seed=1, progress=lambda *a: calls.append(a))
    assert calls[-1] == (12, 12)
    again = open_mixtures(dataset, 12, tmp_path, height=12, width=10, seed=1, progress=lambda *a: calls.append(a))
    assert (again, len(calls)) == (first, 12)
    written = Path(first.items[0].path).read_bytes()
    Path(first.items[0].path).unlink()
    open_mixtures(dataset, 12, tmp_path, height=12, width=10, seed=1)
    assert Path(first.items[0].path).read_bytes() == written
    other = open_mixtures(dataset, 12, tmp_path, height=12, width=10, seed=2)
    assert other.items[0].path != first.items[0].path
    picture = View(12, 10).read(first.items[0], np.random.default_rng(0))
    assert picture.shape == (12, 10, 3)
    assert len(combine([dataset, first]).items) == 17


def test_one_picture_cannot_be_mixed(tmp_path: Path) -> None:
    dataset = open_dataset(_pictures(tmp_path / "faces", 1))
    with pytest.raises(InvalidArgumentError, match="two images"):
        open_mixtures(dataset, 3, tmp_path, height=12, width=12)


def test_a_broken_picture_is_left_out(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "faces", 3)
    (folder / "a" / "1.png").write_bytes(b"broken")
    found = open_mixtures(open_dataset(folder), 9, tmp_path, height=12, width=12)
    # Six of nine mixtures need it: each of three pictures takes part in six, and none is mixed with itself twice over.
    assert 0 < len(found.items) < 9
