"""Layers of forks against loops that follow their definitions, number by number in float64, and against OpenCV 4."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from spherecv.caffe import load, write_blob
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.errors import PrototxtError, SphereCVError, UnsupportedLayerError
from spherecv.runtime import Session

pytestmark = pytest.mark.runtime

BACKENDS = ["opencv", "onnxruntime"]
importer = pytest.mark.skipif(not hasattr(cv2.dnn, "readNetFromCaffe"), reason="OpenCV 5 has no Caffe importer")


def _net(shape, layer, **others):
    inputs = {"x": shape, **others}
    text = ""
    for name, size in inputs.items():
        text += f'input: "{name}" input_shape {{ {" ".join(f"dim: {n}" for n in size)} }}\n'
    return (text + layer).encode()


def _weights(**layers):
    weights = NetParameter()
    for name, blobs in layers.items():
        stored = weights.layer.add(name=name)
        for blob in blobs:
            write_blob(blob, stored.blobs.add())
    return weights.SerializeToString()


def _run(text, feeds, backend, weights=None, output="y"):
    session = Session(load(text, weights).to_onnx(), backend=backend)
    return session.run({name: np.asarray(feeds[name], np.float32) for name in session.inputs})[output]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("groups", [1, 2, 3, 4, 12])
def test_shuffle_channel(groups, backend, numbers):
    x = numbers((2, 12, 3, 2))
    param = f"shuffle_channel_param {{ group: {groups} }}"
    layer = f'layer {{ name: "l" type: "ShuffleChannel" bottom: "x" top: "y" {param} }}'
    right = np.empty_like(x)
    for group in range(groups):
        for place in range(12 // groups):
            right[:, place * groups + group] = x[:, group * (12 // groups) + place]
    np.testing.assert_array_equal(_run(_net(x.shape, layer), {"x": x}, backend), right)


@pytest.mark.parametrize("backend", BACKENDS)
def test_reorg_in_the_order_of_darknet(backend, numbers):
    n, c, h, w, s = 2, 8, 4, 6, 2
    x = numbers((n, c, h, w))
    flat, right = x.reshape(n, -1), np.empty((n, c * h * w), np.float32)
    back = np.empty_like(right)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                inside = i + w * (j + h * k)
                c2, offset = k % (c // s**2), k // (c // s**2)
                w2, h2 = i * s + offset % s, j * s + offset // s
                outside = w2 + w * s * (h2 + h * s * c2)
                right[:, inside] = flat[:, outside]
                back[:, outside] = flat[:, inside]
    layer = 'layer {{ name: "l" type: "Reorg" bottom: "x" top: "y" reorg_param {{ stride: 2 reverse: {} }} }}'
    answer = _run(_net(x.shape, layer.format("false")), {"x": x}, backend)
    np.testing.assert_array_equal(answer, right.reshape(n, c * s * s, h // s, w // s))
    answer = _run(_net(x.shape, layer.format("true")), {"x": x}, backend)
    np.testing.assert_array_equal(answer, back.reshape(n, c // s**2, h * s, w * s))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axes", [(), (2,), (3,), (2, 3)])
def test_flip(axes, backend, numbers):
    x = numbers((2, 3, 4, 5))
    words = {2: "flip_height: true", 3: "flip_width: true"}
    param = f"flip_param {{ {' '.join(words[a] for a in axes)} }}"
    layer = f'layer {{ name: "l" type: "Flip" bottom: "x" top: "y" {param} }}'
    np.testing.assert_array_equal(_run(_net(x.shape, layer), {"x": x}, backend), np.flip(x, axes))


@pytest.mark.parametrize("backend", BACKENDS)
def test_mish(backend, numbers):
    far = np.float32([-120, -88, -30, -20, 0, 19.9, 20.1, 50, 88, 120])
    x = np.concatenate([numbers((60,)) * 8, far]).reshape(7, 10)
    right = x.astype(float) * np.tanh(np.log1p(np.exp(x.astype(float))))
    layer = 'layer { name: "l" type: "Mish" bottom: "x" top: "y" }'
    np.testing.assert_allclose(_run(_net(x.shape, layer), {"x": x}, backend), right, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_axpy(backend, numbers):
    x, y, a = numbers((2, 3, 4, 5), 1), numbers((2, 3, 4, 5), 2), numbers((2, 3), 3)
    layer = 'layer { name: "l" type: "Axpy" bottom: "a" bottom: "x" bottom: "z" top: "y" }'
    text = _net(x.shape, layer, z=y.shape, a=a.shape)
    answer = _run(text, {"x": x, "z": y, "a": a}, backend)
    np.testing.assert_allclose(answer, a[:, :, None, None] * x + y, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bn_of_segnet(backend, numbers):
    x, scale, shift = numbers((2, 3, 4, 5), 1), numbers((1, 3, 1, 1), 2), numbers((1, 3, 1, 1), 3)
    param = "bn_param { bn_mode: INFERENCE scale_filler { value: 1 } }"
    layer = f'layer {{ name: "l" type: "BN" bottom: "x" top: "y" {param} }}'
    answer = _run(_net(x.shape, layer), {"x": x}, backend, _weights(l=[scale, shift]))
    np.testing.assert_allclose(answer, x * scale + shift, atol=1e-6)
    with pytest.raises(UnsupportedLayerError, match="bn_mode: LEARN"):
        load(_net(x.shape, layer.replace("INFERENCE", "LEARN")), _weights(l=[scale, shift])).to_onnx()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bn_of_pspnet(backend, numbers):
    x, mean, slope, bias = (numbers(shape, seed) for seed, shape in enumerate([(2, 3, 4, 5), *[(1, 3, 1, 1)] * 3]))
    variance = np.abs(numbers((1, 3, 1, 1), 9)) + np.float32(0.1)
    layer = 'layer { name: "l" type: "BN" bottom: "x" top: "y" bn_param { eps: 0.01 frozen: true momentum: 0.95 } }'
    answer = _run(_net(x.shape, layer), {"x": x}, backend, _weights(l=[slope, bias, mean, variance]))
    right = (x.astype(float) - mean) / np.sqrt(variance.astype(float) + 0.01) * slope + bias
    np.testing.assert_allclose(answer, right, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 4, 5)])
@pytest.mark.parametrize("kind", ["", "L2", "L1"])
def test_normalize_of_normface(kind, shape, backend, numbers):
    x = numbers(shape)
    param = f'normalize_param {{ normalize_type: "{kind}" }}' if kind else ""
    layer = f'layer {{ name: "l" type: "Normalize" bottom: "x" top: "y" {param} }}'
    size = np.abs(x.astype(float)).sum(1) + 1e-6 if kind == "L1" else np.sqrt((x.astype(float) ** 2).sum(1) + 1e-6)
    answer = _run(_net(shape, layer), {"x": x}, backend, _weights(l=[]))
    np.testing.assert_allclose(answer, x / size[:, None], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 4)])
def test_batch_norm_of_nvcaffe(shape, backend, numbers):
    x = numbers(shape)
    mean, gain, bias = (numbers((4,), seed) for seed in (1, 2, 3))
    variance, factor = np.abs(numbers((4,), 4)) + np.float32(0.1), np.float32([2])
    param = "batch_norm_param { scale_bias: true eps: 0.001 }"
    layer = f'layer {{ name: "l" type: "BatchNorm" bottom: "x" top: "y" {param} }}'
    answer = _run(_net(shape, layer), {"x": x}, backend, _weights(l=[mean, variance, factor, gain, bias]))
    trailing = (1,) * (len(shape) - 2)
    mean, variance, gain, bias = (v.astype(float).reshape(4, *trailing) for v in (mean, variance, gain, bias))
    right = (x - mean / 2) / np.sqrt(variance / 2 + 0.001) * gain + bias
    np.testing.assert_allclose(answer, right, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_norm_of_normface_is_a_blob_too(backend, numbers):
    x = numbers((3, 8))
    text = _net(x.shape, 'layer { name: "l" type: "Normalize" bottom: "x" top: "y" top: "n" }')
    norm = np.sqrt((x.astype(float) ** 2).sum(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(_run(text, {"x": x}, backend, _weights(l=[]), output="n"), norm, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inner_product_of_normface(backend, numbers):
    """The norm of every row is one; what follows is not folded into rows that are not yet so."""
    x, weight, bias, scale = numbers((3, 6), 1), numbers((4, 6), 2), numbers((4,), 3), numbers((4,), 4)
    text = _net(
        x.shape,
        'layer { name: "l" type: "InnerProduct" bottom: "x" top: "h" '
        "inner_product_param { num_output: 4 normalize: true } }"
        'layer { name: "s" type: "Scale" bottom: "h" top: "y" }',
    )
    rows = weight / np.sqrt((weight.astype(float) ** 2).sum(1, keepdims=True) + 1e-6)
    answer = _run(text, {"x": x}, backend, _weights(l=[weight, bias], s=[scale]))
    np.testing.assert_allclose(answer, (x @ rows.T + bias) * scale, atol=1e-6)


INTERPS = [
    ((5, 7), "height: 9 width: 12"),
    ((5, 7), "zoom_factor: 3"),
    ((9, 13), "shrink_factor: 4"),
    ((9, 13), "shrink_factor: 2 zoom_factor: 3"),
    ((9, 13), "height: 1 width: 2"),
    ((9, 13), "zoom_factor: 2 pad_beg: -1 pad_end: -2"),
]


def _interp(x, size, start=0, end=0):
    """caffe_cpu_interp2, place by place."""
    x = x[:, :, start : x.shape[2] - end, start : x.shape[3] - end].astype(float)
    y = np.empty((*x.shape[:2], *size))
    rates = [(x.shape[2 + a] - 1) / (size[a] - 1) if size[a] > 1 else 0 for a in range(2)]
    for i in range(size[0]):
        for j in range(size[1]):
            (h, fh), (w, fw) = ((int(rate * p), rate * p % 1) for rate, p in zip(rates, (i, j), strict=True))
            h1, w1 = min(h + 1, x.shape[2] - 1), min(w + 1, x.shape[3] - 1)
            y[:, :, i, j] = (1 - fh) * ((1 - fw) * x[:, :, h, w] + fw * x[:, :, h, w1]) + fh * (
                (1 - fw) * x[:, :, h1, w] + fw * x[:, :, h1, w1]
            )
    return y


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("size", "param"), INTERPS)
def test_interp(size, param, backend, numbers):
    x = numbers((2, 3, *size))
    layer = f'layer {{ name: "l" type: "Interp" bottom: "x" top: "y" interp_param {{ {param} }} }}'
    given = {key.rstrip(":"): int(value) for key, value in zip(*[iter(param.split())] * 2, strict=True)}
    start, end = -given.get("pad_beg", 0), -given.get("pad_end", 0)
    shrunk = [(side - start - end - 1) // given.get("shrink_factor", 1) + 1 for side in size]
    zoomed = [side + (side - 1) * (given.get("zoom_factor", 1) - 1) for side in shrunk]
    wanted = [given["height"], given["width"]] if "height" in given else zoomed
    answer = _run(_net(x.shape, layer), {"x": x}, backend)
    np.testing.assert_allclose(answer, _interp(x, wanted, start, end), atol=2e-6)


@importer
@pytest.mark.parametrize(("size", "param"), INTERPS[:2])
def test_interp_in_opencv_4(size, param, numbers):
    x = numbers((2, 3, *size))
    text = _net(x.shape, f'layer {{ name: "l" type: "Interp" bottom: "x" top: "y" interp_param {{ {param} }} }}')
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8))
    net.setInput(x)
    np.testing.assert_allclose(_run(text, {"x": x}, "onnxruntime"), net.forward(), atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_interp_to_the_size_of_another_blob(backend, numbers):
    x, like = numbers((1, 2, 4, 5)), numbers((1, 3, 7, 9))
    text = _net(x.shape, 'layer { name: "l" type: "Interp" bottom: "x" bottom: "z" top: "y" }', z=like.shape)
    np.testing.assert_allclose(_run(text, {"x": x, "z": like}, backend), _interp(x, (7, 9)), atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("pool", "up"),
    [
        ("kernel_size: 2 stride: 2", "scale: 2"),
        ("kernel_size: 3 stride: 2 pad: 1", "upsample_h: 8 upsample_w: 6"),
        ("kernel_size: 2 stride: 2", "scale: 2 pad_out_h: true"),
    ],
)
def test_segnet_s_pair_of_pooling_and_upsampling(pool, up, backend, numbers):
    height = 7 if "pad_out" in up else 8
    x = numbers((2, 3, height, 6))
    text = _net(
        x.shape,
        f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param {{ {pool} }} }}'
        'layer { name: "r" type: "ReLU" bottom: "p" top: "r" relu_param { negative_slope: 0.5 } }'
        f'layer {{ name: "u" type: "Upsample" bottom: "r" bottom: "m" top: "u" upsample_param {{ {up} }} }}'
        'layer { name: "s" type: "Power" bottom: "u" top: "y" power_param { shift: 1 } }',
    )
    kernel, stride = int(pool.split()[1]), 2
    pad = 1 if "pad" in pool else 0
    right = np.zeros_like(x)
    for n, c in np.ndindex(2, 3):
        for i in range(math.ceil((height + 2 * pad - kernel) / stride) + 1):
            for j in range(math.ceil((6 + 2 * pad - kernel) / stride) + 1):
                rows = range(max(0, i * stride - pad), min(height, i * stride - pad + kernel))
                columns = range(max(0, j * stride - pad), min(6, j * stride - pad + kernel))
                if not rows or not columns:
                    continue
                h, w = max(((h, w) for h in rows for w in columns), key=lambda place: x[(n, c, *place)])
                value = x[n, c, h, w]
                right[n, c, h, w] = value if value > 0 else value / 2
    np.testing.assert_allclose(_run(text, {"x": x}, backend), right + 1, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_prior_box_clustered(backend):
    layer = (
        'layer { name: "l" type: "PriorBoxClustered" bottom: "x" bottom: "z" top: "y" prior_box_param { width: 9.5 '
        "width: 20 height: 11 height: 7.25 step_w: 8 step_h: 9 offset: 0.5 variance: 0.1 variance: 0.2 variance: 0.3 "
        "variance: 0.4 } }"
    )
    feeds = {"x": np.zeros((1, 2, 2, 3)), "z": np.zeros((1, 3, 18, 25))}
    answer = _run(_net((1, 2, 2, 3), layer, z=(1, 3, 18, 25)), feeds, backend)
    boxes = []
    for i in range(2):
        for j in range(3):
            for w, h in ((9.5, 11), (20, 7.25)):
                x, y = (j + 0.5) * 8, (i + 0.5) * 9
                boxes += [(x - w / 2) / 25, (y - h / 2) / 18, (x + w / 2) / 25, (y + h / 2) / 18]
    np.testing.assert_allclose(answer[0, 0], boxes, atol=1e-6)
    np.testing.assert_allclose(answer[0, 1], np.tile([0.1, 0.2, 0.3, 0.4], 12), atol=1e-7)


ROIS = np.float32([[0, 0, 0, 31, 23], [1, 4, 3, 20, 12], [0, 10.6, 7.4, 12, 9], [1, 30, 22, 40, 30], [0, 16, 8, 3, 2]])


def _c_round(value):
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _roi_pooling(maps, rois, pooled, scale):
    answer = np.zeros((len(rois), maps.shape[1], *pooled), np.float32)
    for r, roi in enumerate(rois.astype(float)):
        x1, y1, x2, y2 = (_c_round(v * scale) for v in roi[1:])
        high, wide = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i, j in np.ndindex(*pooled):
            tall, broad = high / pooled[0], wide / pooled[1]
            rows = [min(max(v + y1, 0), maps.shape[2]) for v in (math.floor(i * tall), math.ceil((i + 1) * tall))]
            cols = [min(max(v + x1, 0), maps.shape[3]) for v in (math.floor(j * broad), math.ceil((j + 1) * broad))]
            part = maps[int(roi[0]), :, rows[0] : rows[1], cols[0] : cols[1]]
            answer[r, :, i, j] = part.max((1, 2)) if part.size else 0
    return answer


ROI_LAYER = (
    'layer { name: "l" type: "ROIPooling" bottom: "x" bottom: "rois" top: "y" '
    "roi_pooling_param { pooled_h: 3 pooled_w: 4 spatial_scale: 0.25 } }"
)
PSROI_LAYER = (
    'layer { name: "l" type: "PSROIPooling" bottom: "x" bottom: "rois" top: "y" '
    "psroi_pooling_param { output_dim: 2 group_size: 3 spatial_scale: 0.25 } }"
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_roi_pooling(backend, numbers):
    x = numbers((2, 3, 6, 8))
    answer = _run(_net(x.shape, ROI_LAYER, rois=ROIS.shape), {"x": x, "rois": ROIS}, backend)
    np.testing.assert_array_equal(answer, _roi_pooling(x, ROIS, (3, 4), 0.25))


@pytest.mark.parametrize("backend", BACKENDS)
def test_psroi_pooling(backend, numbers):
    x = numbers((2, 18, 6, 8))
    answer = _run(_net(x.shape, PSROI_LAYER, rois=ROIS.shape), {"x": x, "rois": ROIS}, backend)
    right = np.zeros((len(ROIS), 2, 3, 3))
    for r, roi in enumerate(ROIS.astype(float)):
        x1, y1 = _c_round(roi[1]) * 0.25, _c_round(roi[2]) * 0.25
        x2, y2 = (_c_round(roi[3]) + 1) * 0.25, (_c_round(roi[4]) + 1) * 0.25
        high, wide = max(y2 - y1, 0.1) / 3, max(x2 - x1, 0.1) / 3
        for c, i, j in np.ndindex(2, 3, 3):
            rows = [min(max(v, 0), 6) for v in (math.floor(i * high + y1), math.ceil((i + 1) * high + y1))]
            cols = [min(max(v, 0), 8) for v in (math.floor(j * wide + x1), math.ceil((j + 1) * wide + x1))]
            part = x[int(roi[0]), (c * 3 + i) * 3 + j, rows[0] : rows[1], cols[0] : cols[1]]
            right[r, c, i, j] = part.mean() if part.size else 0
    np.testing.assert_allclose(answer, right, atol=1e-6)


@importer
@pytest.mark.parametrize(("layer", "channels"), [(ROI_LAYER, 3), (PSROI_LAYER, 18)])
def test_regions_in_opencv_4(layer, channels, numbers):
    x, rois = numbers((1, channels, 6, 8)), ROIS[[0, 2]]
    text = _net(x.shape, layer, rois=rois.shape)
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8))
    net.setInput(x, "x")
    net.setInput(rois, "rois")
    np.testing.assert_allclose(_run(text, {"x": x, "rois": rois}, "onnxruntime"), net.forward(), atol=1e-6)


def _proposals(scores, deltas, info, anchors, stride, least, before, after, threshold, drop):
    """rpn/proposal_layer.py, box by box."""
    count, (height, width) = len(anchors), scores.shape[2:]
    found = []
    for h in range(height):
        for w in range(width):
            for a, anchor in enumerate(anchors):
                x1, y1, x2, y2 = (float(v) + stride * p for v, p in zip(anchor, (w, h, w, h), strict=True))
                dx, dy, dw, dh = deltas[0, 4 * a : 4 * a + 4, h, w].astype(float)
                wide, high = x2 - x1 + 1, y2 - y1 + 1
                cx, cy = dx * wide + x1 + wide / 2, dy * high + y1 + high / 2
                wide, high = math.exp(dw) * wide, math.exp(dh) * high
                box = [cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2]
                box = [min(max(v, 0), limit - 1) for v, limit in zip(box, (info[1], info[0]) * 2, strict=True)]
                score = float(scores[0, count + a, h, w])
                small = box[2] - box[0] + 1 < least * info[2] or box[3] - box[1] + 1 < least * info[2]
                if not (small and drop):
                    found.append((0.0 if small else score, box))
    found.sort(key=lambda one: -one[0])
    found = found[:before] if before else found
    kept = []
    for score, box in found:
        area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
        for _, other in kept if threshold else ():
            wide = min(box[2], other[2]) - max(box[0], other[0]) + 1
            high = min(box[3], other[3]) - max(box[1], other[1]) + 1
            common = max(wide, 0) * max(high, 0)
            if common / (area + (other[2] - other[0] + 1) * (other[3] - other[1] + 1) - common) > threshold:
                break
        else:
            kept.append((score, box))
    kept = kept[:after] if after else kept
    return np.array([[0, *box] for _, box in kept]), np.array([score for score, _ in kept])


def _rpn(numbers, anchors, size=(4, 5)):
    scores = numbers((1, 2 * anchors, *size), 1) / 2 + np.float32(0.5)
    deltas = numbers((1, 4 * anchors, *size), 2) / 2
    return scores, deltas, np.float32([[60, 75, 1.5]])


# The well-known anchors of generate_anchors.py: ratios 0.5, 1, 2 and scales 8, 16, 32 of a base of 16.
KNOWN_ANCHORS = [
    (-84, -40, 99, 55), (-176, -88, 191, 103), (-360, -184, 375, 199), (-56, -56, 71, 71), (-120, -120, 135, 135),
    (-248, -248, 263, 263), (-36, -80, 51, 95), (-80, -168, 95, 183), (-168, -344, 183, 359),
]  # fmt: skip
PROPOSAL = (
    'layer {{ name: "l" type: "Proposal" bottom: "s" bottom: "d" bottom: "x" top: "y" top: "q" proposal_param {{ '
    "ratio: 0.5 ratio: 1 ratio: 2 scale: 8 scale: 16 scale: 32 feat_stride: 16 base_size: 16 min_size: 16 "
    "pre_nms_topn: {} post_nms_topn: {} nms_thresh: 0.6 }} }}"
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("before", "after"), [(6000, 300), (40, 7)])
def test_proposal(before, after, backend, numbers):
    scores, deltas, info = _rpn(numbers, 9)
    text = _net(info.shape, PROPOSAL.format(before, after), s=scores.shape, d=deltas.shape)
    feeds = {"x": info, "s": scores, "d": deltas}
    right, best = _proposals(scores, deltas, info[0], KNOWN_ANCHORS, 16, 16, before, after, 0.6, drop=False)
    np.testing.assert_allclose(_run(text, feeds, backend), right, atol=1e-3)
    np.testing.assert_allclose(_run(text, feeds, backend, output="q"), best, atol=1e-6)


PYTHON = (
    'layer {{ name: "l" type: "Python" bottom: "s" bottom: "d" bottom: "x" top: "y" python_param {{ module: "{}" '
    'layer: "ProposalLayer" param_str: "{}" }} }}'
)


@pytest.mark.parametrize(
    "settings", ["'feat_stride': 16", "{'feat_stride': 16, 'scales': [8, 16, 32], 'ratios': [0.5, 1, 2]}",
                 "'feat_stride': 16\\n'scales': !!python/tuple [8, 16, 32]", "feat_stride: 16"],
)  # fmt: skip
def test_the_python_layer_of_py_faster_rcnn(settings, numbers):
    scores, deltas, info = _rpn(numbers, 9)
    text = _net(info.shape, PYTHON.format("rpn.proposal_layer", settings), s=scores.shape, d=deltas.shape)
    right, _ = _proposals(scores, deltas, info[0], KNOWN_ANCHORS, 16, 16, 6000, 300, 0.7, drop=True)
    np.testing.assert_allclose(_run(text, {"x": info, "s": scores, "d": deltas}, "opencv"), right, atol=1e-3)


def test_the_python_layer_of_ssh(numbers):
    scores, deltas, info = _rpn(numbers, 2, (30, 40))
    settings = "{'feat_stride': 8,'scales': [1,2], 'ratios':[1,]}"
    text = _net(info.shape, PYTHON.format("SSH.layers.proposal_layer", settings), s=scores.shape, d=deltas.shape)
    anchors = [(0, 0, 15, 15), (-8, -8, 23, 23)]
    right, _ = _proposals(scores, deltas, info[0], anchors, 8, 0, 1000, 0, None, drop=True)
    answer = _run(text, {"x": info, "s": scores, "d": deltas}, "opencv")
    assert answer.shape == (1000, 5)
    np.testing.assert_allclose(answer, right, atol=1e-3)


SSH_MODULE = """
layer { name: "c@" type: "Convolution" bottom: "i" top: "c@"
  convolution_param { num_output: 12 kernel_size: @ stride: @ } }
