"""Windows that slide over height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.graph import Layer
from spherecv.caffe.spherecv_caffe_pb2 import PoolingParameter

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph

Pair = tuple[int, int]
Sizes = tuple[int, ...]
"""One number for each spatial axis, height and width mostly."""


@dataclass(frozen=True)
class Window:
    """Kernel, stride, padding and dilation, each as (height, width), or with one number for each spatial axis."""

    kernel: Sizes
    stride: Sizes
    pad: Sizes
    dilation: Sizes = (1, 1)

    @property
    def extent(self) -> Sizes:
        """How many pixels the kernel spans."""
        return tuple(step * (size - 1) + 1 for size, step in zip(self.kernel, self.dilation, strict=True))


def four_axes(layer: Layer, shape: Sequence[object]) -> None:
    """Refuse blobs that are not (N, C, H, W)."""
    if len(shape) != 4:
        raise layer.unsupported(f"works on blobs (N, C, H, W) only, but its bottom has the shape {tuple(shape)}")


def pad_image(graph: OnnxGraph, value: str, pad: Sizes) -> str:
    """Add zeros around every image."""
    edges = graph.constant(np.array([0, 0, *pad, 0, 0, *pad], np.int64), "pads")
    return graph.node("Pad", [value, edges, graph.constant(np.float32(0), "zero")])


def settings_given(param: PoolingParameter) -> set[str]:
    """Return the names of the settings that the prototxt gives."""
    return {field.name for field, _ in param.ListFields()}
