"""The inputs of a net, in every way that a prototxt can declare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spherecv.caffe.graph import Layer, Shape, fits_a_blob, listed
from spherecv.caffe.layers import DATA, TRAINING_ONLY
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


def deployed(
    layers: Sequence[Layer], message: NetParameter, overrides: Mapping[str, Sequence[int]] | None
) -> tuple[list[Layer], dict[str, Shape]]:
    """Turn the layers of a phase into a net that can be deployed.

    Parameters
    ----------
    layers : sequence of Layer
        Those that take part in the phase.
    message : NetParameter
        The net they are from.
    overrides : dict of str to sequence of int, optional
        Shapes of inputs, in place of what the prototxt says.

    Returns
    -------
    layers : list of Layer
        Without input, data, loss and other training layers.
    inputs : dict of str to tuple of int

    Raises
    ------
    PrototxtError
        If an input has no shape, or a senseless one.
    InvalidArgumentError
        If an override names no input.
    """
    found: dict[str, Shape | None] = declared_inputs(message)
    origin: dict[str, Layer] = {}
    running = []
    for layer in layers:
        if layer.type == "Input" or layer.type in DATA:
            tops = _input_layer(layer) if layer.type == "Input" else _data_layer(layer)
            found.update(tops)
            origin.update(dict.fromkeys(tops, layer))
        elif layer.type not in TRAINING_ONLY:
            running.append(layer)
    for name, shape in (overrides or {}).items():
        if name not in found:
            raise InvalidArgumentError(f"the net has no input {name!r} to give a shape to; it has {listed(found)}")
        if not all(isinstance(size, int) for size in shape) or not fits_a_blob(shape):
            raise InvalidArgumentError(f"input_shapes[{name!r}] must hold sizes from 1, but got {shape!r}")
        found[name] = tuple(shape)
    if not found:
        raise PrototxtError("the net declares no input: add an Input layer, or `input` and `input_shape`")
    return running, {name: _checked(name, shape, origin.get(name)) for name, shape in found.items()}


def _input_layer(layer: Layer) -> dict[str, Shape | None]:
    shapes: list[Shape | None] = [tuple(shape.dim) for shape in layer.param.input_param.shape]
    if len(shapes) not in (0, 1, len(layer.tops)):
        raise layer.mistake(f"gives {len(shapes)} shapes for {len(layer.tops)} tops")
    if len(shapes) != len(layer.tops):
        shapes = (shapes or [None]) * len(layer.tops)
    return dict(zip(layer.tops, shapes, strict=True))


def _data_layer(layer: Layer) -> dict[str, Shape | None]:
    """Return the first top, the images, with the shape if the settings tell it; the others are labels."""
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
    return {layer.tops[0]: shape} if layer.tops else {}


def _checked(name: str, shape: Iterable[int] | None, layer: Layer | None) -> Shape:
    place = f" of {layer}" if layer is not None else ""
    line = layer.line if layer is not None else None
    if shape is None:
        raise PrototxtError(
            f"the input {name!r}{place} has no shape in the prototxt: take the deploy prototxt, or pass "
            f"input_shapes={{{name!r}: (1, 3, height, width)}}",
            line=line,
        )
    sizes = tuple(shape)
    if not fits_a_blob(sizes):
        raise PrototxtError(f"the input {name!r}{place} has the senseless shape {sizes[:8]}", line=line)
    return sizes
