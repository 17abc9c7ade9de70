"""The inputs of a net, in every way that a prototxt can declare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spherecv.caffe.graph import Layer, Shape, fits_a_blob, listed
from spherecv.caffe.layers import DATA, KINDS, TRAINING_ONLY
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.errors import InvalidArgumentError, PrototxtError


def declared_inputs(message: NetParameter) -> dict[str, Shape | None]:
    """Return the inputs declared outside layers: `input` with `input_shape`, with four `input_dim` each, or bare."""
    names = list(message.input)
    if len(set(names)) != len(names):
        raise PrototxtError("two inputs have the same name: rename one")
    shapes: list[Shape | None]
    if message.input_shape:
        shapes = [tuple(shape.dim) for shape in message.input_shape]
    elif message.input_dim:
        dims = list(message.input_dim)
        if len(dims) % 4:
            raise PrototxtError(f"input_dim is given {len(dims)} times: each input takes four (N, C, H, W)")
        shapes = [tuple(dims[start : start + 4]) for start in range(0, len(dims), 4)]
    else:
        shapes = [None] * len(names)
    if len(shapes) != len(names):
        raise PrototxtError(f"{len(names)} inputs are declared, but {len(shapes)} shapes are given")
    return dict(zip(names, shapes, strict=True))


@dataclass(frozen=True)
class Deployed:
    """What is left of a net for deployment.

    Attributes
    ----------
    layers : tuple of Layer
        Without input, data, loss and other training layers, and without what reads labels.
    inputs : dict of str to tuple of int or None
        The shape of every input, None where nothing states it.
    origin : dict of str to Layer
        The layers that inputs come from; those declared outside layers have none.
    dropped : dict of str to Layer
        Blobs that only training has, and the layers that make them.
    """

    layers: tuple[Layer, ...]
    inputs: dict[str, Shape | None]
    origin: dict[str, Layer]
    dropped: dict[str, Layer]

    def needed(self, outputs: Sequence[str] | None) -> tuple[list[Layer], dict[str, Shape]]:
        """Return the layers and inputs that some blobs need, all of them without `outputs`.

        Raises
        ------
        PrototxtError
            If an input that is needed has no shape, or a senseless one.
        InvalidArgumentError
            If there is no blob of a name asked for.
        """
        layers, read = list(self.layers), {bottom for layer in self.layers for bottom in layer.bottoms}
        kept = [name for name in self.inputs if name in read or not self._is_data(name)]
        if outputs is not None:
            made = dict.fromkeys(top for layer in self.layers for top in layer.tops)
            for name in outputs:
                if name not in made:
                    raise self._missing(name, made)
            layers, read = _behind(self.layers, outputs)
            kept = [name for name in self.inputs if name in read]
        return layers, {name: _checked(name, self.inputs[name], self.origin.get(name)) for name in kept}

    def _is_data(self, name: str) -> bool:
        return name in self.origin and self.origin[name].type != "Input"

    def _missing(self, name: str, made: Iterable[str]) -> InvalidArgumentError:
        layer = self.dropped.get(name)
        why = f": {layer} makes it, which only training has" if layer else ""
        return InvalidArgumentError(f"the net has no blob {name!r} to output{why}; it has {listed(made)}")


def deployed(
    layers: Sequence[Layer],
    message: NetParameter,
    overrides: Mapping[str, Sequence[int]] | None,
    others: Sequence[Layer] = (),
) -> Deployed:
    """Turn the layers of a phase into a net that can be deployed.

    Parameters
    ----------
    layers : sequence of Layer
        Those that take part in the phase.
    message : NetParameter
        The net they are from.
    overrides : dict of str to sequence of int, optional
        Shapes of inputs, in place of what the prototxt says. Of a data layer they may name any top.
    others : sequence of Layer
        Those of other phases: their data layers count where the phase has no input at all.

    Raises
    ------
    PrototxtError
        If no input is declared, or one twice.
    InvalidArgumentError
        If an override names no input, or is no shape.
    """
    given = dict(overrides or {})
    found: dict[str, Shape | None] = declared_inputs(message)
    origin: dict[str, Layer] = {}
    dropped: dict[str, Layer] = {}
    running: list[Layer] = []
    sources = [layer for layer in layers if _is_source(layer)]
    if not sources and not found:
        sources = _first_makers(layer for layer in others if _is_source(layer))
    if found or any(layer.type != "DummyData" for layer in sources):
        sources = [layer for layer in sources if layer.type != "DummyData"]  # constants, not what the net is fed with
    reading = {id(layer) for layer in sources}
    for layer in sources:
        tops = _input_layer(layer) if layer.type == "Input" else _data_layer(layer, given)
        for top in layer.tops:
            if top in found or top in dropped:
                raise layer.mistake(f"its top {top!r} was made before: only in-place layers may write a blob again")
            if top not in tops:
                dropped[top] = layer
        found.update(tops)
        origin.update(dict.fromkeys(tops, layer))
    for layer in layers:
        if id(layer) in reading:
            continue
        if _trains(layer) or dropped.keys() & set(layer.bottoms):
            dropped.update((top, layer) for top in layer.tops if top not in layer.bottoms)
        else:
            running.append(layer)
    for name, shape in given.items():
        if name not in found:
            raise InvalidArgumentError(f"the net has no input {name!r} to give a shape to; it has {listed(found)}")
        if not all(isinstance(size, int) for size in shape) or not fits_a_blob(shape):
            raise InvalidArgumentError(f"input_shapes[{name!r}] must hold sizes from 1, but got {shape!r}")
        found[name] = tuple(shape)
    if not found:
        raise PrototxtError("the net declares no input: add an Input layer, or `input` and `input_shape`")
    return Deployed(tuple(running), found, origin, dropped)


def _first_makers(layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers without those whose blobs an earlier one makes: several phases have a data layer each."""
    made: set[str] = set()
    first = []
    for layer in layers:
        if not made.intersection(layer.tops):
            made.update(layer.tops)
            first.append(layer)
    return first


