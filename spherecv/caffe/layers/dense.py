"""InnerProduct: every output sees every input."""

# ruff: noqa: ARG002, D102 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.layers.base import Dims, LayerKind, Value, axis_of, known, reshape_target

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

_LABELS = ("weight", "bias")
_NORMFACE_EPS = 1e-6


class InnerProduct(LayerKind):
    """A matrix product over the axes from `axis` on."""

    checked = "Caffe's answers; OpenCV 4.14"

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.inner_product_param
        if param.num_output < 1:
            raise layer.mistake("num_output must be at least 1")
        if param.normalize and param.transpose:
            raise layer.unsupported("normalize: true with transpose: true is not defined")
        axis = axis_of(layer, param.axis, len(bottoms[0]))
        return [(*bottoms[0][:axis], param.num_output)]

    def weights(self, layer: Layer) -> list[Array]:
        """Return the weights as they count: NormFace's `normalize` makes the norm of every row one."""
        matrix, *bias = layer.blobs
        if not layer.param.inner_product_param.normalize:
            return [matrix, *bias]
        exact = matrix.astype(np.float64)
        return [(exact / np.sqrt((exact**2).sum(1, keepdims=True) + _NORMFACE_EPS)).astype(np.float32), *bias]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        param = layer.param.inner_product_param
        length = math.prod(bottoms[0][axis_of(layer, param.axis, len(bottoms[0])) :])
        weight = (length, param.num_output) if param.transpose else (param.num_output, length)
        return [weight, (param.num_output,)] if param.bias_term else [weight]

    def macs(self, layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return math.prod(bottoms[0]) * int(layer.param.inner_product_param.num_output)

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        param, bottom = layer.param.inner_product_param, bottoms[0]
        axis = axis_of(layer, param.axis, len(bottom.shape))
        length = math.prod(known(bottom.shape[axis:]))
        rows = bottom.name
        if len(bottom.shape) != 2 or axis != 1:
            # Not Flatten: OpenCV 4.14 loses the length of what it flattens where height and width are open.
            rows = graph.reshape(rows, [-1, length])
        weights = [graph.constant(blob, label) for blob, label in zip(self.weights(layer), _LABELS, strict=False)]
        product = graph.node("Gemm", [rows, *weights], transB=0 if param.transpose else 1)
        if axis == 1:
            return [product]
        return [graph.reshape(product, reshape_target(tops[0]))]
