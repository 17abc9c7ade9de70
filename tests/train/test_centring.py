"""Centring: the last layer without the features' mean and without the directions between groups."""

from __future__ import annotations

import numpy as np
import pytest

from spherecv.caffe.builder import NetBuilder, constant, xavier
from spherecv.errors import InvalidArgumentError
from spherecv.train.backend import open_backend
from spherecv.train.centring import centre, group_directions
from spherecv.train.net import Net


def _net(*, fully: bool = True) -> Net:
    made = NetBuilder("small").input("data", (1, 3, 12, 10))
    made.conv("conv1", 8, 3, stride=2, pad=1, weight_filler=xavier(), bias_filler=constant(0.1)).prelu("relu1")
    if fully:
        made.inner_product("fc5", 16, weight_filler=xavier(), bias_filler=constant(0.3))
    return Net(made.build(), {"data": (24, 3, 12, 10)}, open_backend("cpu", threads=1), seed=3)


def _features(net: Net, images: np.ndarray) -> np.ndarray:
    net.train(False)
    return np.array(net.forward({"data": images}, learn=False).blobs["fc5"])


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(24, 12, 10, 3)).astype(np.float32)


def test_the_mean_goes_and_nothing_else(images: np.ndarray) -> None:
    net = _net()
    before = _features(net, images)
    centre(net, before)
    np.testing.assert_allclose(_features(net, images), before - before.mean(axis=0), atol=1e-5)


def test_groups_no_longer_differ_along_the_directions_taken(images: np.ndarray) -> None:
    net, groups = _net(), np.arange(24) % 3
    before = _features(net, images + groups[:, None, None, None].astype(np.float32))
    centre(net, before, groups, directions=2)
    after = _features(net, images + groups[:, None, None, None].astype(np.float32))
    means = [after[groups == name].mean(axis=0) for name in range(3)]
    assert np.ptp(before[groups == 0].mean(axis=0) - before[groups == 2].mean(axis=0)) > 0.1
    np.testing.assert_allclose(means, np.zeros((3, 16)), atol=1e-5)
    # What lies across the directions is as it was.
    rows = group_directions(before, groups, 2)
    expected = before - before.mean(axis=0)
    np.testing.assert_allclose(after, expected - expected @ rows.T @ rows, atol=1e-5)


def test_directions_are_orthonormal_and_images_in_no_group_do_not_count() -> None:
    rng = np.random.default_rng(1)
    features, groups = rng.normal(size=(40, 6)), np.repeat([0, 1, 2, -1], 10)
    rows = group_directions(features, groups, 2)
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-12)
    features[groups < 0] += 100
    np.testing.assert_allclose(group_directions(features, groups, 2), rows)


def test_what_does_not_fit_is_said() -> None:
    net, features = _net(), np.zeros((4, 16))
    with pytest.raises(InvalidArgumentError, match=r"features must have shape \(images, 16\), but got \(4, 15\)"):
        centre(net, features[:, :15])
    with pytest.raises(InvalidArgumentError, match="groups must have shape"):
        centre(net, features, np.zeros(3, np.int64))
    with pytest.raises(InvalidArgumentError, match="2 groups differ in fewer than 2 directions, not 2"):
        centre(net, features, np.array([0, 0, 1, 1]), directions=2)
    with pytest.raises(InvalidArgumentError, match="'relu1', is no InnerProduct with a bias"):
        centre(_net(fully=False), features)
