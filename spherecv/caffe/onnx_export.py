"""From layers to an ONNX model, with batch (and height and width) left open where the net allows it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from spherecv.caffe.fold import fold as fold_layers
from spherecv.caffe.graph import Layer, Shape, single_assignment
from spherecv.caffe.layers import SizeNeededError, Value, kind_of
from spherecv.caffe.layers.base import Dims
from spherecv.caffe.onnx_graph import OnnxGraph
from spherecv.caffe.shapes import LayerShapes, infer
from spherecv.errors import SphereCVError, UnsupportedLayerError

# Added to the sizes to see which shapes follow them.
_MORE_IMAGES = 1
_MORE_PIXELS = (64, 128)

SymbolicShapes = list[tuple[tuple[Dims, ...], tuple[Dims, ...]]]


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
    shapes = {key: shape for key, shape in inputs.items() if key in used}
    for free_batch, free_size in ((True, True), (True, False), (False, True), (False, False)):
        symbolic = _symbolic(unique, shapes, free_batch=free_batch, free_size=free_size)
        if symbolic is None:
            continue
        try:
            return _write(name, unique, *symbolic, wanted, version)
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


def _symbolic(
    layers: Sequence[Layer], inputs: Mapping[str, Shape], *, free_batch: bool, free_size: bool
) -> tuple[dict[str, Dims], SymbolicShapes] | None:
    """Return all shapes, None for each size that follows the batch or the image; None if the net forbids it."""
    base = infer(layers, inputs)
    changed = dict(inputs)
    probes: list[tuple[dict[str, Shape], list[LayerShapes]]] = []
    for is_free, change in ((free_batch, _more_images), (free_size, _more_pixels)):
        if not is_free:
            continue
        changed = {key: change(shape) for key, shape in inputs.items()}
        try:
            probes.append((changed, infer(layers, changed)))
            _check_weights(layers, base, probes[-1][1])
        except (SphereCVError, SizeNeededError):
            return None
    free_inputs = {key: _merged(shape, [probe[0][key] for probe in probes]) for key, shape in inputs.items()}
    free_layers: SymbolicShapes = []
    for index, shapes in enumerate(base):
        others = [probe[1][index] for probe in probes]
        free_layers.append(
            (
                tuple(_merged(shape, [o.bottoms[k] for o in others]) for k, shape in enumerate(shapes.bottoms)),
                tuple(_merged(shape, [o.tops[k] for o in others]) for k, shape in enumerate(shapes.tops)),
            )
        )
    return free_inputs, free_layers


def _more_images(shape: Shape) -> Shape:
    return (shape[0] + _MORE_IMAGES, *shape[1:]) if shape else shape


def _more_pixels(shape: Shape) -> Shape:
    if len(shape) != 4:
        return shape
    return (*shape[:2], shape[2] + _MORE_PIXELS[0], shape[3] + _MORE_PIXELS[1])


def _check_weights(layers: Sequence[Layer], base: Sequence[LayerShapes], probe: Sequence[LayerShapes]) -> None:
    """Refuse sizes at which a layer would need other weights than it has."""
    for layer, before, after in zip(layers, base, probe, strict=True):
        kind = kind_of(layer)
        if kind.blob_shapes(layer, before.bottoms) != kind.blob_shapes(layer, after.bottoms):
            raise SizeNeededError


def _merged(shape: Shape, others: Sequence[Shape]) -> Dims:
    if any(len(other) != len(shape) for other in others):
        raise AssertionError("the number of axes does not depend on sizes")
    return tuple(
        size if all(other[axis] == size for other in others) else None for axis, size in enumerate(shape)
    )


def _write(
    name: str,
    layers: Sequence[Layer],
    inputs: Mapping[str, Dims],
    shapes: SymbolicShapes,
    wanted: Mapping[str, str],
    version: str,
) -> bytes:
    graph = OnnxGraph()
    graph.reserve([*inputs, *wanted])
    values = {key: Value(key, shape) for key, shape in inputs.items()}
    for layer, (_, tops) in zip(layers, shapes, strict=True):
        graph.begin(layer.name)
        names = kind_of(layer).emit(layer, [values[bottom] for bottom in layer.bottoms], tops, graph)
        values.update({top: Value(*pair) for top, pair in zip(layer.tops, zip(names, tops, strict=True), strict=True)})
    for blob, value in wanted.items():
        graph.name_output(values[value].name, blob)
    return graph.serialize(
        name,
        {key: _named(key, shape, len(inputs) == 1, is_input=True) for key, shape in inputs.items()},
        {key: _named(key, values[value].shape, len(wanted) == 1, is_input=False) for key, value in wanted.items()},
        version,
    )


def _named(blob: str, shape: Dims, alone: bool, *, is_input: bool) -> list[int | str]:
    """Return a shape with a name for each open size: `batch` for all first axes, and own names for all others."""
    prefix = "" if alone and is_input else f"{blob}_"
    words = {0: "batch", 2: f"{prefix}height", 3: f"{prefix}width"}
    return [words.get(axis, f"{blob}_{axis}") if size is None else size for axis, size in enumerate(shape)]
