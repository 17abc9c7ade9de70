"""BatchNorm, BN, MVN, Scale, Bias, Softmax, Normalize and LRN."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, SizeNeededError, Value, axis_of, known, reshape_target
from spherecv.caffe.layers.pooling import average_pool
from spherecv.caffe.layers.window import Window, four_axes
from spherecv.caffe.spherecv_caffe_pb2 import TRAIN, BNParameter, LRNParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph


Vector = npt.NDArray[np.float64]

_NVIDIA_BLOBS = 5
_NORMFACE_EPS = 1e-6
_WIDEST = 999  # of a local response; Caffe has no limit, but runtimes allocate for it


class BatchNorm(LayerKind):
    """(x - mean) / sqrt(variance + eps), with the statistics that training stored; NVCaffe's with a Scale in it."""

    checked = "Caffe's answers; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise layer.mistake(f"needs a blob with a channel axis, but its bottom has the shape {bottoms[0]}")
        param = layer.param.batch_norm_param
        training = layer.param.HasField("phase") and layer.param.phase == TRAIN
        if not param.use_global_stats and (training or param.HasField("use_global_stats")):
            setting = "phase: TRAIN" if training else "use_global_stats: false"
            raise layer.unsupported(
                f"{setting} normalises each batch by itself, so a face's result would depend on the other "
                "faces in the batch: remove the line to use the statistics of training"
            )
        return [bottoms[0]]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return self.stored_shapes(layer, bottoms, 5 if _states_scale(layer) else 3)

    def stored_shapes(self, layer: Layer, bottoms: Sequence[Shape], count: int) -> list[Shape]:
        channels = bottoms[0][1]
        learned: list[Shape] = [(channels,), (channels,)] if count == _NVIDIA_BLOBS or _states_scale(layer) else []
        return [(channels,), (channels,), (1,), *learned]

    def affine(self, layer: Layer) -> tuple[Vector, Vector]:
        """Return the factor and the addend of each channel: what is stored, divided by the stored scale factor."""
        mean, variance, factor = (blob.astype(np.float64).reshape(-1) for blob in layer.blobs[:3])
        share = 0.0 if factor[0] == 0 else 1.0 / factor[0]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # senseless numbers give NaN, as in Caffe
            scale = 1.0 / np.sqrt(variance * share + layer.param.batch_norm_param.eps)
            shift = -mean * share * scale
            if len(layer.blobs) == _NVIDIA_BLOBS:  # NVCaffe's Scale, in one layer with it
                gain, bias = (blob.astype(np.float64).reshape(-1) for blob in layer.blobs[3:])
                scale, shift = scale * gain, shift * gain + bias
        return scale, shift

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [_per_channel(graph, bottoms[0], *self.affine(layer))]


class BN(LayerKind):
    """x times a factor plus an addend for each channel, learned or with the statistics of training (several forks).

    SegNet's has two blobs, in which the statistics are contained; that of PSPNet and others has four, slope, bias, mean
    and variance.
    """

    checked = "a float64 transcription of its definition"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        if len(bottoms[0]) < 2:
            raise layer.mistake(f"needs a blob with a channel axis, but its bottom has the shape {bottoms[0]}")
        return [bottoms[0]]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.bn_param
        return self.stored_shapes(layer, bottoms, 2 if param.bn_mode == BNParameter.INFERENCE else 4)

    def stored_shapes(self, layer: Layer, bottoms: Sequence[Shape], count: int) -> list[Shape]:
        return [(1, bottoms[0][1], 1, 1)] * (2 if count == 2 else 4)

    def affine(self, layer: Layer) -> tuple[Vector, Vector]:
        """Return the factor and the addend of each channel."""
        param = layer.param.bn_param
        slope, bias, *statistics = (blob.astype(np.float64).reshape(-1) for blob in layer.blobs)
        if not statistics:
            if param.bn_mode != BNParameter.INFERENCE:
                raise layer.unsupported(
                    "bn_mode: LEARN normalises each batch by itself: compute the statistics and set bn_mode: INFERENCE"
                )
            return slope, bias
        if param.icnet or param.HasField("std_momentum"):
            raise layer.unsupported("icnet and std_momentum are not supported")
        mean, variance = statistics
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scale = slope / np.sqrt(variance + param.eps)
            return scale, bias - mean * scale

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        return [_per_channel(graph, bottoms[0], *self.affine(layer))]


class MVN(LayerKind):
    """x less its mean over each channel or each image, over the root of its variance plus eps."""

    checked = "Caffe's answers"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, (name, shape) = layer.param.mvn_param, bottoms[0]
        if param.across_channels and None in shape[1:]:
            raise SizeNeededError

        def mean(value: str) -> str:
            if not param.across_channels:
                return graph.node("GlobalAveragePool", [value])
            rows = graph.reshape(value, [-1, 1, 1, math.prod(known(shape[1:]))])
            return graph.node("GlobalAveragePool", [rows])

        centred = graph.node("Sub", [name, mean(name)])
        if not param.normalize_variance:
            return [centred]
        deviation = graph.node("Sqrt", [mean(graph.node("Mul", [centred, centred]))])
        return [graph.node("Div", [centred, graph.node("Add", [deviation, _number(graph, param.eps)])])]