layer { name: "q@" type: "Slice" bottom: "c@" top: "s@" top: "d@" slice_param { slice_point: 4 } }
layer { name: "r@" type: "Reshape" bottom: "s@" top: "r@" reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
layer { name: "p@" type: "Softmax" bottom: "r@" top: "p@" }
layer { name: "b@" type: "Reshape" bottom: "p@" top: "b@" reshape_param { shape { dim: 0 dim: 4 dim: -1 dim: 0 } } }
layer { name: "o@" type: "Python" bottom: "b@" bottom: "d@" bottom: "x" top: "boxes@" top: "scores@" python_param {
  module: 'SSH.layers.proposal_layer' layer: 'ProposalLayer'
  param_str: "{'feat_stride': @,'scales': [1,2], 'ratios':[1,]}" } }
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(96, 80), (64, 96), (8, 8)])
def test_modules_of_ssh_at_any_size(size, backend, numbers):
    """Boxes of two strides, joined: how many there are depends on the image."""
    text = _net(
        (1, 3),
        SSH_MODULE.replace("@", "8")
        + SSH_MODULE.replace("@", "4")
        + 'layer { name: "y" type: "Concat" bottom: "boxes8" bottom: "boxes4" top: "y" concat_param { axis: 0 } }'
        + 'layer { name: "z" type: "Concat" bottom: "scores8" bottom: "scores4" top: "z" concat_param { axis: 0 } }',
        i=(1, 3, 48, 48),
    )
    image, info = numbers((1, 3, *size), 3), np.float32([[*size, 1]])
    kernels = {8: numbers((12, 3, 8, 8), 1) / 4, 4: numbers((12, 3, 4, 4), 2) / 2}
    weights = _weights(**{f"c{stride}": [kernel, np.zeros(12, np.float32)] for stride, kernel in kernels.items()})
    boxes, best = [], []
    for stride, kernel in kernels.items():
        high, wide = size[0] // stride, size[1] // stride
        maps = np.empty((1, 12, high, wide))
        for i, j in np.ndindex(high, wide):
            part = image[0, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride].astype(float)
            maps[0, :, i, j] = (kernel * part).sum((1, 2, 3))
        odds = np.exp(maps[:, :4].reshape(1, 2, -1, wide))
        scores = (odds / odds.sum(1, keepdims=True)).reshape(1, 4, high, wide)
        anchors = [(0, 0, 15, 15), (-8, -8, 23, 23)]
        found = _proposals(scores, maps[:, 4:], info[0], anchors, stride, 0, 1000, 0, None, drop=True)
        boxes.append(found[0])
        best.append(found[1])
    feeds = {"x": info, "i": image}
    np.testing.assert_allclose(_run(text, feeds, backend, weights, output="z")[:, 0], np.concatenate(best), atol=1e-5)
    np.testing.assert_allclose(_run(text, feeds, backend, weights), np.concatenate(boxes), atol=1e-2)


