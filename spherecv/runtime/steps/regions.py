"""ROIPooling and PSROIPooling: regions of a map made maps of one size (Fast R-CNN and R-FCN)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError

Array = NDArray[np.float32]


def roi_pooling(inputs: Sequence[Array], settings: Mapping[str, Any], _: Sequence[Array]) -> list[Array]:
    """Return the maxima in each part of each region, (R, C, pooled_h, pooled_w); zero where a part is empty.

    Inputs are maps (N, C, H, W) and regions (R, 5): image, x1, y1, x2, y2 in pixels of the image.
    """
    maps, rois = inputs
    pooled = (int(settings["pooled_h"]), int(settings["pooled_w"]))
    scale = np.float32(settings["spatial_scale"])
    answer = np.zeros((len(rois), maps.shape[1], *pooled), np.float32)
    for index, roi in enumerate(rois.reshape(len(rois), 5)):
        image = maps[_image(roi[0], len(maps))]
        x1, y1, x2, y2 = (_round(value * scale) for value in roi[1:])
        size = np.float32(max(y2 - y1 + 1, 1)), np.float32(max(x2 - x1 + 1, 1))
        rows, columns = (list(_bins(side / np.float32(count), count, 0, start, limit)) for side, count, start, limit in
                         zip(size, pooled, (y1, x1), image.shape[1:], strict=True))  # fmt: skip
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                if bottom > top and right > left:
                    answer[index, :, i, j] = image[:, top:bottom, left:right].max((1, 2))
    return [answer]


def psroi_pooling(inputs: Sequence[Array], settings: Mapping[str, Any], _: Sequence[Array]) -> list[Array]:
    """Return the means in each part of each region, each part from a channel of its own, (R, D, group, group).

    Inputs are maps (N, D group^2, H, W) and regions as of `roi_pooling`.
    """
    maps, rois = inputs
    depth, group = int(settings["output_dim"]), int(settings["group_size"])
    scale = np.float32(settings["spatial_scale"])
    answer = np.zeros((len(rois), depth, group, group), np.float32)
    for index, roi in enumerate(rois.reshape(len(rois), 5)):
        image = maps[_image(roi[0], len(maps))].reshape(depth, group, group, *maps.shape[2:])
        x1, y1 = (np.float32(_round(value)) * scale for value in roi[1:3])
        x2, y2 = (np.float32(_round(value) + 1) * scale for value in roi[3:])
        size = max(y2 - y1, np.float32(0.1)), max(x2 - x1, np.float32(0.1))
        rows, columns = (list(_bins(side / np.float32(group), group, start, 0, limit)) for side, start, limit in
                         zip(size, (y1, x1), maps.shape[2:], strict=True))  # fmt: skip
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                if bottom > top and right > left:
                    answer[index, :, i, j] = image[:, i, j, top:bottom, left:right].mean((1, 2))
    return [answer]


def _bins(
    side: np.float32, count: int, before: float | np.float32, offset: int, limit: int
) -> Iterator[tuple[int, int]]:
    """Yield where each part of a region starts and ends, within the map."""
    for place in range(count):
        start = int(np.floor(np.float32(place) * side + np.float32(before))) + offset
        end = int(np.ceil(np.float32(place + 1) * side + np.float32(before))) + offset
        yield min(max(start, 0), limit), min(max(end, 0), limit)


def _round(value: np.float32) -> int:
    """Round as C does: halves go outwards."""
    if not np.isfinite(value):
        raise InvalidArgumentError("a region's corner is not a finite number")
    return int(np.sign(value) * np.floor(np.abs(value) + np.float32(0.5)))


def _image(number: np.float32, count: int) -> int:
    if not 0 <= number < count:
        raise InvalidArgumentError(f"a region names image {number}, but there are {count}")
    return int(number)
