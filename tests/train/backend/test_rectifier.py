"""The CPU's PReLU beside the neutral one, on maps of several blocks."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest

from spherecv.train.backend.base import Backend
from spherecv.train.backend.numpy_backend import NumpyBackend

SLOPES = {
    "per channel": np.linspace(-0.5, 1.0, 24),
    "one for all": np.array([0.25]),
    "above one": np.linspace(0.5, 3.0, 24),
}


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slope", SLOPES)
def test_equals_the_neutral_form(slope: str, dtype: str, lanes: int) -> None:
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(5, 41, 37, 24)).astype(dtype) for _ in range(2))
    x[:, :3] = 0.0  # where the slope counts, as in Caffe
    slopes = SLOPES[slope].astype(dtype)
    fast, plain = NumpyBackend(lanes, dtype), Backend(xp, dtype)
    np.testing.assert_array_equal(fast.rectify(x, slopes), plain.rectify(x, slopes))
    mine, expected = (b.rectify_backward(x, slopes, dy) for b in (fast, plain))
    np.testing.assert_allclose(mine[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(mine[1], expected[1], rtol=1e-3 if dtype == "float32" else 1e-9, atol=1e-2)
    alone, nothing = fast.rectify_backward(x, slopes, dy, need_slope=False)
    assert nothing is None
    np.testing.assert_array_equal(alone, mine[0])
    np.testing.assert_allclose(mine[0][:, :3], slopes * dy[:, :3], rtol=1e-4, atol=1e-6)
