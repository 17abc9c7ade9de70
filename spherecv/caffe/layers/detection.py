"""Layers of detectors: PriorBox, PriorBoxClustered and DetectionOutput of SSD."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, known
from spherecv.caffe.spherecv_caffe_pb2 import PriorBoxParameter
from spherecv.caffe.tail import Step

_SAME = 1e-6  # aspect ratios that differ by less are one, in SSD's own words
_LARGEST = 1 << 20  # pixels
_GOLDEN = "Caffe's answers (SSD build)"


class PriorBox(LayerKind):
    """Boxes of given sizes and ratios around every place of a map, relative to the image; and their variances."""

    bottoms = (2, 2)
    is_constant = True
    checked = f"{_GOLDEN}; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        for shape in bottoms:
            if len(shape) != 4:
                raise layer.mistake(f"needs bottoms (N, C, H, W), but got {shape}")
        height, width = bottoms[0][2:]
        return [(1, 2, height * width * len(self.sizes(layer)) * 4)]

    def sizes(self, layer: Layer) -> list[tuple[np.float32, np.float32]]:
        """Return width and height of the boxes at one place, in pixels of the image."""
        param = layer.param.prior_box_param
        if not param.min_size or not all(0 < size < _LARGEST for size in (*param.min_size, *param.max_size)):
            raise layer.mistake(f"needs a min_size; sizes must lie between 0 and {_LARGEST} pixels")
        if param.max_size and len(param.max_size) != len(param.min_size):
            raise layer.mistake(f"has {len(param.min_size)} min_size, but {len(param.max_size)} max_size")
        if any(high <= low for low, high in zip(param.min_size, param.max_size, strict=False)):
            raise layer.mistake("max_size must be greater than min_size")
        if param.width or param.height:
            raise layer.mistake("width and height are settings of PriorBoxClustered")
        ratios = self._ratios(layer)
        boxes = []
        for index, size in enumerate(param.min_size):
            least = np.float32(int(size))  # SSD keeps the sizes in an int: what is behind the point is cut off
            boxes.append((least, least))
            if param.max_size:
                middle = np.float32(math.sqrt(int(size) * int(param.max_size[index])))
                boxes.append((middle, middle))
            roots = [np.sqrt(np.float32(ratio)) for ratio in ratios]
            boxes += [(np.float32(least * root), np.float32(least / root)) for root in roots]
        return boxes

    @staticmethod
    def _ratios(layer: Layer) -> list[float]:
        """Return the aspect ratios but for 1, which is always there, each once."""
        param = layer.param.prior_box_param
        ratios = [np.float32(1)]
        for given in param.aspect_ratio:
            ratio = np.float32(given)
            if not 0 < ratio < math.inf:
                raise layer.mistake(f"aspect_ratio must be positive, but got {given}")
            if not any(abs(ratio - other) < _SAME for other in ratios):
                ratios += [ratio, np.float32(1 / ratio)] if param.flip else [ratio]
        return [float(ratio) for ratio in ratios if abs(ratio - 1) >= _SAME]

    def constants(self, layer: Layer, bottoms: Sequence[Dims]) -> list[Array] | None:
        (height, width), image = known(bottoms[0][2:]), known(bottoms[1][2:])
        image = self._image(layer, image)
        step = self._step(layer, image, (height, width))
        boxes = np.array(self.sizes(layer), np.float32)
        offset = np.float32(layer.param.prior_box_param.offset)
        y, x = ((np.arange(count, dtype=np.float32) + offset) * np.float32(size) for count, size in
                zip((height, width), step, strict=True))  # fmt: skip
        centres = np.stack(np.meshgrid(x, y), 2)[:, :, None].astype(np.float64)
        halves = boxes.astype(np.float64) / 2
        corners = np.concatenate([centres - halves, centres + halves], 3) / np.array([*image[::-1]] * 2)
        priors = corners.astype(np.float32).reshape(-1)
        if layer.param.prior_box_param.clip:
            priors = np.clip(priors, np.float32(0), np.float32(1))
        return [np.stack([priors, np.resize(self._variances(layer), priors.shape)])[None]]

    @staticmethod
    def _variances(layer: Layer) -> Array:
        given = layer.param.prior_box_param.variance
        if len(given) not in (0, 1, 4) or not all(0 < number < math.inf for number in given):
            raise layer.mistake("takes one variance or four, and positive ones")
        return np.array(given or [0.1], np.float32)

    @staticmethod
    def _image(layer: Layer, bottom: Shape) -> Shape:
        param = layer.param.prior_box_param
        if param.HasField("img_h") or param.HasField("img_w"):
            if param.HasField("img_size"):
                raise layer.mistake("give img_size or img_h and img_w, not both")
            bottom = (param.img_h, param.img_w)
        elif param.HasField("img_size"):
            bottom = (param.img_size, param.img_size)
        if min(bottom) < 1:
            raise layer.mistake("the image's size must be positive")
        return bottom

    @staticmethod
    def _step(layer: Layer, image: Shape, size: Shape) -> tuple[float, float]:
        param = layer.param.prior_box_param
        if param.HasField("step_h") or param.HasField("step_w"):
            if param.HasField("step"):
                raise layer.mistake("give step or step_h and step_w, not both")
            step = (param.step_h, param.step_w)
        elif param.HasField("step"):
            step = (param.step, param.step)
        else:
            return float(np.float32(image[0]) / np.float32(size[0])), float(np.float32(image[1]) / np.float32(size[1]))
        if not all(0 < size < _LARGEST for size in step):
            raise layer.mistake(f"the step must lie between 0 and {_LARGEST} pixels")
        return step


class PriorBoxClustered(PriorBox):
    """Boxes of given widths and heights around every place of a map (OpenVINO's fork)."""

    checked = "a float64 transcription of its definition"

    def sizes(self, layer: Layer) -> list[tuple[np.float32, np.float32]]:
        param = layer.param.prior_box_param
        whole = all(0 < size < _LARGEST for size in (*param.width, *param.height))
        if not param.width or len(param.width) != len(param.height) or not whole:
            raise layer.mistake(f"needs as many width as height, between 0 and {_LARGEST} pixels")
        if param.min_size or param.max_size or param.aspect_ratio:
            raise layer.mistake("takes width and height, not min_size, max_size and aspect_ratio")
        return [(np.float32(w), np.float32(h)) for w, h in zip(param.width, param.height, strict=True)]


class DetectionOutput(LayerKind):
    """SSD's end: offsets to boxes, confidences to scores, and only the best of those that overlap."""

    bottoms = (3, 3)
    open_axis = 2
    checked = f"{_GOLDEN}; OpenCV 4.14 on res10"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.detection_output_param
        self._check_settings(layer)
        locations, confidences, priors = bottoms
        if len(priors) < 3 or math.prod(priors[:2]) != 2 or math.prod(priors) % 8:
            raise layer.mistake(f"its third bottom must hold priors, (1, 2, 4 per prior), but has the shape {priors}")
        if not locations or not confidences or locations[0] != confidences[0]:
            raise layer.mistake(f"its bottoms are of different batches: {locations}, {confidences}")
        count = math.prod(priors) // 8
        for what, shape, each in (
            ("locations", locations, 4 * (1 if param.share_location else param.num_classes)),
            ("confidences", confidences, param.num_classes),
        ):
            if math.prod(shape[1:]) != count * each:
                raise layer.mistake(f"has {count} priors and so needs {count * each} {what}, but got {shape}")
        return [(1, 1, 1, 7)]

    @staticmethod
    def _check_settings(layer: Layer) -> None:
        param = layer.param.detection_output_param
        nms = param.nms_param
        if param.num_classes < 1:
            raise layer.mistake("num_classes is missing")
        if param.background_label_id == -1 and param.share_location:
            raise layer.mistake("without a background it needs locations for each class: share_location: false")
        if nms.nms_threshold < 0 or not 0 < nms.eta <= 1:
            raise layer.mistake("nms_threshold must not be negative, and eta must be above 0 and at most 1")
        if not param.normalized_bbox or param.clip:
            raise layer.unsupported("normalized_bbox: false and clip: true are OpenCV's own, and not supported")
        if param.visualize or param.HasField("save_file") or param.save_output_param.output_directory:
            raise layer.unsupported("it draws or writes files (visualize, save_output_param): remove those settings")

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        param = layer.param.detection_output_param
        nms = param.nms_param
        threshold = param.confidence_threshold if param.HasField("confidence_threshold") else None
        settings = {
            "num_classes": param.num_classes,
            "share_location": param.share_location,
            "background_label_id": param.background_label_id,
            "code_type": PriorBoxParameter.CodeType.Name(param.code_type),
            "variance_encoded_in_target": param.variance_encoded_in_target,
            "keep_top_k": param.keep_top_k,
            "confidence_threshold": threshold,
            "nms_threshold": nms.nms_threshold,  # without nms_param, the original SSD suppresses at the default 0.3
            "top_k": nms.top_k if nms.HasField("top_k") else -1,
            "eta": nms.eta,
        }
        return Step("DetectionOutput", settings)
