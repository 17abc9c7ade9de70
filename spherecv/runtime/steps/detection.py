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

_BLOCK = 64  # boxes that are compared with one another at once
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
    found = [_of_image(locations[image], confidences[image], boxes, variances, settings) for image in range(batch)]
    images = np.repeat(np.arange(batch, dtype=np.float32), [len(rows) for rows in found])
    if not len(images):
        images, found = np.arange(batch, dtype=np.float32), [np.full((batch, 6), -1, np.float32)]
    return [np.concatenate([images[:, None], np.concatenate(found)], 1).reshape(1, 1, -1, 7)]


def _of_image(
    locations: Array, confidences: Array, priors: Array, variances: Array, settings: Mapping[str, Any]
) -> Array:
    """Return label, score and box of every detection in one image, (M, 6)."""
    shared, keep = bool(settings["share_location"]), int(settings["keep_top_k"])
    kept: list[tuple[int, Indices, Array]] = []
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
        kept.append((label, candidates, boxes))
    labels = np.concatenate([np.full(len(which), label) for label, which, _ in kept]) if kept else np.zeros(0, int)
    scores = np.concatenate([confidences[which, label] for label, which, _ in kept] or [np.zeros(0, np.float32)])
    boxes = np.concatenate([found for _, _, found in kept]) if kept else np.zeros((0, 4), np.float32)
    order = np.arange(len(labels))
    if -1 < keep < len(labels):
        best = np.argsort(-scores, kind="stable")[:keep]
        order = best[np.argsort(labels[best], kind="stable")]
    return np.concatenate([labels[order, None], scores[order, None], boxes[order]], 1).astype(np.float32)


def _candidates(scores: Array, settings: Mapping[str, Any]) -> Indices:
    """Return the priors whose score is high enough, the best first; equal ones in their order."""
    if settings["nms_threshold"] is None:
        return np.arange(len(scores))
    threshold = settings["confidence_threshold"]
    lowest = np.finfo(np.float32).min if threshold is None else np.float32(threshold)
    above = np.flatnonzero(scores > lowest)
    top = int(settings["top_k"])
    if 0 < top < len(above):
        least = np.partition(scores[above], -top)[-top]
        above = above[scores[above] >= least]
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
        # Caffe's exp is that of doubles.
        halves = (np.exp(offsets[:, 2:].astype(np.float64)) * sizes).astype(np.float32) / np.float32(2)
        corners = np.concatenate([centres - halves, centres + halves], 1)
    return corners


def _suppress(boxes: Array, threshold: float, eta: float) -> Indices:
    """Return which boxes stay, given the best first: those that overlap no kept one by more than the threshold."""
    boxes = np.asfortranarray(boxes)  # a coordinate after the other
    sizes = boxes[:, 2:] - boxes[:, :2]
    areas = np.where((sizes < 0).any(1), np.float32(0), sizes[:, 0] * sizes[:, 1])
    limit = np.float32(threshold)
    kept: list[int] = []
    if eta < 1:
        for index in range(len(boxes)):
            if not kept or (_overlaps(boxes[kept], areas[kept], boxes[index], areas[index]) <= limit).all():
                kept.append(index)
                if limit > _ADAPTIVE:
                    limit = np.float32(limit * np.float32(eta))
        return np.array(kept, np.intp)
    alive = np.ones(len(boxes), bool)
    for start in range(0, len(boxes), _BLOCK):
        block = slice(start, start + _BLOCK)
        # Among themselves all at once; the boxes behind with those that stay.
        apart = _overlaps(boxes[block], areas[block], boxes[block, None], areas[block, None]) <= limit
        stay = alive[block].copy()
        for place in range(len(stay)):
            if stay[place]:
                stay[place + 1 :] &= apart[place, place + 1 :]
                kept.append(start + place)
        best = start + np.flatnonzero(stay)
        rest = start + _BLOCK + np.flatnonzero(alive[start + _BLOCK :])
        if len(rest):
            overlaps = _overlaps(boxes[rest], areas[rest], boxes[best, None], areas[best, None])
            alive[rest] = (overlaps <= limit).all(axis=0)
    return np.array(kept, np.intp)


def _overlaps(boxes: Array, areas: Array, box: Array, area: Array) -> Array:
    """Return intersection over union of boxes with one, or with several; those that only touch have none in common."""
    wide = np.minimum(boxes[..., 2], box[..., 2]) - np.maximum(boxes[..., 0], box[..., 0])
    high = np.minimum(boxes[..., 3], box[..., 3]) - np.maximum(boxes[..., 1], box[..., 1])
    common = np.maximum(wide, np.float32(0)) * np.maximum(high, np.float32(0))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.where(common > 0, common / (areas + area - common), np.float32(0))