def _is_source(layer: Layer) -> bool:
    """Tell whether a layer only brings data in: Input, a data layer, or one of a type of its own that reads nothing."""
    if layer.type == "Input" or layer.type in DATA:
        return True
    own = layer.type == "Python" or layer.type not in KINDS
    return own and bool(layer.type and layer.tops) and not layer.bottoms


def _trains(layer: Layer) -> bool:
    """Tell whether only training needs a layer. Forks have many losses and measures, which are called so."""
    named = layer.type.lower().endswith(("loss", "accuracy"))
    return layer.type in TRAINING_ONLY or (named and layer.type not in KINDS)


def _behind(layers: Sequence[Layer], outputs: Iterable[str]) -> tuple[list[Layer], set[str]]:
    """Return the layers that some blobs need, and the blobs that must be there before them."""
    needed, kept = set(outputs), []
    for layer in reversed(layers):
        if needed.intersection(layer.tops):
            needed.difference_update(layer.tops)
            needed.update(layer.bottoms)
            kept.append(layer)
    return kept[::-1], needed


def _input_layer(layer: Layer) -> dict[str, Shape | None]:
    shapes: list[Shape | None] = [tuple(shape.dim) for shape in layer.param.input_param.shape]
    if len(shapes) not in (0, 1, len(layer.tops)):
        raise layer.mistake(f"gives {len(shapes)} shapes for {len(layer.tops)} tops")
    if len(shapes) != len(layer.tops):
        shapes = (shapes or [None]) * len(layer.tops)
    return dict(zip(layer.tops, shapes, strict=True))


def _data_layer(layer: Layer, given: Mapping[str, Sequence[int]]) -> dict[str, Shape | None]:
    """Return the first top, the images, with the shape if the settings tell it; the others are labels.

    Tops that are `given` a shape are inputs too, or instead of a first one that has none.
    """
    param = layer.param
    crop = param.transform_param.crop_size
    shape: Shape | None = None
    if layer.type == "DummyData" and param.dummy_data_param.shape:
        shape = tuple(param.dummy_data_param.shape[0].dim)
    elif layer.type == "MemoryData":
        memory = param.memory_data_param
        shape = (memory.batch_size, memory.channels, crop or memory.height, crop or memory.width)
    elif layer.type == "ImageData":
        image = param.image_data_param
        size = (crop, crop) if crop else (image.new_height, image.new_width)
        shape = (image.batch_size, 3 if image.is_color else 1, *size) if all(size) else None
    named: dict[str, Shape | None] = {top: tuple(given[top]) for top in layer.tops if top in given}
    return {layer.tops[0]: shape, **named} if layer.tops and (shape or not named) else named


def _checked(name: str, shape: Iterable[int] | None, layer: Layer | None) -> Shape:
    place = f" of {layer}" if layer is not None else ""
    line = layer.line if layer is not None else None
    if shape is None:
        raise PrototxtError(
            f"the input {name!r}{place} has no shape in the prototxt: take the deploy prototxt, or pass "
            f"input_shapes={{{name!r}: (1, 3, height, width)}}, on the command line "
            f"--input-shape {name}=1,3,HEIGHT,WIDTH",
            line=line,
        )
    sizes = tuple(shape)
    if not fits_a_blob(sizes):
        raise PrototxtError(f"the input {name!r}{place} has the senseless shape {sizes[:8]}", line=line)
    return sizes
