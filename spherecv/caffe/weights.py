"""Merging the weights of a caffemodel into the layers of a net, by name, by the rules of Caffe.

They are those of Net::CopyTrainedLayersFrom and Net::AppendParam: a stored layer goes to the first layer of its name;
blobs whose `param` has a name are one blob for all layers that give it that name, and what is stored last counts;
what is not stored keeps what its filler gave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spherecv.caffe.blobs import has_legacy_shape, read_weights
from spherecv.caffe.fillers import filled, random_filler, states_filler
from spherecv.caffe.graph import Array, Layer, Shape, listed
from spherecv.caffe.layers import kind_of
from spherecv.caffe.shapes import LayerShapes
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, NetParameter, ParamSpec
from spherecv.caffe.text import as_text
from spherecv.errors import CaffeModelError

_Key = str | tuple[int, int]  # the name of a shared param, or a layer's place and the blob's


@dataclass(frozen=True)
class _Stored:
    """A blob of the caffemodel, and the layer and place that it goes to."""

    blob: BlobProto
    target: Layer
    index: int

    @property
    def where(self) -> str:
        return f"blob {self.index} of {self.target}"


def merge(
    layers: Sequence[Layer],
    shapes: Sequence[LayerShapes],
    weights: NetParameter,
    net: Sequence[Layer] | None = None,
) -> list[Layer]:
    """Return the layers with their weights.

    Parameters
    ----------
    layers : sequence of Layer
    shapes : sequence of LayerShapes
        From `infer`, one per layer.
    weights : NetParameter
        An upgraded caffemodel. Layers that the net does not have (data, loss, splits) are passed over.
    net : sequence of Layer, optional
        All layers of the net, where `layers` are a part of it: a weight may be stored with a layer that is not needed.

    Raises
    ------
    CaffeModelError
        If a layer's weights are missing, have other shapes than the prototxt asks for, or are NaN or infinite.
    PrototxtError
        If layers share a weight that cannot be the same for both.
    """
    everyone = layers if net is None else net
    counts = {as_text(source.name): len(source.blobs) for source in weights.layer}
    expected = {
        id(layer): _expected(layer, bottoms, counts.get(layer.name))
        for layer, (bottoms, _) in zip(layers, shapes, strict=True)
    }
    stored = _stored(everyone, weights, expected)
    owners = _owners(everyone)
    merged = []
    for layer in layers:
        wanted = expected[id(layer)]
        found = [stored.get(_key(layer, index)) for index in range(len(wanted))]
        _check_params(layer, len(wanted))
        if wanted and None in found and not _can_be_filled(layer, [blob is not None for blob in found], everyone):
            raise _missing(layer, weights)
        arrays = []
        for index, (source, shape) in enumerate(zip(found, wanted, strict=True)):
            owner = owners.get(_key(layer, index), (layer, index))
            _check_sharing(layer, index, shape, owner, expected)
            if source is not None:
                array = _fitted(source, expected, (layer, shape))
            elif owner[0] is not layer and id(owner[0]) in expected:
                array = filled(*owner, expected[id(owner[0])][owner[1]]).reshape(shape)
            else:
                array = filled(layer, index, shape)
            arrays.append(array)
        merged.append(replace(layer, blobs=tuple(arrays)))
    return merged


def _expected(layer: Layer, bottoms: Sequence[Shape], count: int | None) -> list[Shape]:
    """Return the shapes of a layer's blobs; forks have layers of one name with more blobs or fewer, so they count."""
    kind = kind_of(layer)
    return kind.blob_shapes(layer, bottoms) if count is None else kind.stored_shapes(layer, bottoms, count)


def _key(layer: Layer, index: int) -> _Key:
    specs = layer.param.param
    return (specs[index].name if index < len(specs) else "") or (id(layer), index)


def _owners(net: Sequence[Layer]) -> dict[_Key, tuple[Layer, int]]:
    """Return, for every name of a param, the first layer that gives it: the others share its blob."""
    owners: dict[_Key, tuple[Layer, int]] = {}
    for layer in net:
        for index, spec in enumerate(layer.param.param):
            if spec.name:
                owners.setdefault(spec.name, (layer, index))
    return owners


