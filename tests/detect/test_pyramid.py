from __future__ import annotations

from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.detect import pyramid
from spherecv.detect.pyramid import bands, level_size, resample, scales_of


def resampling_matrix(before: int, after: int) -> np.ndarray:
    """Weights of `imResampleMex.cpp` (resampleCoef) of Dollar's toolbox, for one axis, in double precision."""
    scale = after / before
    weights = np.zeros((after, before))
    for new in range(after):
        if before > after:
            start, stop = new / scale, (new + 1) / scale
            for old in range(floor(start), min(ceil(stop), before)):
                weights[new, old] = (min(stop, old + 1) - max(start, old)) * scale
        else:
            place = (new + 0.5) / scale - 0.5
            old = floor(place)
            for neighbour, weight in ((old, 1 - (place - old)), (old + 1, place - old)):
                weights[new, min(max(neighbour, 0), before - 1)] += weight
    return weights


@given(st.tuples(*[st.integers(1, 60)] * 4))
@settings(deadline=None, max_examples=150)
def test_resample_is_im_resample(sizes):
    height, width, new_height, new_width = sizes
    image = np.random.default_rng(sum(sizes)).uniform(0, 255, (height, width, 3)).astype(np.float32)
    rows, columns = resampling_matrix(height, new_height), resampling_matrix(width, new_width)
    expected = np.einsum("ab,cd,bdk->ack", rows, columns, image.astype(np.float64))
    got = resample(image, new_height, new_width)
    assert got.shape == (new_height, new_width, 3)
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_scales_end_where_the_image_is_smaller_than_a_square():
    assert scales_of(480, 640, 20, 0.5) == [0.6, 0.3, 0.15, 0.075, 0.0375]
    assert scales_of(20, 1000, 20, 0.709) == [0.6]
    assert scales_of(19, 1000, 20, 0.709) == []


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(10, 300), st.floats(0.1, 0.95))
def test_no_level_is_smaller_than_a_square(height, width, min_size, factor):
    for scale in scales_of(height, width, min_size, factor):
        assert min(level_size(height, width, scale)) >= 12


@given(st.integers(12, 4000), st.integers(12, 4000), st.integers(1, 8))
def test_bands_hold_every_square_once(rows, columns, workers):
    parts = list(bands(rows, columns, workers))
    assert parts[0][0] == 0
    assert parts[-1][1] == rows
    squares = [start // 2 + place for start, stop in parts for place in range((stop - start - 12 + 1) // 2 + 1)]
    assert squares == list(range((rows - 12 + 1) // 2 + 1))
    assert all(start % 2 == 0 for start, _ in parts)
    assert all((stop - start) % 2 == 0 for start, stop in parts[:-1])


def test_a_level_that_is_large_enough_is_shared_by_all_workers():
    assert [len(list(bands(192, 144, workers))) for workers in (1, 2, 8)] == [1, 2, 2]
    assert len(list(bands(97, 73, 2))) == 1


@pytest.mark.runtime
@pytest.mark.parametrize(("rows", "columns"), [(120, 90), (121, 91), (75, 200), (12, 13), (13, 12)])
def test_bands_give_what_the_whole_gives(sessions, monkeypatch, rows, columns):
    monkeypatch.setattr(pyramid, "_BAND_PIXELS", 1500)
    level = np.random.default_rng(rows).uniform(-1, 1, (1, 3, rows, columns)).astype(np.float32)
    net = sessions[0]
    whole = net.run(level)
    parts = [net.run(np.ascontiguousarray(level[:, :, start:stop])) for start, stop in bands(rows, columns)]
    assert len(parts) > 1 or rows < 20
    for name, values in whole.items():
        np.testing.assert_allclose(np.concatenate([part[name] for part in parts], axis=2), values, atol=1e-5)
