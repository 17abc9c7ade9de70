"""MTCNN as its MATLAB code says it, step by step: one net call for each scale and each crop, nothing batched.

The oracle of the tests, and the baseline of `benchmarks/detector.py`. Written from `detect_face.m` of MTCNNv1
(github.com/kpzhang93/MTCNN_face_detection_alignment), in MATLAB's own terms: coordinates count from 1, boxes include
their last pixel, everything is single precision. Shares no line with `spherecv.detect`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import cv2
import numpy as np

Net = Callable[[np.ndarray], dict[str, np.ndarray]]
single = np.float32


def im_resample(image, rows, columns):
    """`imResample(image, [rows columns], 'bilinear')` of Piotr Dollar's toolbox: each axis averages areas where it
    shrinks and interpolates where it grows."""
    height, width = image.shape[:2]
    if rows <= height and columns <= width:
        return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    image = cv2.resize(image, (columns, height), interpolation=cv2.INTER_AREA if columns < width else cv2.INTER_LINEAR)
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if rows < height else cv2.INTER_LINEAR)


def normalised(image):
    return (image - single(127.5)) * single(0.0078125)


def as_blob(im_data):
    """What Caffe sees of a MATLAB array: columns first, so the picture is transposed."""
    return np.ascontiguousarray(im_data.transpose(2, 1, 0)[None])


def scales_of(height, width, minsize, factor):
    m = 12 / minsize
    minl = min(width, height) * m
    scales = []
    while minl >= 12:
        scales.append(m * factor ** len(scales))
        minl = minl * factor
    return scales


def generate_bounding_box(probability, regression, scale, threshold):
    x, y = np.nonzero(probability >= threshold)  # from 0, so MATLAB's x - 1
    corners = [np.fix((2 * v + add) / scale) for add in (1, 12) for v in (x, y)]
    return np.stack([*corners, probability[x, y], *regression[:, x, y]], axis=1).astype(single)


def nms(boxes, threshold, kind):
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order = list(np.argsort(boxes[:, 4], kind="stable"))
    pick = []
    while order:
        best = order.pop()
        pick.append(best)
        rest = np.array(order, dtype=int)
        width = np.minimum(boxes[best, 2], boxes[rest, 2]) - np.maximum(boxes[best, 0], boxes[rest, 0]) + 1
        height = np.minimum(boxes[best, 3], boxes[rest, 3]) - np.maximum(boxes[best, 1], boxes[rest, 1]) + 1
        shared = np.maximum(0, width) * np.maximum(0, height)
        whole = np.minimum(area[best], area[rest]) if kind == "Min" else area[best] + area[rest] - shared
        order = list(rest[shared / whole <= threshold])
    return pick


def rerec(boxes):
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = np.maximum(width, height)
    square = boxes.copy()
    square[:, 0] = boxes[:, 0] + width * single(0.5) - side * single(0.5)
    square[:, 1] = boxes[:, 1] + height * single(0.5) - side * single(0.5)
    square[:, 2] = square[:, 0] + side
    square[:, 3] = square[:, 1] + side
    return square


def bbreg(boxes, regression):
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    moved = boxes.copy()
    for column, extent in enumerate((width, height, width, height)):
        moved[:, column] = boxes[:, column] + regression[:, column] * extent
    return moved


def crop(image, box, size):
    x1, y1, x2, y2 = (int(v) for v in box[:4])
    patch = np.zeros((y2 - y1 + 1, x2 - x1 + 1, 3), dtype=single)
    height, width = image.shape[:2]
    left, top, right, bottom = max(x1, 1), max(y1, 1), min(x2, width), min(y2, height)
    if top <= bottom and left <= right:
        patch[top - y1 : bottom - y1 + 1, left - x1 : right - x1 + 1] = image[top - 1 : bottom, left - 1 : right]
    return im_resample(patch, size, size)


def detect_face(bgr, minsize, pnet: Net, rnet: Net, onet: Net, thresholds, fastresize, factor):
    """`[total_boxes points] = detect_face(...)`: boxes `(N, 5)` and points `(N, 5, 2)`, counted from 1 as in MATLAB."""
    image = bgr[:, :, ::-1].astype(single)
    height, width = image.shape[:2]
    nothing = np.zeros((0, 5), dtype=single), np.zeros((0, 5, 2), dtype=single)

    found, im_data = [], normalised(image)
    for scale in scales_of(height, width, minsize, factor):
        hs, ws = ceil(height * scale), ceil(width * scale)
        im_data = im_resample(im_data, hs, ws) if fastresize else normalised(im_resample(image, hs, ws))
        out = pnet(as_blob(im_data))
        boxes = generate_bounding_box(out["prob1"][0, 1], out["conv4-2"][0], scale, thresholds[0])
        found.append(boxes[nms(boxes, 0.5, "Union")])
    boxes = np.concatenate(found) if found else np.zeros((0, 9), dtype=single)
    boxes = boxes[nms(boxes, 0.7, "Union")]
    width_, height_ = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    moved = [boxes[:, i] + boxes[:, 5 + i] * (width_, height_)[i % 2] for i in range(4)]
    boxes = rerec(np.stack([*moved, boxes[:, 4]], axis=1))
    boxes[:, :4] = np.fix(boxes[:, :4])

    passed, regression = [], []
    for box in boxes:
        out = rnet(as_blob(normalised(crop(image, box, 24))))
        if out["prob1"][0, 1] > thresholds[1]:
            passed.append([*box[:4], out["prob1"][0, 1]])
            regression.append(out["conv5-2"][0])
    if not passed:
        return nothing
    boxes, regression = np.array(passed, dtype=single), np.array(regression)
    pick = nms(boxes, 0.7, "Union")
    boxes = np.fix(rerec(bbreg(boxes[pick], regression[pick])))

    passed, regression, points, blobs = [], [], [], []
    for box in boxes:
        blob = as_blob(normalised(crop(image, box, 48)))
        out = onet(blob)
        if out["prob1"][0, 1] > thresholds[2]:
            passed.append([*box[:4], out["prob1"][0, 1]])
            regression.append(out["conv6-2"][0])
            points.append(out["conv6-3"][0])
            blobs.append(blob)
    if not passed:
        return nothing
    before, regression = np.array(passed, dtype=single), np.array(regression)
    after = bbreg(before, regression)
    pick = nms(after, 0.7, "Min")
    landmarks = []
    for i in pick:
        # The picture is transposed, so its columns are the blob's rows.
        q = onet(np.ascontiguousarray(blobs[i][:, :, ::-1]))["conv6-3"][0]
        p = (points[i] + np.concatenate([1 - q[[1, 0, 2, 4, 3]], q[[6, 5, 7, 9, 8]]])) / 2
        x1, y1, x2, y2 = before[i, :4]
        landmarks.append(np.stack([p[:5] * (x2 - x1 + 1) + x1 - 1, p[5:] * (y2 - y1 + 1) + y1 - 1], axis=1))
    return after[pick], np.array(landmarks, dtype=single)
