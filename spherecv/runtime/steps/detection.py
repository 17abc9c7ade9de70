"""DetectionOutput, the end of an SSD net: boxes from offsets to priors, and the suppression of overlapping ones.

By definition of the SSD fork of Caffe (weiliu89/caffe, detection_output_layer.cpp and bbox_util.cpp), in float32 as
there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError

Array = NDArray[np.float32]
Indices = NDArray[np.intp]

_COLUMNS = 7
_BLOCK = 256
"""Boxes compared with each other at a time."""
_REST = 4096
"""Boxes that such a block is compared with at a time: 4 MB of overlaps."""
_ADAPTIVE = 0.5  # a threshold above it shrinks with every box that is kept


def detection_output(inputs: Sequence[Array], settings: Mapping[str, Any], _: Sequence[Array]) -> list[Array]:
    """Return the detections of a batch.

    Parameters
    ----------
    inputs : sequence of ndarray of float32
        Locations (N, priors * locations * 4), confidences (N, priors * classes) and priors (1, 2, priors * 4), of any
        shape with that many numbers.
    settings : mapping
        `num_classes`, `share_location`, `background_label_id`, `code_type` ("CORNER", "CENTER_SIZE", "CORNER_SIZE"),
        `variance_encoded_in_target`, `keep_top_k`, `confidence_threshold` (None: none), `nms_threshold` (None: nothing
        is suppressed), `top_k`, `eta`.

    Returns
    -------
    list of one ndarray of float32, shape (1, 1, M, 7)
        A row for each detection, of image, label, confidence, x1, y1, x2, y2: images in order, labels in order, the
        best first. Where nothing is found in any image: a row for each image, its number and then -1.
    """
    locations, confidences, priors = inputs
    classes, shared = int(settings["num_classes"]), bool(settings["share_location"])
    boxes, variances = priors.reshape(-1, 2, priors.size // 2)[0].reshape(2, -1, 4)
    count = len(boxes)
    batch = len(locations)
    locations = locations.reshape(batch, count, 1 if shared else classes, 4)
    confidences = confidences.reshape(batch, count, classes)
    if settings["code_type"] != "CORNER" and not bool(np.all(boxes[:, 2:] > boxes[:, :2])):
        raise InvalidArgumentError("DetectionOutput got priors without width or height, which Caffe refuses")
    found = [
        _of_image(image, locations[image], confidences[image], boxes, variances, settings) for image in range(batch)
    ]
    rows = np.concatenate(found) if found else np.empty((0, _COLUMNS), np.float32)
    if not len(rows):
        rows = np.full((batch, _COLUMNS), -1, np.float32)
        rows[:, 0] = np.arange(batch)
    return [rows.reshape(1, 1, -1, _COLUMNS)]


def _of_image(
    image: int, locations: Array, confidences: Array, priors: Array, variances: Array, settings: Mapping[str, Any]
) -> Array:
    """Return a row for every detection in one image."""
    shared, keep = bool(settings["share_location"]), int(settings["keep_top_k"])
    kept = [np.empty((0, _COLUMNS), np.float32)]
    for label in range(confidences.shape[1]):
        if label == settings["background_label_id"]:
            continue
        scores = confidences[:, label]
        candidates = _candidates(scores, settings)
        places = locations[candidates, 0 if shared else label]
        boxes = _decode(places, priors[candidates], variances[candidates], settings)
        if settings["nms_threshold"] is not None:
            chosen = _suppress(boxes, float(settings["nms_threshold"]), float(settings["eta"]))
            candidates, boxes = candidates[chosen], boxes[chosen]
        rows = np.empty((len(candidates), _COLUMNS), np.float32)
        rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:] = image, label, scores[candidates], boxes
        kept.append(rows)
    every = np.concatenate(kept)
    if -1 < keep < len(every):
        best = np.argsort(-every[:, 2], kind="stable")[:keep]
        every = every[best[np.argsort(every[best, 1], kind="stable")]]
    return every


def _candidates(scores: Array, settings: Mapping[str, Any]) -> Indices:
    """Return the priors whose score is high enough, the best first; equal ones in their order."""
    if settings["nms_threshold"] is None:
        return np.arange(len(scores))
    threshold = settings["confidence_threshold"]
    lowest = np.finfo(np.float32).min if threshold is None else np.float32(threshold)
    above = np.flatnonzero(scores > lowest)
    top = int(settings["top_k"])
    ordered = above[np.argsort(-scores[above], kind="stable")]
    return ordered[:top] if top > -1 else ordered


def _decode(places: Array, priors: Array, variances: Array, settings: Mapping[str, Any]) -> Array:
    """Return boxes (M, 4) from what the net says of their priors."""
    offsets = places if settings["variance_encoded_in_target"] else variances * places
    code = settings["code_type"]
    corners: Array
    if code == "CORNER":
        return priors + offsets
    sizes = priors[:, 2:] - priors[:, :2]
    if code == "CORNER_SIZE":
        corners = priors + offsets * np.concatenate([sizes, sizes], 1)
        return corners
    with np.errstate(over="ignore"):
        centres = offsets[:, :2] * sizes + (priors[:, :2] + priors[:, 2:]) / np.float32(2)
        halves = np.exp(offsets[:, 2:]) * sizes / np.float32(2)
        corners = np.concatenate([centres - halves, centres + halves], 1)
    return corners


def _suppress(boxes: Array, threshold: float, eta: float) -> Indices:
    """Return which boxes stay, given the best first: those that overlap no kept one by more than the threshold."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).astype(np.float32)
    areas = np.where((sizes < 0).any(1), np.float32(0), sizes[:, 0] * sizes[:, 1])
    limit = np.float32(threshold)
    if eta < 1:
        return _suppress_adaptively(boxes, areas, limit, np.float32(eta))
    left, kept = np.arange(len(boxes)), [np.empty(0, np.intp)]
    while left.size:
        head, left = left[:_BLOCK], left[_BLOCK:]
        clear = _overlaps(boxes[head], areas[head], boxes[head], areas[head]) <= limit
        alive = np.ones(len(head), bool)
        for place in range(len(head)):
            if alive[place]:
                alive[place + 1 :] &= clear[place, place + 1 :]
        head = head[alive]
        kept.append(head)
        parts = [left[start : start + _REST] for start in range(0, len(left), _REST)]
        stay = [(_overlaps(boxes[head], areas[head], boxes[part], areas[part]) <= limit).all(axis=0) for part in parts]
        left = np.concatenate([left[:0], *(part[one] for part, one in zip(parts, stay, strict=True))])
    return np.concatenate(kept)


def _suppress_adaptively(boxes: Array, areas: Array, limit: np.float32, eta: np.float32) -> Indices:
    """As `_suppress`, with a threshold that shrinks with every box that is kept."""
    kept: list[int] = []
    for index in range(len(boxes)):
        found = _overlaps(boxes[kept], areas[kept], boxes[index : index + 1], areas[index : index + 1])
        if (found <= limit).all():
            kept.append(index)
            if limit > _ADAPTIVE:
                limit = np.float32(limit * eta)
    return np.array(kept, np.intp)


def _overlaps(boxes: Array, areas: Array, others: Array, other_areas: Array) -> Array:
    """Return intersections over unions, shape (boxes, others); boxes that touch count as meeting, with no area."""
    width = np.minimum(boxes[:, None, 2], others[:, 2]) - np.maximum(boxes[:, None, 0], others[:, 0])
    height = np.minimum(boxes[:, None, 3], others[:, 3]) - np.maximum(boxes[:, None, 1], others[:, 1])
    common = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.where(common > 0, common / (other_areas + areas[:, None] - common), np.float32(0))
