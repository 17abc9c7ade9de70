"""People held out: who they are, and what is measured of them."""

from __future__ import annotations

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.evaluate.curves import equal_error, roc_curve
from spherecv.train.data import Dataset
from spherecv.train.data.dataset import Item
from spherecv.train.validation import hold_out, validate


def _people(counts: list[int]) -> Dataset:
    items = [Item(f"{label}/{n}.png", label) for label, count in enumerate(counts) for n in range(count)]
    return Dataset(tuple(items), tuple(f"person {label}" for label in range(len(counts))))


def test_people_are_on_one_side_only() -> None:
    data = _people([3] * 30)
    known, held = hold_out(data, 0.2, seed=1)
    assert held is not None
    assert (known.classes, held.classes) == (24, 6)
    assert set(known.names).isdisjoint(held.names)
    assert {item.path for item in known.items} | {item.path for item in held.items} == {i.path for i in data.items}
    known.check()
    held.check()
    assert hold_out(data, 0.2, seed=1) == (known, held)
    assert hold_out(data, 0.2, seed=2)[1] != held


def test_people_with_one_image_are_never_held_out() -> None:
    _, held = hold_out(_people([1] * 20 + [2] * 10), 0.2)
    assert held is not None
    assert all(int(name.split()[1]) >= 20 for name in held.names)


@pytest.mark.parametrize(("counts", "share"), [([5] * 30, 0.0), ([5] * 5, 0.1), ([1] * 30, 0.1)])
def test_nobody_is_held_out_where_none_can_be(counts: list[int], share: float) -> None:
    data = _people(counts)
    assert hold_out(data, share) == (data, None)


def test_a_share_is_a_share() -> None:
    with pytest.raises(InvalidArgumentError, match="share of the identities"):
        hold_out(_people([5] * 9), 1.0)


def test_rates_agree_with_the_evaluation() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(12), 5)
    rows = (rng.normal(size=(12, 8))[labels] + 0.9 * rng.normal(size=(60, 8))).astype(np.float32)
    found = validate(rows, labels)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    i, j = np.triu_indices(60, 1)
    distance, same = 1 - (unit @ unit.T)[i, j], labels[i] == labels[j]
    roc = roc_curve(distance, same)
    assert found.eer == pytest.approx(equal_error(roc)[0], abs=0.01)
    impostors = np.sort(distance[~same])
    cut = impostors[int(0.01 * len(impostors)) - 1]
    assert found.tar == pytest.approx((distance[same] <= cut).mean(), abs=0.02)
    assert found.separation == pytest.approx(
        (distance[~same].mean() - distance[same].mean()) / np.sqrt((distance[same].var() + distance[~same].var()) / 2),
        rel=1e-4,
    )
    assert found.within < found.between


def test_people_told_apart_perfectly() -> None:
    rows = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    found = validate(rows, np.repeat(np.arange(4), 3))
    assert (found.eer, found.tar) == (0.0, 1.0)
