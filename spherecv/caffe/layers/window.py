"""Windows that slide over height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Layer
from spherecv.caffe.spherecv_caffe_pb2 import ConvolutionParameter, PoolingParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Kernel, stride, padding and dilation, each as (height, width)."""

    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """How many pixels the kernel spans."""
        return (
            self.dilation[0] * (self.kernel[0] - 1) + 1,
            self.dilation[1] * (self.kernel[1] - 1) + 1,
        )


def four_axes(layer: Layer, shape: Sequence[object]) -> None:
    """Refuse blobs that are not (N, C, H, W)."""
    if len(shape) != 4:
        raise layer.unsupported(f"works on blobs (N, C, H, W) only, but its bottom has the shape {tuple(shape)}")


def pad_image(graph: OnnxGraph, value: str, pad: Pair) -> str:
    """Add zeros around every image."""
    edges = graph.constant(np.array([0, 0, *pad, 0, 0, *pad], np.int64), "pads")
    return graph.node("Pad", [value, edges, graph.constant(np.float32(0), "zero")])


def settings_given(param: ConvolutionParameter | PoolingParameter) -> set[str]:
    """Return the names of the settings that the prototxt gives."""
    return {field.name for field, _ in param.ListFields()}
