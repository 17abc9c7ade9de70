"""Checks of a model's inputs before a backend sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from spherecv.errors import InvalidArgumentError, ModelFileError
from spherecv.runtime.backend import FloatArray, Model
from spherecv.runtime.signature import FLOAT, Batch
from spherecv.runtime.sizes import smallest_sides


class Inputs:
    """The inputs of a model, and the check of arrays against them.

    OpenCV 5 runs a net of three channels on four without a word, so nothing is left to the backends.

    Parameters
    ----------
    model : Model
    batch : Batch
        What the first axis means.

    Attributes
    ----------
    shapes : dict of str to tuple of (int or None)
        What every input's shape must be; None may be any size.

    Raises
    ------
    ModelFileError
        An input is not float32, or states no shape.
    """

    def __init__(self, model: Model, batch: Batch) -> None:
        self._batched = batch is not Batch.NONE
        self._dims = {}
        for port in model.signature.inputs:
            what = f"input {port.name!r} of {model.where}"
            if port.element != FLOAT:
                raise ModelFileError(f"{what} is {port.type_name}: a Session feeds float32 only")
            if port.dims is None:
                raise ModelFileError(f"{what} states no shape: export the model with one")
            self._dims[port.name] = ("batch of any size", *port.dims[1:]) if self._batched else port.dims
        self._smallest = {} if model.signature.fixed_size else smallest_sides(model.signature)
        self.shapes = {
            name: tuple(dim if isinstance(dim, int) else None for dim in dims) for name, dims in self._dims.items()
        }

    def check(self, inputs: object) -> dict[str, FloatArray]:
        """Return the inputs by name, in the order of the model.

        Raises
        ------
        InvalidArgumentError
            One is missing, unknown, or of the wrong type or shape.
        """
        if isinstance(inputs, Mapping):
            if inputs.keys() != self._dims.keys():
                raise InvalidArgumentError(f"the model has the inputs {listed(self._dims)}, but got {listed(inputs)}")
        elif len(self._dims) == 1:
            inputs = {next(iter(self._dims)): inputs}
        else:
            raise InvalidArgumentError(f"the model has the inputs {listed(self._dims)}: pass a dict of arrays")
        sizes: dict[str, int] = {}
        return {name: self._check(name, inputs[name], sizes) for name in self._dims}

    def _check(self, name: str, array: object, sizes: dict[str, int]) -> FloatArray:
        """Check one input against the model, and against what earlier inputs gave to axes of the same name."""
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise InvalidArgumentError(f"input {name!r} must be a NumPy array of float32, but got {kind}")
        wanted = self.shapes[name]
        sides = zip(wanted, array.shape, strict=False)
        if len(wanted) != array.ndim or any(want not in (None, side) for want, side in sides):
            raise InvalidArgumentError(f"input {name!r} must have shape {self._described(name)}, but got {array.shape}")
        for axis, (dim, side) in enumerate(zip(self._dims[name], array.shape, strict=True)):
            if not side and not (self._batched and axis == 0):
                raise InvalidArgumentError(f"input {name!r} has shape {array.shape}: only a batch may have no items")
            if isinstance(dim, str) and sizes.setdefault(dim, side) != side:
                raise InvalidArgumentError(
                    f"input {name!r} has {side} along axis {axis}, where {sizes[dim]} was given before ({dim})"
                )
        height, width = self._smallest.get(name, (0, 0))
        if name in self._smallest and (array.shape[2] < height or array.shape[3] < width):
            raise InvalidArgumentError(f"input {name!r} must be {height} x {width} at least, but got {array.shape}")
        return array

    def _described(self, name: str) -> str:
        sides = ["any" if side is None else str(side) for side in self.shapes[name]]
        if self._batched:
            sides[0] = "N"
        return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def listed(names: Iterable[object]) -> str:
    """Return names as an error message lists them."""
    return ", ".join(repr(name) for name in names)
