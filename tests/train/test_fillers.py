from __future__ import annotations

import math

import numpy as np
import pytest

from spherecv.caffe.spherecv_caffe_pb2 import FillerParameter
from spherecv.errors import UnsupportedLayerError
from spherecv.train.fillers import fill

SHAPE = (80, 40, 3, 3)  # fan-in 360, fan-out 720


@pytest.mark.parametrize(
    ("filler", "mean", "spread", "limit"),
    [
        (FillerParameter(type="xavier"), 0, math.sqrt(1 / 360), math.sqrt(3 / 360)),
        (FillerParameter(type="xavier", variance_norm=1), 0, math.sqrt(1 / 720), math.sqrt(3 / 720)),
        (FillerParameter(type="xavier", variance_norm=2), 0, math.sqrt(1 / 540), math.sqrt(3 / 540)),
        (FillerParameter(type="msra"), 0, math.sqrt(2 / 360), 1),
        (FillerParameter(type="gaussian", mean=2, std=0.01), 2, 0.01, 3),
        (FillerParameter(type="uniform", min=-1, max=3), 1, 4 / math.sqrt(12), 3),
        (FillerParameter(type="constant", value=0.5), 0.5, 0, 0.5),
        (FillerParameter(), 0, 0, 0),
    ],
)
def test_caffes_definitions(filler: FillerParameter, mean: float, spread: float, limit: float) -> None:
    values = fill(SHAPE, filler, np.random.default_rng(0))
    assert values.shape == SHAPE
    assert values.mean() == pytest.approx(mean, abs=0.02 * max(spread, 1e-9))
    assert values.std() == pytest.approx(spread, rel=0.01)
    assert np.abs(values).max() <= limit


def test_sparse_gaussian_and_unit_ball() -> None:
    sparse = fill((100, 50), FillerParameter(type="gaussian", std=1, sparse=10), np.random.default_rng(0))
    assert (sparse != 0).mean() == pytest.approx(0.1, abs=0.02)
    ball = fill((10, 50), FillerParameter(type="positive_unitball"), np.random.default_rng(0))
    np.testing.assert_allclose(ball.sum(axis=1), 1)


def test_bilinear_upsamples() -> None:
    kernel = fill((1, 1, 4, 4), FillerParameter(type="bilinear"), np.random.default_rng(0))[0, 0]
    np.testing.assert_allclose(kernel[1], [0.1875, 0.5625, 0.5625, 0.1875])


def test_unknown() -> None:
    with pytest.raises(UnsupportedLayerError, match="orthogonal"):
        fill((2, 2), FillerParameter(type="orthogonal"), np.random.default_rng(0))
