"""The order of a blob's axes: Caffe's in files and settings, channels last in memory where there are four."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spherecv.train.backend.base import Array

Shape = tuple[int, ...]

_CAFFE_TO_OURS = (0, 2, 3, 1)
_OURS_TO_CAFFE = (0, 3, 1, 2)


def internal_shape(shape: Sequence[int]) -> Shape:
    """Return the shape in memory of a blob of a shape in Caffe's order."""
    return tuple(shape[axis] for axis in _CAFFE_TO_OURS) if len(shape) == 4 else tuple(shape)


def caffe_shape(shape: Sequence[int]) -> Shape:
    """Return the shape in Caffe's order of a blob of a shape in memory."""
    return tuple(shape[axis] for axis in _OURS_TO_CAFFE) if len(shape) == 4 else tuple(shape)


def internal_axis(axis: int, rank: int) -> int:
    """Return where an axis of Caffe's, counted from 0, lies in memory."""
    return _CAFFE_TO_OURS.index(axis) if rank == 4 else axis


def to_caffe(xp: Any, array: Array) -> Array:
    """Return an array's view with Caffe's order of axes."""
    return xp.permute_dims(array, _OURS_TO_CAFFE) if array.ndim == 4 else array


def to_internal(xp: Any, array: Array) -> Array:
    """Return an array of Caffe's order as it lies in memory."""
    return contiguous(xp, xp.permute_dims(array, _CAFFE_TO_OURS)) if array.ndim == 4 else array


def contiguous(xp: Any, array: Array) -> Array:
    """Return an array whose numbers lie in the order of its axes."""
    return xp.reshape(xp.reshape(array, (-1,)), array.shape)


def axis_last(xp: Any, array: Array, axis: int) -> Array:
    """Return an array with one axis moved to the end."""
    if axis == array.ndim - 1:
        return array
    order = [place for place in range(array.ndim) if place != axis]
    return contiguous(xp, xp.permute_dims(array, (*order, axis)))


def axis_back(xp: Any, array: Array, axis: int) -> Array:
    """Undo `axis_last`."""
    if axis == array.ndim - 1:
        return array
    order = list(range(array.ndim - 1))
    order.insert(axis, array.ndim - 1)
    return contiguous(xp, xp.permute_dims(array, tuple(order)))
