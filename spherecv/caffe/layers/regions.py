"""Layers of Faster R-CNN and its kin: Proposal, also as a Python layer, ROIPooling and PSROIPooling."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind
from spherecv.caffe.layers.window import four_axes
from spherecv.caffe.tail import Step

_MOST_ANCHORS = 1 << 10
_MOST_ROIS = 1 << 20
_MOST_SIDE = 1 << 10  # parts of a region along a side


class Proposal(LayerKind):
    """Regions worth a closer look, from scored and moved anchors (PVANet's Caffe, and many after it).

    Anchors are those of py-faster-rcnn, with whole-numbered sides. Where `base_size` is 1, which would make nearly all
    of them squares, scales are sides in pixels, and the sides are rounded last, as brocolli's Caffe has it.
    """

    bottoms = (3, 3)
    tops = (1, 2)
    open_axis = 0
    checked = "Caffe's answers (SSD build, base_size 1); a float64 transcription of its definition"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, deltas, info = bottoms
        anchors, settings = self.anchors(layer), self.settings(layer)
        if len(scores) != 4 or scores[1] != 2 * len(anchors) or deltas != (scores[0], 4 * len(anchors), *scores[2:]):
            raise layer.mistake(
                f"has {len(anchors)} anchors, so it needs {2 * len(anchors)} channels of scores and {4 * len(anchors)} "
                f"of deltas, but got {scores}, {deltas}"
            )
        if not info or info[-1] < 3 or len(info) > 2:
            raise layer.mistake(f"its third bottom must hold height, width and scale, but has the shape {info}")
        limits = [settings[key] for key in ("pre_nms_topn", "post_nms_topn") if settings[key] > 0]
        rows = min(scores[0] * min([math.prod(scores[2:]) * len(anchors), *limits]), _MOST_ROIS)
        return [(rows, 5), self._scores(rows)][: len(layer.tops)]

    def _scores(self, rows: int) -> Shape:
        return (rows,)

    def settings(self, layer: Layer) -> dict[str, Any]:
        """Return the settings of the function."""
        param = layer.param.proposal_param
        fork = param.base_size == 1
        return {
            "feat_stride": param.feat_stride,
            "min_size": param.min_size,
            "pre_nms_topn": param.pre_nms_topn,
            "post_nms_topn": param.post_nms_topn,
            "nms_thresh": param.nms_thresh,
            "drop_small": False,
            "scaled": not fork,
            "empty": None,
            "columns": False,
        }

    def anchors(self, layer: Layer) -> Array:
        """Return the anchors at the first place of the map, (A, 4)."""
        param = layer.param.proposal_param
        ratios, scales = list(param.ratio), list(param.scale)
        if param.base_size == 1:
            _check_anchors(layer, ratios, scales, 1)
            return _pixel_anchors(ratios, scales)
        return whole_anchors(layer, ratios, scales, param.base_size)

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        return Step("Proposal", self.settings(layer), (self.anchors(layer),))


class PythonLayer(LayerKind):
    """A layer in Python: the ProposalLayer of py-faster-rcnn and that of SSH are known, by their parameters.

    Their other settings are those of the projects' configuration for testing: py-faster-rcnn takes the best 6000
    regions, suppresses at 0.7, and keeps 300, none smaller than 16 pixels; SSH gives the best 1000, of any size, and
    suppresses nothing.
    """

    bottoms = (1, None)
    tops = (1, None)
    open_axis = 0
    checked = "a float64 transcription of both layers' definitions"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        kind = self._kind(layer)
        if len(bottoms) != 3 or len(layer.tops) > 2:
            raise layer.mistake(f"has {len(bottoms)} bottoms and {len(layer.tops)} tops, but takes 3 and gives 1 or 2")
        if bottoms[0][:1] != (1,):
            raise layer.mistake(f"takes one image at a time, but its scores have the shape {bottoms[0]}")
        return kind.top_shapes(layer, bottoms)

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        return self._kind(layer).step(layer, bottoms)

    @staticmethod
    def _kind(layer: Layer) -> Proposal:
        param = layer.param.python_param
        if param.layer != "ProposalLayer" or param.module.split(".")[-1] != "proposal_layer":
            raise layer.unsupported(
                f"the Python layer {param.module[:60]}.{param.layer[:60]} is not known: write it for SphereCV and call "
                "spherecv.caffe.register, or end the net before it"
            )
        return _SSHProposal() if param.module.upper().startswith("SSH") else _PythonProposal()


class _PythonProposal(Proposal):
    pre_nms, post_nms, threshold, least = 6000, 300, 0.7, 16

    def _scores(self, rows: int) -> Shape:
        return (rows, 1)

    def settings(self, layer: Layer) -> dict[str, Any]:
        return {
            "feat_stride": _number(layer, self.parameters(layer), "feat_stride"),
            "min_size": self.least,
            "pre_nms_topn": self.pre_nms,
            "post_nms_topn": self.post_nms,
            "nms_thresh": self.threshold,
            "drop_small": True,
            "scaled": True,
            "empty": self.empty(),
            "columns": True,
        }

    def empty(self) -> list[float] | None:
        """Return the region that stands for none."""
        return None

    def anchors(self, layer: Layer) -> Array:
        given = self.parameters(layer)
        scales, ratios = given.get("scales", (8, 16, 32)), given.get("ratios", (0.5, 1, 2))
        base = given.get("base_size", 16)
        if not isinstance(scales, Sequence) or not isinstance(ratios, Sequence) or not isinstance(base, int):
            raise layer.mistake("scales and ratios must be lists, and base_size a number, in its param_str")
        return whole_anchors(layer, ratios, scales, base)

    @staticmethod
    def parameters(layer: Layer) -> Mapping[str, Any]:
        """Return what param_str says: a few settings in YAML, read without a reader of YAML."""
        known = {"feat_stride", "scales", "ratios", "base_size"}
        text = layer.param.python_param.param_str.replace("!!python/tuple", " ").strip().strip("{}")
        # A comma or a new line outside brackets ends a setting.
        settings = {}
        for part in re.split(r"[,\n](?![^\[\(]*[\]\)])", text):
            if not part.strip():
                continue
            key, _, value = part.partition(":")
            key = key.strip().strip("'\"")
            try:
                settings[key] = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                raise layer.mistake(f"its param_str gives {key[:40]!r} a value that is no number or list") from None
        if unknown := settings.keys() - known:
            raise layer.unsupported(f"its param_str has settings that are not known: {', '.join(sorted(unknown))[:80]}")
        return settings


class _SSHProposal(_PythonProposal):
    pre_nms, post_nms, threshold, least = 1000, -1, None, 0  # type: ignore[assignment]

    def empty(self) -> list[float] | None:
        return [0, 0, 0, 16, 16]


class ROIPooling(LayerKind):
    """The maxima in the parts of regions (Fast R-CNN's fork)."""

    bottoms = (2, 2)
    checked = "a float64 transcription of its definition; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.roi_pooling_param
        _check_regions(layer, bottoms)
        if not 1 <= min(param.pooled_h, param.pooled_w) <= max(param.pooled_h, param.pooled_w) <= _MOST_SIDE:
            raise layer.mistake(f"pooled_h and pooled_w must be from 1 to {_MOST_SIDE}")
        return [(bottoms[1][0], bottoms[0][1], param.pooled_h, param.pooled_w)]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        param = layer.param.roi_pooling_param
        settings = {"pooled_h": param.pooled_h, "pooled_w": param.pooled_w, "spatial_scale": param.spatial_scale}
        return Step("ROIPooling", settings)


class PSROIPooling(LayerKind):
    """The means in the parts of regions, each part from a channel of its own (R-FCN's fork)."""

    bottoms = (2, 2)
    checked = "a float64 transcription of its definition; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.psroi_pooling_param
        _check_regions(layer, bottoms)
        if not 1 <= param.group_size <= _MOST_SIDE or param.output_dim < 1:
            raise layer.mistake("output_dim and group_size must be positive")
        if bottoms[0][1] != param.output_dim * param.group_size**2:
            raise layer.mistake(f"needs {param.output_dim} x {param.group_size}^2 channels, but got {bottoms[0]}")
        return [(bottoms[1][0], param.output_dim, param.group_size, param.group_size)]

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        param = layer.param.psroi_pooling_param
        settings = {"output_dim": param.output_dim, "group_size": param.group_size}
        return Step("PSROIPooling", {**settings, "spatial_scale": param.spatial_scale})


def whole_anchors(layer: Layer, ratios: Sequence[float], scales: Sequence[float], base: int) -> Array:
    """Return the anchors of py-faster-rcnn (generate_anchors.py), (ratios * scales, 4): x1, y1, x2, y2."""
    _check_anchors(layer, ratios, scales, base)
    centre = 0.5 * (base - 1)
    anchors = []
    for ratio in ratios:
        width = np.round(np.sqrt(base * base / ratio))
        height = np.round(width * ratio)
        for scale in scales:
            half_width, half_height = 0.5 * (width * scale - 1), 0.5 * (height * scale - 1)
            anchors.append((centre - half_width, centre - half_height, centre + half_width, centre + half_height))
    return np.array(anchors, np.float32)


def _pixel_anchors(ratios: Sequence[float], scales: Sequence[float]) -> Array:
    """Return anchors whose scales are in pixels, around the first pixel's corner."""
    anchors = []
    for ratio in ratios:
        width = np.float32(np.sqrt(1 / np.float32(ratio)))
        for scale in scales:
            half_width, half_height = (0.5 * int(side * scale - 1 + 0.5) for side in (width, width * np.float32(ratio)))
            anchors.append((-half_width, -half_height, half_width, half_height))
    return np.array(anchors, np.float32)


def _check_anchors(layer: Layer, ratios: Sequence[float], scales: Sequence[float], base: int) -> None:
    numbers = [*ratios, *scales]
    whole = all(isinstance(number, int | float) and 0 < number < _MOST_ROIS for number in numbers)
    if not ratios or not scales or not whole or not 1 <= base < _MOST_ROIS:
        raise layer.mistake("ratios and scales are missing, or are no positive numbers")
    if len(ratios) * len(scales) > _MOST_ANCHORS:
        raise layer.mistake(f"has more than {_MOST_ANCHORS} anchors")


def _number(layer: Layer, given: Mapping[str, Any], name: str) -> float:
    value = given.get(name)
    if not isinstance(value, int | float) or not 0 < value < _MOST_ROIS:
        raise layer.mistake(f"its param_str gives no {name}, or not a positive one")
    return value


def _check_regions(layer: Layer, bottoms: Sequence[Shape]) -> None:
    four_axes(layer, bottoms[0])
    rois = bottoms[1]
    if not rois or rois[1:2] != (5,) or any(size != 1 for size in rois[2:]):
        raise layer.mistake(f"its second bottom must hold regions, (R, 5), but has the shape {rois}")
