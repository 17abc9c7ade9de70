"""From layers to an ONNX model, with batch (and height and width) left open where the net allows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from spherecv.caffe.fold import fold as fold_layers
from spherecv.caffe.graph import Layer, Shape, single_assignment
from spherecv.caffe.layers import SizeNeededError, Value, kind_of
from spherecv.caffe.layers.base import Dims
from spherecv.caffe.onnx_graph import OnnxGraph
from spherecv.caffe.shapes import infer
from spherecv.errors import SphereCVError, UnsupportedLayerError

Change = Callable[[Shape], Shape]


def export(
    name: str,
    layers: Sequence[Layer],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    *,
    fold: bool,
    version: str,
) -> bytes:
    """Return a net as the bytes of an ONNX model.

    Parameters
    ----------
    name : str
    layers : sequence of Layer
        With weights, as Caffe would run them.
    inputs : dict of str to tuple of int
        The declared shapes.
    outputs : sequence of str
        The blobs wanted; layers that none of them needs are left out.
    fold : bool
        Whether to fold BatchNorm, Scale and Bias into the layers before them.
    version : str
        Of the converter.
    """
    unique, final = single_assignment(layers, list(inputs))
    wanted = {blob: final[blob] for blob in outputs}
    for blob in wanted:
        if blob in inputs:
            raise UnsupportedLayerError(f"the output {blob!r} overwrites the input of that name: rename the top")
    unique = _needed(unique, wanted.values())
    if fold:
        unique = fold_layers(unique, infer(unique, inputs), wanted.values())
    used = {bottom for layer in unique for bottom in layer.bottoms} | set(wanted.values())
    declared = _shapes(unique, {key: shape for key, shape in inputs.items() if key in used})
    read = [key for key in inputs if key in used]
    for changes in ((_more_images, _more_pixels), (_more_images,), (_more_pixels,), ()):
        try:
            sizes = _open_sizes(unique, declared, read, changes)
            return _write(name, unique, read, wanted, declared, sizes, version)
        except SizeNeededError:
            continue
    raise AssertionError("a net of fixed sizes can always be written")


def _needed(layers: Sequence[Layer], wanted: Collection[str]) -> list[Layer]:
    needed, kept = set(wanted), []
    for layer in reversed(layers):
        if needed.intersection(layer.tops):
            needed.update(layer.bottoms)
            kept.append(layer)
    return kept[::-1]


def _shapes(layers: Sequence[Layer], inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shape of every blob; in single assignment each has one."""
    shapes = dict(inputs)
    for layer, found in zip(layers, infer(layers, inputs), strict=True):
        shapes.update(zip(layer.tops, found.tops, strict=True))
        blobs = kind_of(layer).blob_shapes(layer, found.bottoms)
        if layer.blobs and [blob.shape for blob in layer.blobs] != blobs:
            raise SizeNeededError  # at these sizes the layer would need other weights than it has
    return shapes


def _open_sizes(
    layers: Sequence[Layer], declared: Mapping[str, Shape], inputs: Sequence[str], changes: Sequence[Change]
) -> dict[str, Dims]:
    """Return the shape of every blob, None for each size that follows the batch or the image.

    Raises
    ------
    SizeNeededError
        If the net does not stand the change of size.
    """
    try:
        probes = [_shapes(layers, {key: change(declared[key]) for key in inputs}) for change in changes]
    except SphereCVError:
        raise SizeNeededError from None
    return {
        blob: tuple(
            size if all(probe[blob][axis] == size for probe in probes) else None for axis, size in enumerate(shape)
        )
        for blob, shape in declared.items()
    }


def _more_images(shape: Shape) -> Shape:
    return (shape[0] + 1, *shape[1:]) if shape else shape


def _more_pixels(shape: Shape) -> Shape:
    # By multiples of every usual stride, so that what fits at the declared size still fits.
    return (*shape[:2], shape[2] + 64, shape[3] + 128) if len(shape) == 4 else shape


def _write(
    name: str,
    layers: Sequence[Layer],
    inputs: Sequence[str],
    wanted: Mapping[str, str],
    declared: Mapping[str, Shape],
    sizes: Mapping[str, Dims],
    version: str,
) -> bytes:
    graph = OnnxGraph()
    graph.reserve([*inputs, *wanted])
    values = {key: Value(key, sizes[key]) for key in inputs}
    for layer in layers:
        graph.begin(layer.name)
        tops = [sizes[top] for top in layer.tops]
        names = kind_of(layer).emit(layer, [values[bottom] for bottom in layer.bottoms], tops, graph)
        values.update((top, Value(key, shape)) for top, key, shape in zip(layer.tops, names, tops, strict=True))
    for blob, value in wanted.items():
        graph.name_output(values[value].name, blob)
    batches = {declared[key][0] for key in inputs if declared[key]}
    batch = batches.pop() if len(batches) == 1 else None

    def named(prefix: str, blob: str) -> list[int | str]:
        """Return a blob's shape with a name for each open size; equal names promise equal sizes."""
        words = {2: f"{prefix}height", 3: f"{prefix}width"}
        if declared[blob][:1] == (batch,):
            words[0] = "batch"
        return [words.get(axis, f"{prefix}{axis}") if n is None else n for axis, n in enumerate(sizes[blob])]

    return graph.serialize(
        name,
        {key: named("" if len(inputs) == 1 else f"{key}_", key) for key in inputs},
        {blob: named(f"{blob}_", value) for blob, value in wanted.items()},
        version,
    )