def _stored(net: Sequence[Layer], weights: NetParameter, expected: dict[int, list[Shape]]) -> dict[_Key, _Stored]:
    """Return what the caffemodel holds for every blob, the last of several."""
    targets: dict[str, Layer] = {}
    for layer in net:
        targets.setdefault(layer.name, layer)
    found: dict[_Key, _Stored] = {}
    for source in weights.layer:
        target = targets.get(as_text(source.name))
        if target is None:
            continue
        wanted = expected.get(id(target))
        if wanted is not None and not _whole(target, len(source.blobs), len(wanted)):
            if not source.blobs:
                raise _missing(target, weights)
            raise CaffeModelError(
                f"{target} needs {len(wanted)} blobs, but the caffemodel has {len(source.blobs)}: they do not go "
                "together"
            )
        for index, blob in enumerate(source.blobs):
            key = _key(target, index)
            if blob.ListFields() or not isinstance(key, str):
                found[key] = _Stored(blob, target, index)
    return found


def _whole(layer: Layer, stored: int, wanted: int) -> bool:
    """Tell whether a layer's blobs are all stored, but for those that HDF5 stores with the layer that they are of."""
    shared = all(isinstance(_key(layer, index), str) for index in range(stored, wanted))
    return stored == wanted or (0 < stored < wanted and shared)


def _can_be_filled(layer: Layer, found: Sequence[bool], net: Sequence[Layer]) -> bool:
    """Tell whether fillers give the rest of a layer's weights, and are meant to.

    Zeros that nobody asked for would let any caffemodel pass for any prototxt. They are what Caffe gives to the second
    layer of a name, which takes nothing from the file.
    """
    if random_filler(layer) is not None:
        return False
    repeated = any(other.name == layer.name and other is not layer for other in net)
    return states_filler(layer) or any(found) or repeated


def _missing(layer: Layer, weights: NetParameter) -> CaffeModelError:
    random = random_filler(layer)
    why = f", and its filler {random!r} draws them by chance" if random else ""
    held = listed(as_text(stored.name) for stored in weights.layer)
    return CaffeModelError(
        f"no weights for {layer}{why}: the caffemodel and the prototxt do not go together; it has {held}"
    )


def _check_params(layer: Layer, blobs: int) -> None:
    # NVCaffe's BatchNorm has five blobs, and may be told so where the caffemodel holds none.
    if len(layer.param.param) > blobs and layer.type != "BatchNorm":
        raise layer.mistake(f"has {len(layer.param.param)} params for {blobs} blobs, which Caffe refuses")


def _check_sharing(
    layer: Layer, index: int, shape: Shape, owner: tuple[Layer, int], expected: dict[int, list[Shape]]
) -> None:
    first, place = owner
    shapes = expected.get(id(first), [])
    if first is layer or place >= len(shapes):
        return
    permissive = layer.param.param[index].share_mode == ParamSpec.PERMISSIVE
    ours, theirs = layer.param.param[index], first.param.param[place]
    for field in ("lr_mult", "decay_mult"):
        if ours.HasField(field) and theirs.HasField(field) and getattr(ours, field) != getattr(theirs, field):
            raise layer.mistake(f"shares the param {_key(layer, index)!r} with {first}, but gives another {field}")
    same = math.prod(shapes[place]) == math.prod(shape) if permissive else shapes[place] == shape
    if not same:
        raise layer.mistake(
            f"shares the param {_key(layer, index)!r} with {first}, whose blob has the shape {shapes[place]}, "
            f"not {shape}"
        )


def _fitted(source: _Stored, expected: dict[int, list[Shape]], user: tuple[Layer, Shape]) -> Array:
    """Return a stored blob in the shape of its user, after Caffe's check against the layer that it is stored with."""
    layer, shape = user
    array = read_weights(source.blob, where=source.where)
    wanted = expected.get(id(source.target))
    if wanted is not None and not _fits(source.blob, array.shape, wanted[source.index]):
        raise CaffeModelError(
            f"{source.where} has the shape {array.shape} in the caffemodel, but the prototxt asks "
            f"for {wanted[source.index]}: they do not go together"
        )
    if array.size != math.prod(shape):
        raise CaffeModelError(
            f"{source.where} has the shape {array.shape} in the caffemodel, but {layer}, which shares it, asks for "
            f"{shape}: they do not go together"
        )
    return array.reshape(shape)


def _fits(blob: BlobProto, stated: Shape, shape: Shape) -> bool:
    """Tell whether a blob has the shape that a layer wants: the four numbers of old are padded with ones in front."""
    if has_legacy_shape(blob):
        return len(shape) <= len(stated) and (1,) * (len(stated) - len(shape)) + tuple(shape) == tuple(stated)
    if not blob.HasField("shape"):
        return tuple(shape) == ()
    return tuple(stated) == tuple(shape)
