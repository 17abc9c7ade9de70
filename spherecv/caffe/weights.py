"""Merging the weights of a caffemodel into the layers of a net, by name, with every shape checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spherecv.caffe.blobs import read_blob
from spherecv.caffe.graph import Array, Layer, Shape, listed
from spherecv.caffe.layers import kind_of
from spherecv.caffe.shapes import LayerShapes
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.errors import CaffeModelError


def merge(layers: Sequence[Layer], shapes: Sequence[LayerShapes], weights: NetParameter) -> list[Layer]:
    """Return the layers with their weights.

    Parameters
    ----------
    layers : sequence of Layer
    shapes : sequence of LayerShapes
        From `infer`, one per layer.
    weights : NetParameter
        An upgraded caffemodel. Layers that the net does not have (data, loss, splits) are passed over.

    Raises
    ------
    CaffeModelError
        If a layer's weights are missing or have other shapes than the prototxt asks for.
    """
    stored = {layer.name: layer for layer in weights.layer}
    merged = []
    for layer, (bottoms, _) in zip(layers, shapes, strict=True):
        expected = kind_of(layer).blob_shapes(layer, bottoms)
        source = stored.get(layer.name)
        blobs = [] if source is None else source.blobs
        if expected and not blobs:
            raise CaffeModelError(
                f"no weights for {layer}: the caffemodel and the prototxt do not go together; it has {listed(stored)}"
            )
        if len(blobs) != len(expected):
            raise CaffeModelError(
                f"{layer} needs {len(expected)} blobs, but the caffemodel has {len(blobs)}: they do not go together"
            )
        arrays = []
        for index, (blob, shape) in enumerate(zip(blobs, expected, strict=True)):
            arrays.append(_fitted(layer, index, read_blob(blob, where=f"blob {index} of {layer}"), shape))
        merged.append(replace(layer, blobs=tuple(arrays)))
    return merged


def _fitted(layer: Layer, index: int, array: Array, shape: Shape) -> Array:
    # Legacy blobs are padded with ones in front (a bias is (1, 1, 1, 64)); nothing else may differ.
    if _significant(array.shape) != _significant(shape):
        raise CaffeModelError(
            f"blob {index} of {layer} has the shape {array.shape} in the caffemodel, but the prototxt asks "
            f"for {shape}: they do not go together"
        )
    return array.reshape(shape)


def _significant(shape: Shape) -> Shape:
    leading = next((place for place, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[leading:])
