"""Proposal, the middle of a Faster R-CNN: regions worth a closer look, from anchors that the net moves and scores.

By definition of the Python layer of py-faster-rcnn (rpn/proposal_layer.py) and of the C++ layer of PVANet's Caffe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError

Array = NDArray[np.float32]


def proposal(inputs: Sequence[Array], settings: Mapping[str, Any], arrays: Sequence[Array]) -> list[Array]:
    """Return regions and their scores.

    Parameters
    ----------
    inputs : sequence of ndarray of float32
        Scores (N, 2 A, H, W), of which the second half counts, box deltas (N, 4 A, H, W), and the images' height, width
        and scales, (1 or N, 3 or more).
    settings : mapping
        `feat_stride`, `min_size` (in pixels of the unscaled image), `pre_nms_topn`, `post_nms_topn`, `nms_thresh`
        (None: nothing is suppressed), `drop_small` (small boxes are dropped; else they count as of score 0), `scaled`
        (whether `min_size` grows with the image's scale), `empty` (a region for where there is none, or None),
        `columns` (whether scores have a second axis).
    arrays : sequence of one ndarray of float32, shape (A, 4)
        The anchors at the first place of the map.

    Returns
    -------
    list of two ndarrays of float32, shapes (R, 5) and (R,) or (R, 1)
        Image, x1, y1, x2, y2 in pixels of the net's input; and the scores.
    """
    scores, deltas, info = inputs
    anchors = arrays[0]
    count, (height, width) = len(anchors), scores.shape[2:]
    if scores.shape[1] != 2 * count or deltas.shape[1] != 4 * count or deltas.shape[2:] != (height, width):
        raise InvalidArgumentError(f"Proposal has {count} anchors, but got {scores.shape}, {deltas.shape}")
    stride = np.float32(settings["feat_stride"])
    x, y = np.meshgrid(np.arange(width, dtype=np.float32) * stride, np.arange(height, dtype=np.float32) * stride)
    shifts = np.stack([x, y, x, y], 2)
    placed = (shifts[:, :, None] + anchors).reshape(-1, 4)
    info = info.reshape(-1, info.shape[-1]) if info.ndim > 1 else info.reshape(1, -1)
    rois, kept_scores = [], []
    for image, (score, delta) in enumerate(zip(scores, deltas, strict=True)):
        flat = np.ascontiguousarray(score[count:].transpose(1, 2, 0)).reshape(-1)
        moves = np.ascontiguousarray(delta.reshape(count, 4, height, width).transpose(2, 3, 0, 1)).reshape(-1, 4)
        boxes, found = _of_image(placed, moves, flat, info[min(image, len(info) - 1)], settings)
        rois.append(np.concatenate([np.full((len(boxes), 1), image, np.float32), boxes], 1))
        kept_scores.append(found)
    regions = np.concatenate(rois).astype(np.float32)
    if not len(regions) and settings["empty"] is not None:
        regions = np.array([settings["empty"]], np.float32)
    best = np.concatenate(kept_scores).astype(np.float32)
    return [regions, best[:, None] if settings["columns"] else best]


def _of_image(
    placed: Array, moves: Array, scores: Array, info: Array, settings: Mapping[str, Any]
) -> tuple[Array, Array]:
    boxes = _moved(placed, moves, info[1], info[0])
    scale = info[2:4] if settings["scaled"] else np.ones(2, np.float32)
    least_height, least_width = np.float32(settings["min_size"]) * scale[[0, -1]]
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    large = (sides[:, 0] >= least_width) & (sides[:, 1] >= least_height)
    if settings["drop_small"]:
        boxes, scores = boxes[large], scores[large]
    else:
        scores = np.where(large, scores, np.float32(0))
    order = np.argsort(-scores, kind="stable")
    if settings["pre_nms_topn"] > 0:
        order = order[: settings["pre_nms_topn"]]
    boxes, scores = boxes[order], scores[order]
    most = settings["post_nms_topn"] if settings["post_nms_topn"] > 0 else len(boxes)
    if settings["nms_thresh"] is None:
        return boxes[:most], scores[:most]
    kept = _suppress(boxes, float(settings["nms_thresh"]), most)
    return boxes[kept], scores[kept]


def _moved(boxes: Array, moves: Array, width: np.float32, height: np.float32) -> Array:
    """Return anchors moved by what the net says, cut to the image. Sizes count pixels: x2 - x1 + 1."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + np.float32(0.5) * sizes
    with np.errstate(over="ignore"):
        middles = moves[:, :2] * sizes + centres
        halves = np.float32(0.5) * (np.exp(moves[:, 2:]) * sizes)
    moved = np.concatenate([middles - halves, middles + halves], 1)
    limits = np.array([width, height, width, height], np.float32) - 1
    inside: Array = np.maximum(np.minimum(moved, limits), np.float32(0))
    return inside


def _suppress(boxes: Array, threshold: float, most: int) -> list[int]:
    """Return the places of boxes that overlap no better one by more than the threshold, `most` at most."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    areas = sides[:, 0] * sides[:, 1]
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        kept.append(index)
        if len(kept) >= most:
            break
        rest = index + 1 + np.flatnonzero(alive[index + 1 :])
        low = np.maximum(boxes[rest, :2], boxes[index, :2])
        shared = np.maximum(np.minimum(boxes[rest, 2:], boxes[index, 2:]) - low + 1, np.float32(0))
        common = shared[:, 0] * shared[:, 1]
        # Not "<=" and not its opposite for the sake of NaN: Caffe drops a box only where the comparison holds.
        alive[rest[common / (areas[rest] + areas[index] - common) > np.float32(threshold)]] = False
    return kept
