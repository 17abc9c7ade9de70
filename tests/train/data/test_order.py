from __future__ import annotations

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.data import BalancedOrder, SequentialOrder, ShuffledOrder


def test_sequential_goes_round() -> None:
    order = SequentialOrder(5, 3)
    assert [order.batch(n).tolist() for n in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_every_picture_once_per_epoch_in_another_order() -> None:
    order = ShuffledOrder(10, 4, seed=1)
    stream = np.concatenate([order.batch(n) for n in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()


def test_a_batch_depends_on_its_number_only() -> None:
    once = [ShuffledOrder(100, 32, seed=3).batch(n).tolist() for n in (7, 0, 7)]
    assert once[0] == once[2]
    walked = ShuffledOrder(100, 32, seed=3)
    assert [walked.batch(n).tolist() for n in range(8)][7] == once[0]
    assert ShuffledOrder(100, 32, seed=4).batch(7).tolist() != once[0]


def test_balanced() -> None:
    labels = np.array([0] * 2 + [1] * 9 + [2] + [3] * 5)
    order = BalancedOrder(labels, identities=3, pictures=4, seed=0)
    for number in range(20):
        batch = order.batch(number)
        found, counts = np.unique(labels[batch], return_counts=True)
        assert found.tolist() == [0, 1, 3]
        assert counts.tolist() == [4, 4, 4]
        assert len(set(batch[labels[batch] == 1])) == 4
    assert order.batch(3).tolist() == BalancedOrder(labels, identities=3, pictures=4, seed=0).batch(3).tolist()
    with pytest.raises(InvalidArgumentError, match="there are 3"):
        BalancedOrder(labels, identities=4, pictures=2)


@pytest.mark.parametrize("sizes", [(0, 4), (4, 0)])
def test_nothing_to_order(sizes: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgumentError):
        ShuffledOrder(*sizes)