@pytest.mark.parametrize(
    ("module", "settings", "complaint"),
    [
        ("my.loss_layer", "", "register"),
        ("rpn.proposal_layer", "", "feat_stride"),
        ("rpn.proposal_layer", "feat_stride: {}", "feat_stride"),
        ("rpn.proposal_layer", "'feat_stride': 16, 'thing': 3", "thing"),
        ("rpn.proposal_layer", "'feat_stride': __import__", "no number or list"),
        ("rpn.proposal_layer", "'feat_stride': 16, 'scales': 3", "must be lists"),
        ("rpn.proposal_layer", "'feat_stride': 16, 'scales': [0]", "positive"),
    ],
)
def test_python_layers_that_are_not_known(module, settings, complaint):
    text = _net((1, 3), PYTHON.format(module, settings), s=(1, 18, 4, 5), d=(1, 36, 4, 5))
    with pytest.raises(SphereCVError, match=complaint):
        load(text)


def test_a_whole_faster_rcnn(numbers):
    """Proposal, ROIPooling and dense layers on as many regions as there are: nets and NumPy in turn."""
    text = _net(
        (1, 3),
        PROPOSAL.format(200, 20).replace(' top: "q"', "")
        + 'layer { name: "c" type: "Convolution" bottom: "i" top: "c" convolution_param { num_output: 4 kernel_size: 3 '
        'stride: 16 } } layer { name: "r" type: "ROIPooling" bottom: "c" bottom: "y" top: "r" roi_pooling_param { '
        'pooled_h: 2 pooled_w: 2 spatial_scale: 0.0625 } } layer { name: "f" type: "InnerProduct" bottom: "r" top: "f" '
        'inner_product_param { num_output: 5 } } layer { name: "o" type: "Softmax" bottom: "f" top: "o" }',
        s=(1, 18, 4, 5),
        d=(1, 36, 4, 5),
        i=(1, 3, 60, 75),
    )
    scores, deltas, info = _rpn(numbers, 9)
    image, kernel, bias = numbers((1, 3, 60, 75), 4), numbers((4, 3, 3, 3), 5), numbers((4,), 6)
    dense, offset = numbers((5, 16), 7), numbers((5,), 8)
    weights = _weights(c=[kernel, bias], f=[dense, offset])
    feeds = {"x": info, "s": scores, "d": deltas, "i": image}
    rois, _ = _proposals(scores, deltas, info[0], KNOWN_ANCHORS, 16, 16, 200, 20, 0.6, drop=False)
    maps = np.empty((1, 4, 4, 5))
    for o, i, j in np.ndindex(4, 4, 5):
        part = image[0, :, 16 * i : 16 * i + 3, 16 * j : 16 * j + 3].astype(float)
        maps[0, o, i, j] = (part * kernel[o]).sum() + bias[o]
    logits = _roi_pooling(maps, rois, (2, 2), 0.0625).reshape(len(rois), -1) @ dense.T + offset
    right = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for backend in BACKENDS:
        np.testing.assert_allclose(_run(text, feeds, backend, weights, output="o"), right, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        ('type: "ShuffleChannel" shuffle_channel_param { group: 5 }', "does not divide"),
        ('type: "Reorg" reorg_param { stride: 3 }', "does not fit"),
        ('type: "Interp"', "needs height and width"),
        ('type: "Interp" interp_param { height: 4 }', "both height and width"),
        ('type: "Interp" interp_param { height: 4 width: 4 zoom_factor: 2 }', "not both"),
        ('type: "Interp" interp_param { zoom_factor: 2 pad_beg: 1 }', "must not be positive"),
        ('type: "Interp" interp_param { zoom_factor: 2 pad_beg: -9 }', "more than its bottom"),
        ('type: "Upsample" upsample_param { scale: 2 scale_h: 2 }', "only scale"),
        ('type: "PixelShuffle" pixelshuffle_param { upscale_factor: 3 }', "does not fit"),
        ('type: "ConvolutionDepthwise" convolution_param { num_output: 6 kernel_size: 3 }', "no multiple"),
        ('type: "Pad" pad_param { pad_type: REFLECT pad_u: 6 }', "as wide as the image"),
        ('type: "Tile" tile_param { tiles: 0 }', "tiles must be"),
    ],
)
def test_mistakes(layer, complaint):
    with pytest.raises(PrototxtError, match=f"layer 'l'.*{complaint}"):
        load(_net((1, 4, 6, 6), f'layer {{ name: "l" bottom: "x" top: "y" {layer} }}'))