class Scale(LayerKind):
    """x times a learned blob or a second bottom, plus a learned bias."""

    checked = "Caffe\'s answers; OpenCV 4.14"

    bottoms = (1, 2)

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        self._factor_shape(layer, bottoms)
        return [bottoms[0]]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = self._factor_shape(layer, bottoms)
        learned = [] if len(bottoms) == 2 else [shape]
        return [*learned, shape] if layer.param.scale_param.bias_term else learned

    def _factor_shape(self, layer: Layer, bottoms: Sequence[Shape]) -> Shape:
        param = layer.param.scale_param
        return _covered(layer, bottoms, param.axis, param.num_axes)

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        axis, value, blobs = layer.param.scale_param.axis, bottoms[0].name, list(layer.blobs)
        factor = _second(layer, bottoms, axis, graph) if len(bottoms) == 2 else None
        if factor is None:
            factor = graph.constant(_spread(layer, blobs.pop(0), axis, bottoms[0]), "scale")
        value = graph.node("Mul", [value, factor])
        if blobs:
            value = graph.node("Add", [value, graph.constant(_spread(layer, blobs[0], axis, bottoms[0]), "bias")])
        return [value]


class Bias(LayerKind):
    """x plus a learned blob or a second bottom."""

    checked = "Caffe\'s answers; OpenCV 4.14"

    bottoms = (1, 2)

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        _covered(layer, bottoms, layer.param.bias_param.axis, layer.param.bias_param.num_axes)
        return [bottoms[0]]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.bias_param
        return [] if len(bottoms) == 2 else [_covered(layer, bottoms, param.axis, param.num_axes)]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        axis = layer.param.bias_param.axis
        if len(bottoms) == 2:
            addend = _second(layer, bottoms, axis, graph)
        else:
            addend = graph.constant(_spread(layer, layer.blobs[0], axis, bottoms[0]), "bias")
        return [graph.node("Add", [bottoms[0].name, addend])]


class Softmax(LayerKind):
    """exp(x) over its sum along an axis."""

    checked = "Caffe\'s answers; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        axis_of(layer, layer.param.softmax_param.axis, len(bottoms[0]))
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        axis = axis_of(layer, layer.param.softmax_param.axis, len(bottoms[0].shape))
        if axis == 0 and bottoms[0].shape[0] is None:
            raise SizeNeededError  # a Session may run a large batch in parts
        return [graph.node("Softmax", [bottoms[0].name], axis=axis)]


class Normalize(LayerKind):
    """x over its Euclidean norm: SSD's with a learned scale, per position or over the image; NormFace's without."""

    checked = "Caffe's answers (SSD build); NormFace's: a float64 transcription of its definition"

    tops = (1, 2)  # NormFace's second one is the norm

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        shape = bottoms[0]
        if len(shape) < 2:
            raise layer.mistake(f"needs a blob with a channel axis, but its bottom has the shape {shape}")
        if layer.blobs or layer.param.HasField("norm_param"):
            if len(layer.tops) > 1:
                raise layer.mistake("has one top, if it has a learned scale")
            return [shape]
        return [shape, (shape[0], 1, *shape[2:])][: len(layer.tops)]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        return [] if layer.param.HasField("normalize_param") else self.stored_shapes(layer, bottoms, 1)

    def stored_shapes(self, layer: Layer, bottoms: Sequence[Shape], count: int) -> list[Shape]:
        if count == 0 and not layer.param.HasField("norm_param"):
            return []
        return [()] if layer.param.norm_param.channel_shared else [(bottoms[0][1],)]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        if not layer.blobs:
            return self._without_scale(layer, bottoms[0], graph)[: len(layer.tops)]
        param, (name, shape) = layer.param.norm_param, bottoms[0]
        if param.across_spatial and None in shape[2:]:
            raise SizeNeededError  # OpenCV 4.14 would take the size of the norm, one pixel, for the size of the result
        total = graph.node("Mul", [name, name])
        for axis in range(1, len(shape)) if param.across_spatial else [1]:
            # One axis at a time: OpenCV 4.14 gets the sum over several wrong.
            total = _sum(graph, total, axis)
        total = graph.node("Add", [total, _number(graph, param.eps)])
        unit = graph.node("Div", [name, graph.node("Sqrt", [total])])
        scale = layer.blobs[0].reshape(-1, *(1,) * (len(shape) - 2))
        return [graph.node("Mul", [unit, graph.constant(scale, "scale")])]

    @staticmethod
    def _without_scale(layer: Layer, bottom: Value, graph: OnnxGraph) -> list[str]:
        """Write NormFace's layer: each position over the norm of its channels, with 1e-6 against division by zero."""
        kind = layer.param.normalize_param.normalize_type
        if kind not in ("L1", "L2"):
            raise layer.unsupported(f"normalize_type {kind[:40]!r}: only L1 and L2 are supported")
        size = graph.node("Mul", [bottom.name, bottom.name]) if kind == "L2" else graph.node("Abs", [bottom.name])
        total = graph.node("Add", [_sum(graph, size, 1), _number(graph, _NORMFACE_EPS)])
        norm = graph.node("Sqrt", [total]) if kind == "L2" else total
        return [graph.node("Div", [bottom.name, norm]), norm]


