"""Caffe's fillers: how weights start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError, UnsupportedLayerError

Shape = tuple[int, ...]
_NORMS = ("fan_in", "fan_out", "average")


def fill(shape: Shape, filler: Any, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a new array as a FillerParameter describes it.

    Parameters
    ----------
    shape : tuple of int
        In Caffe's order: a convolution's (filters, channels, height, width), an inner product's (outputs, inputs).
    filler : FillerParameter
        ``constant``, ``uniform``, ``gaussian`` (optionally sparse), ``xavier``, ``msra``, ``positive_unitball`` or
        ``bilinear``. Caffe's definitions: fan_in is count / shape[0], fan_out is count / shape[1]; xavier is uniform
        in +-sqrt(3 / n), msra is gaussian with variance 2 / n, n being fan_in, fan_out or their mean.
    rng : numpy Generator
    """
    kind = filler.type
    if kind == "uniform" and not filler.min <= filler.max:
        raise InvalidArgumentError(f"filler 'uniform' needs min <= max, but got {filler.min:g} and {filler.max:g}")
    if kind == "gaussian" and not filler.std > 0:
        raise InvalidArgumentError(f"filler 'gaussian' needs a std above 0, but got {filler.std:g}")
    if kind == "constant":
        return np.full(shape, filler.value)
    if kind == "uniform":
        return rng.uniform(filler.min, filler.max, shape)
    if kind == "gaussian":
        values = rng.normal(filler.mean, filler.std, shape)
        if filler.sparse >= 0 and shape:
            values *= rng.random(shape) < filler.sparse / shape[0]
        return values
    if kind == "xavier":
        limit = math.sqrt(3.0 / _fan(shape, filler.variance_norm))
        return rng.uniform(-limit, limit, shape)
    if kind == "msra":
        return rng.normal(0.0, math.sqrt(2.0 / _fan(shape, filler.variance_norm)), shape)
    if kind == "positive_unitball":
        values = rng.random(shape)
        rows = values.reshape(shape[0] if shape else 1, -1)
        rows /= rows.sum(axis=1, keepdims=True)
        return values
    if kind == "bilinear":
        if len(shape) != 4 or shape[2] != shape[3]:
            raise UnsupportedLayerError(f"filler 'bilinear' is for square kernels of four axes, not for {shape}")
        height, width = shape[2:]
        half = math.ceil(width / 2.0)
        centre = (2 * half - 1 - half % 2) / (2.0 * half)
        lines = 1 - np.abs(np.arange(height) / half - centre)
        return np.broadcast_to(lines[:, None] * (1 - np.abs(np.arange(width) / half - centre)), shape).copy()
    known = "constant, uniform, gaussian, xavier, msra, positive_unitball, bilinear"
    raise UnsupportedLayerError(f"filler {kind!r} is not one of {known}")


def _fan(shape: Shape, norm: int) -> float:
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1.0
    fan_out = count / shape[1] if len(shape) > 1 else float(count)
    return {"fan_in": fan_in, "fan_out": fan_out, "average": (fan_in + fan_out) / 2}[_NORMS[norm]]
