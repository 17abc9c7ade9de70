"""What chooses: Filter, BatchReindex, Embed, ArgMax, maxima with their places and back, and sums without axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError

Array = NDArray[np.float32]


def filter_items(inputs: Sequence[Array], _: Mapping[str, Any], __: Sequence[Array]) -> list[Array]:
    """Return of every blob the items whose selector, the last input, is not zero."""
    *blobs, selector = inputs
    chosen = np.flatnonzero(selector.reshape(-1))
    return [blob[chosen] for blob in blobs]


def batch_reindex(inputs: Sequence[Array], _: Mapping[str, Any], __: Sequence[Array]) -> list[Array]:
    """Return the items whose numbers the second input gives."""
    items, numbers = inputs
    return [items[_places(numbers, len(items), "BatchReindex")]]


def embed(inputs: Sequence[Array], _: Mapping[str, Any], weights: Sequence[Array]) -> list[Array]:
    """Return rows of a table (K, D), plus a bias (D,) where there is one, by their numbers."""
    rows = weights[0][_places(inputs[0], len(weights[0]), "Embed")]
    return [rows + weights[1] if len(weights) > 1 else rows]


def argmax(inputs: Sequence[Array], settings: Mapping[str, Any], _: Sequence[Array]) -> list[Array]:
    """Return the places of the `top_k` largest numbers along `axis`, or over each item (None); or the numbers.

    Of equal numbers the last comes first, as in Caffe, which sorts pairs of number and place.
    """
    blob, axis, top = inputs[0], settings["axis"], int(settings["top_k"])
    table = blob.reshape(len(blob), -1) if axis is None else np.moveaxis(blob, axis, -1)
    length = table.shape[-1]
    places = (length - 1 - np.argsort(-table[..., ::-1], axis=-1, kind="stable"))[..., :top]
    values = np.take_along_axis(table, places, -1)
    if axis is not None:
        return [np.moveaxis(values if settings["values"] else places.astype(np.float32), -1, axis)]
    rows = [places.astype(np.float32), values] if settings["values"] else [places.astype(np.float32)]
    answer = np.stack(rows, 1)
    return [answer.reshape(*answer.shape, *(1,) * (max(3, blob.ndim) - 3))]


def reduction(inputs: Sequence[Array], settings: Mapping[str, Any], _: Sequence[Array]) -> list[Array]:
    """Return one number without axes: SUM, ASUM, SUMSQ or MEAN of all numbers, times `coeff`."""
    blob = inputs[0].astype(np.float64)
    operation = settings["operation"]
    terms = {"ASUM": np.abs, "SUMSQ": np.square}.get(operation, np.asarray)(blob)
    total = terms.mean() if operation == "MEAN" else terms.sum()
    return [np.array(settings["coeff"] * total, np.float32)]


def max_pool_with_mask(inputs: Sequence[Array], settings: Mapping[str, Any], _: Sequence[Array]) -> list[Array]:
    """Return the maxima of windows, and where in its map each was: the number of the pixel; the first of equal ones.

    `kernel`, `stride`, `pad` are (height, width); `sizes` are those of the result, computed if None.
    """
    blob = inputs[0]
    (kernel_h, kernel_w), strides, pad = settings["kernel"], settings["stride"], settings["pad"]
    height, width = blob.shape[2:]
    sizes = [_rounded(blob.shape[2 + axis], settings, axis) for axis in range(2)]
    after = [max(0, (sizes[axis] - 1) * strides[axis] + settings["kernel"][axis] - blob.shape[2 + axis] - pad[axis])
             for axis in range(2)]  # fmt: skip
    edges = ((0, 0), (0, 0), (pad[0], after[0]), (pad[1], after[1]))
    padded = np.pad(blob, edges, constant_values=-np.inf)
    numbers = np.pad(np.arange(height * width).reshape(height, width), edges[2:], constant_values=0)
    windows = sliding_window_view(padded, (kernel_h, kernel_w), (2, 3))[:, :, :: strides[0], :: strides[1]]
    windows = windows[:, :, : sizes[0], : sizes[1]].reshape(*blob.shape[:2], *sizes, -1)
    owners = sliding_window_view(numbers, (kernel_h, kernel_w))[:: strides[0], :: strides[1]]
    owners = owners[: sizes[0], : sizes[1]].reshape(*sizes, -1)
    best = windows.argmax(-1)
    maxima = np.take_along_axis(windows, best[..., None], -1)[..., 0]
    mask = np.take_along_axis(np.broadcast_to(owners, windows.shape), best[..., None], -1)[..., 0]
    return [maxima.astype(np.float32), mask.astype(np.float32)]


def max_unpool(inputs: Sequence[Array], settings: Mapping[str, Any], _: Sequence[Array]) -> list[Array]:
    """Return maps of `height` x `width` zeros with the maxima where the mask says; the last of those for one place."""
    maxima, mask = inputs
    height, width = int(settings["height"]), int(settings["width"])
    rows = maxima.reshape(maxima.shape[0] * maxima.shape[1], -1)
    places = _places(mask, height * width, "MaxUnPool").reshape(rows.shape)
    maps = np.zeros((len(rows), height * width), np.float32)
    np.put_along_axis(maps, places, rows, 1)
    return [maps.reshape(*maxima.shape[:2], height, width)]


def _rounded(size: int, settings: Mapping[str, Any], axis: int) -> int:
    """Return how often a window fits, as Caffe counts."""
    kernel, stride, pad = (settings[key][axis] for key in ("kernel", "stride", "pad"))
    room = size + 2 * pad - kernel
    count = (room if settings["floor"] else room + stride - 1) // stride + 1
    if any(settings["pad"]) and (count - 1) * stride >= size + pad:
        count -= 1
    return int(count)


def _places(numbers: Array, count: int, what: str) -> NDArray[np.intp]:
    """Return numbers as places below `count`; what is behind the point is cut off, as in C."""
    with np.errstate(invalid="ignore"):
        places = np.trunc(numbers)
    if not bool(((places >= 0) & (places < count)).all()):
        raise InvalidArgumentError(f"{what} got a number that is not from 0 to {count - 1}")
    return places.astype(np.intp)