class LRN(LayerKind):
    """Local response normalisation, across channels or within each."""

    checked = "Caffe\'s answers; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        four_axes(layer, bottoms[0])
        param = layer.param.lrn_param
        if param.local_size % 2 == 0 or param.local_size > _WIDEST:
            raise layer.mistake(f"local_size must be odd and at most {_WIDEST}")
        if not (0 < param.alpha < math.inf and 0 < param.beta < math.inf):
            raise layer.unsupported("alpha and beta must be positive")
        return [bottoms[0]]

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, name = layer.param.lrn_param, bottoms[0].name
        size, alpha, beta = int(param.local_size), float(param.alpha), float(param.beta)
        if param.norm_region == LRNParameter.ACROSS_CHANNELS:
            return [graph.node("LRN", [name], size=size, alpha=alpha, beta=beta, bias=float(param.k))]
        # Within a channel Caffe averages the squares with AVE pooling and ignores k, which stays 1.
        squares = graph.node("Mul", [name, name])
        mean = average_pool(graph, squares, Window((size, size), (1, 1), (size // 2, size // 2)))
        value = graph.node("Mul", [mean, graph.constant(np.float32(alpha), "alpha")])
        value = graph.node("Add", [value, graph.constant(np.float32(1), "one")])
        return [graph.node("Mul", [name, graph.node("Pow", [value, graph.constant(np.float32(-beta), "beta")])])]


def _states_scale(layer: Layer) -> bool:
    """Tell whether a BatchNorm states NVCaffe's learned scale and bias."""
    param = layer.param.batch_norm_param
    return bool(param.scale_bias) or param.HasField("scale_filler") or param.HasField("bias_filler")


def _per_channel(graph: OnnxGraph, bottom: Value, scale: Vector, shift: Vector) -> str:
    """Add x times a factor plus an addend for each channel."""
    trailing = (1,) * (len(bottom.shape) - 2)
    numbers = [vector.astype(np.float32).reshape(-1, *trailing) for vector in (scale, shift)]
    product = graph.node("Mul", [bottom.name, graph.constant(numbers[0], "scale")])
    return graph.node("Add", [product, graph.constant(numbers[1], "shift")])


def _number(graph: OnnxGraph, value: float) -> str:
    return graph.constant(np.float32(value), "eps")


def _sum(graph: OnnxGraph, value: str, axis: int) -> str:
    return graph.node("ReduceSum", [value, graph.constant(np.array([axis], np.int64), "axis")], keepdims=1)


def _covered(layer: Layer, bottoms: Sequence[Shape], axis: int, num_axes: int) -> Shape:
    """Return the shape of a factor (or addend) that covers some axes of the first bottom."""
    shape = bottoms[0]
    if len(bottoms) == 2:
        covered = bottoms[1]
        start = 0 if not covered else axis_of(layer, axis, len(shape))
    else:
        start = 0 if num_axes == 0 else axis_of(layer, axis, len(shape))
        covered = shape[start:] if num_axes == -1 else shape[start : start + num_axes]
        if num_axes < -1 or start + num_axes > len(shape):
            raise layer.mistake(f"num_axes {num_axes} from axis {start} leaves a blob of {len(shape)} axes")
    if shape[start : start + len(covered)] != covered:
        raise layer.mistake(f"its second bottom {covered} does not match {shape} from axis {start} on")
    return covered


def _spread(layer: Layer, blob: npt.NDArray[np.float32], axis: int, bottom: Value) -> npt.NDArray[np.float32]:
    """Give a blob that covers the axes from `axis` on one trailing 1 for each axis after them."""
    if blob.ndim == 0:
        return blob
    rank = len(bottom.shape)
    return blob.reshape(*blob.shape, *(1,) * (rank - axis_of(layer, axis, rank) - blob.ndim))


def _second(layer: Layer, bottoms: Sequence[Value], axis: int, graph: OnnxGraph) -> str:
    """Give the second bottom the trailing axes that let it spread over the first."""
    rank, covered = len(bottoms[0].shape), len(bottoms[1].shape)
    missing = rank - axis_of(layer, axis, rank) - covered if covered else 0
    if not missing:
        return bottoms[1].name
    # Not Unsqueeze, which OpenCV 4.14 cannot do for several axes.
    return graph.reshape(bottoms[1].name, reshape_target((*bottoms[1].shape, *(1,) * missing), kept=covered))
