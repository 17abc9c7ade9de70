"""Blobs that lie in the same memory, which a layer that works in place changes all at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from spherecv.caffe.graph import Layer, Shape
from spherecv.caffe.layers import kind_of
from spherecv.caffe.shapes import infer
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter


def written_through(layers: Sequence[Layer], inputs: Mapping[str, Shape], outputs: Collection[str]) -> list[Layer]:
    """Return the layers with a copy after each one in place, for every other blob that Caffe keeps in its memory.

    Flatten, Reshape, Split and a Concat, Slice or Permute that has nothing to do give their bottom's memory another
    name. A layer in place on one name changes what later layers read by the others.

    Parameters
    ----------
    layers : sequence of Layer
        In the order in which they run.
    inputs : dict of str to tuple of int
        The shapes of the net's inputs.
    outputs : collection of str
        Blobs that are read at the end.

    Returns
    -------
    list of Layer
        Copies are layers of type Reshape without a name, and are there only where something reads them.
    """
    shapes = dict(inputs)
    memory: dict[str, set[str]] = {}
    written: list[Layer] = []
    for place, (layer, found) in enumerate(zip(layers, infer(layers, inputs), strict=True)):
        written.append(layer)
        shapes.update(zip(layer.tops, found.tops, strict=True))
        if kind_of(layer).shares_memory(layer, found.bottoms):
            shared = memory.setdefault(layer.bottoms[0], {layer.bottoms[0]})
            shared.update(layer.tops)
            memory.update(dict.fromkeys(layer.tops, shared))
            continue
        for top in sorted(set(layer.tops) & set(layer.bottoms) & memory.keys()):
            read = {*outputs, *(bottom for later in layers[place + 1 :] for bottom in later.bottoms)}
            others = sorted((memory[top] & read) - {top})
            written += [_copy(top, other, shapes[top], shapes[other]) for other in others]
    return written


def _copy(source: str, target: str, shape: Shape, wanted: Shape) -> Layer:
    """Return a layer that gives a blob's numbers to another, in the other's shape."""
    param = LayerParameter(type="Reshape")
    dims = [0 if axis < len(shape) and shape[axis] == size else size for axis, size in enumerate(wanted)]
    param.reshape_param.shape.dim.extend(dims)
    return Layer("", "Reshape", (source,), (target,), param)
