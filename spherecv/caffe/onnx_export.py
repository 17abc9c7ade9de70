"""From layers to an ONNX model, with batch (and height and width) left open where the net allows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from spherecv.caffe.fold import fold as fold_layers
from spherecv.caffe.graph import Array, Layer, Shape, listed, single_assignment
from spherecv.caffe.layers import SizeNeededError, Value, kind_of
from spherecv.caffe.layers.base import Dims
from spherecv.caffe.memory import written_through
from spherecv.caffe.onnx_graph import OnnxGraph
from spherecv.caffe.shapes import infer
from spherecv.caffe.tail import Step, TailWriter
from spherecv.errors import SphereCVError, UnsupportedLayerError

if TYPE_CHECKING:
    from onnx import ModelProto

TAIL_KEY = "spherecv.tail"
"""The key of the metadata under which the tail lies; see `spherecv.runtime.tail`."""

_MOST_CONSTANT = 1 << 24  # numbers, 64 MiB: the priors of the largest SSD nets are a hundredth of it

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
    for layer in layers:
        if "" in layer.tops:
            raise layer.unsupported("has a top without a name")
    unique, final = single_assignment(written_through(layers, inputs, outputs), list(inputs))
    wanted = {blob: final[blob] for blob in outputs}
    unique = _needed(unique, wanted.values())
    if fold:
        unique = fold_layers(unique, infer(unique, inputs), wanted.values())
    used = {bottom for layer in unique for bottom in layer.bottoms} | set(wanted.values())
    declared = _shapes(unique, {key: shape for key, shape in inputs.items() if key in used})
    read = [key for key in inputs if key in used]
    if not read:
        raise UnsupportedLayerError(f"no input leads to the outputs {listed(wanted)}: they are always the same")
    for changes in ((_more_images, _more_pixels), (_more_images,), (_more_pixels,), ()):
        try:
            sizes, loose = _open_sizes(unique, declared, read, changes)
            return _Writer(name, unique, read, wanted, declared, sizes, loose, version).write()
        except SizeNeededError:
            continue
    raise UnsupportedLayerError("the net needs sizes that are known only when it runs")


def _needed(layers: Sequence[Layer], wanted: Collection[str]) -> list[Layer]:
    needed, kept = set(wanted), []
    for layer in reversed(layers):
        if needed.intersection(layer.tops):
            needed.update(layer.bottoms)
            kept.append(layer)
    return kept[::-1]


def _shapes(layers: Sequence[Layer], inputs: Mapping[str, Shape], more_rows: int = 0) -> dict[str, Shape]:
    """Return the shape of every blob; in single assignment each has one."""
    shapes = dict(inputs)
    for layer, found in zip(layers, infer(layers, inputs, more_rows=more_rows), strict=True):
        shapes.update(zip(layer.tops, found.tops, strict=True))
        blobs = kind_of(layer).stored_shapes(layer, found.bottoms, len(layer.blobs))
        if layer.blobs and [blob.shape for blob in layer.blobs] != blobs:
            raise SizeNeededError  # at these sizes the layer would need other weights than it has
    return shapes


def _open_sizes(
    layers: Sequence[Layer], declared: Mapping[str, Shape], inputs: Sequence[str], changes: Sequence[Change]
) -> tuple[dict[str, Dims], set[str]]:
    """Return the shape of every blob, None for each size that follows the batch, the image, or what is found in it.

    The blobs that have a size of the last kind come second.

    Raises
    ------
    SizeNeededError
        If the net does not stand the change of size.
    """
    try:
        probes = [_shapes(layers, {key: change(declared[key]) for key in inputs}) for change in changes]
        longer = _shapes(layers, {key: declared[key] for key in inputs}, more_rows=1)
    except SphereCVError:
        raise SizeNeededError from None
    probes.append(longer)
    sizes = {
        blob: tuple(
            size if all(probe[blob][axis] == size for probe in probes) else None for axis, size in enumerate(shape)
        )
        for blob, shape in declared.items()
    }
    return sizes, {blob for blob, shape in declared.items() if longer[blob] != shape}


def _more_images(shape: Shape) -> Shape:
    return (shape[0] + 1, *shape[1:]) if shape else shape


def _more_pixels(shape: Shape) -> Shape:
    # By multiples of every usual stride, so that what fits at the declared size still fits.
    return (*shape[:2], shape[2] + 64, shape[3] + 128) if len(shape) == 4 else shape


class _Writer:
    """A net of known and open sizes, as it becomes a model: its own ONNX graph, and the tail where there is one.

    Layers have levels: those of an even one are part of a net, level 0 of the model's own; those of an odd one run in
    NumPy on what the level before gives. Blobs that depend on no input are constants.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[Layer],
        inputs: Sequence[str],
        wanted: Mapping[str, str],
        declared: Mapping[str, Shape],
        sizes: Mapping[str, Dims],
        loose: Collection[str],
        version: str,
    ) -> None:
        self._name, self._inputs, self._wanted, self._version = name, inputs, wanted, version
        self._declared, self._sizes, self._loose = declared, sizes, loose
        self._constants: dict[str, Array] = {}
        self._levels: dict[int, list[Layer]] = {}
        self._steps: dict[str, Step] = {}
        self._place(layers)

    def write(self) -> bytes:
        """Return the model's bytes."""
        head = self._levels.get(0, [])
        given = self._given(0)
        if len(self._levels) == bool(head) and set(given) == set(self._wanted.values()) and self._own_names():
            return self._net(head, self._inputs, self._wanted)
        tail = TailWriter()
        for blob in self._needed_constants():
            tail.constant(self._constants[blob], blob)
        for level in sorted(self._levels):
            if level % 2:
                for layer in self._levels[level]:
                    tail.function(self._steps[layer.tops[0]], layer.bottoms, layer.tops)
            elif level:
                found = self._read(level)
                made = {blob: blob for blob in self._given(level)}
                tail.net(self._net(self._levels[level], found, made), found, list(made))
        read = {bottom for layer in head for bottom in layer.bottoms}
        inputs = [key for key in self._inputs if key in read] or list(self._inputs[:1])
        others = {key: self._named(f"{key}_", key, self._inputs) for key in self._inputs if key not in inputs}
        metadata = {TAIL_KEY: tail.render(self._wanted, given, others)}
        return self._net(head, inputs, {blob: blob for blob in given} or {f"{inputs[0]}@copy": inputs[0]}, metadata)

    def _place(self, layers: Sequence[Layer]) -> None:
        """Give every layer its level, and compute what is constant."""
        level = dict.fromkeys(self._inputs, 0)
        for layer in layers:
            kind, bottoms = kind_of(layer), [self._sizes[bottom] for bottom in layer.bottoms]
            constant = all(bottom in self._constants for bottom in layer.bottoms)
            arrays = None
            if constant or kind.is_constant:
                self._check_size(layer)
                arrays = kind.constants(layer, bottoms)
            step = None if arrays is not None else kind.step(layer, bottoms)
            if arrays is None and step is None and constant:
                arrays = self._evaluate(layer)
            if arrays is not None:
                self._constants.update(zip(layer.tops, arrays, strict=True))
                continue
            depth = max((level[bottom] for bottom in layer.bottoms if bottom not in self._constants), default=0)
            depth += depth % 2 == (step is None)
            level.update(dict.fromkeys(layer.tops, depth))
            if step is not None:
                self._steps[layer.tops[0]] = step
            self._levels.setdefault(depth, []).append(layer)

    def _check_size(self, layer: Layer) -> None:
        """Refuse constants that would fill the memory."""
        for top in layer.tops:
            if math.prod(size or 1 for size in self._sizes[top]) > _MOST_CONSTANT:
                raise layer.unsupported(f"its output {top!r}, a constant of {self._sizes[top]}, is too large")

    def _evaluate(self, layer: Layer) -> list[Array]:
        """Return what a layer of the net makes of constants."""
        from onnx.reference import ReferenceEvaluator

        outputs = {top: top for top in layer.tops}
        found = ReferenceEvaluator(_parsed(self._net([layer], [], outputs))).run(list(outputs), {})
        return [np.asarray(array, np.float32) for array in found]

    def _given(self, level: int) -> list[str]:
        """Return the blobs that a level makes for others and for the outputs."""
        needed = set(self._wanted.values())
        for other, layers in self._levels.items():
            if other != level:
                needed.update(bottom for layer in layers for bottom in layer.bottoms)
        return [top for layer in self._levels.get(level, []) for top in layer.tops if top in needed]

    def _read(self, level: int) -> list[str]:
        """Return the blobs of other levels that a level reads."""
        own = {top for layer in self._levels[level] for top in layer.tops}
        bottoms = dict.fromkeys(bottom for layer in self._levels[level] for bottom in layer.bottoms)
        return [blob for blob in bottoms if blob not in own and blob not in self._constants]

    def _needed_constants(self) -> list[str]:
        """Return the constants that outputs are, or that NumPy works on; nets have theirs inside."""
        needed = dict.fromkeys(self._wanted.values())
        for level, layers in self._levels.items():
            if level % 2:
                needed.update(dict.fromkeys(bottom for layer in layers for bottom in layer.bottoms))
        return [blob for blob in needed if blob in self._constants]

    def _own_names(self) -> bool:
        """Tell whether every output can have its own name in an ONNX graph: not that of an input."""
        return not set(self._wanted) & set(self._inputs)

    def _net(
        self,
        layers: Sequence[Layer],
        inputs: Sequence[str],
        outputs: Mapping[str, str],
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return layers as an ONNX model."""
        graph = OnnxGraph()
        graph.reserve([*inputs, *outputs])
        values = {key: Value(key, self._sizes[key]) for key in inputs}
        for layer in layers:
            graph.begin(layer.name)
            for bottom in layer.bottoms:
                if bottom not in values and bottom in self._constants:
                    values[bottom] = Value(graph.constant(self._constants[bottom], "constant"), self._sizes[bottom])
            tops = [self._sizes[top] for top in layer.tops]
            names = kind_of(layer).emit(layer, [values[bottom] for bottom in layer.bottoms], tops, graph)
            values.update((top, Value(key, shape)) for top, key, shape in zip(layer.tops, names, tops, strict=True))
        for blob, value in outputs.items():
            graph.name_output(values[value].name, blob)
        return graph.serialize(
            self._name,
            {key: self._named("" if len(inputs) == 1 else f"{key}_", key, inputs) for key in inputs},
            {blob: self._named(f"{blob}_", value, inputs) for blob, value in outputs.items()},
            self._version,
            metadata=metadata,
        )

    def _named(self, prefix: str, blob: str, inputs: Sequence[str]) -> list[int | str]:
        """Return a blob's shape with a name for each open size; equal names promise equal sizes."""
        batches = {self._declared[key][0] for key in inputs if self._declared[key]}
        words = {2: f"{prefix}height", 3: f"{prefix}width"}
        # As many regions as are found in one image need not be found in another.
        own = len(inputs) > 1 and any(key in self._loose for key in (blob, *inputs))
        if len(batches) == 1 and self._declared[blob][:1] == (*batches,) and not own:
            words[0] = "batch"
        return [words.get(axis, f"{prefix}{axis}") if n is None else n for axis, n in enumerate(self._sizes[blob])]


def _parsed(model: bytes) -> ModelProto:
    from onnx import load_model_from_string

    return load_model_from_string(model)
