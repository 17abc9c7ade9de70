from __future__ import annotations

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.train.angles import measure_angles, pair_accuracy


def test_angles_by_hand() -> None:
    turned = [0.0, 10.0, 90.0, 120.0]
    rows = np.array([[np.cos(np.radians(t)), np.sin(np.radians(t))] for t in turned]) * [[1], [2], [3], [0.5]]
    angles = measure_angles(rows, [0, 0, 1, 1])
    assert angles.within == pytest.approx((10 + 30) / 2)
    assert angles.between == pytest.approx((90 + 120 + 80 + 110) / 4)
    assert angles.ratio == pytest.approx(5)


def test_accuracy_against_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 5)
    rows = rng.normal(size=(8, 6))[labels] + rng.normal(size=(40, 6))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    upper = np.triu_indices(40, 1)
    far, tar, _ = metrics.roc_curve((labels[:, None] == labels)[upper], (unit @ unit.T)[upper])
    assert pair_accuracy(rows, labels) == pytest.approx(((tar + 1 - far) / 2).max())


def test_too_few_people() -> None:
    with pytest.raises(InvalidArgumentError, match="two identities"):
        measure_angles(np.ones((3, 2)), [0, 0, 0])
