"""What the converter has to know of a type of layer."""

# ruff: noqa: ARG002 (methods of LayerKind: documented there, and each type needs only some arguments)

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spherecv.caffe.graph import Array, Layer, Shape

if TYPE_CHECKING:
    from spherecv.caffe.onnx_graph import OnnxGraph
    from spherecv.caffe.tail import Step
    from spherecv.runtime.steps import Function

Dims = tuple[int | None, ...]

_MOST_PLACES = 1 << 22


class Value(NamedTuple):
    """A value in the ONNX graph: its name, and its shape with None where a size is known only at run time."""

    name: str
    shape: Dims


class SizeNeededError(Exception):
    """A layer can be written only for fixed sizes: the converter then fixes them. Never leaves the package."""


class LayerKind:
    """A type of layer: shapes, cost and form. Stateless; the settings are in the `Layer`.

    A layer has one of three forms: ONNX (`emit`), a function that runs after the net (`step`), or numbers that are
    known when the net is converted (`constants`).

    Attributes
    ----------
    bottoms, tops : tuple of int
        Fewest and most; None where there is no limit.
    open_axis : int or None
        The axis of the tops whose size depends on numbers, where there is one: the shape then says what is the most.
    is_constant : bool
        Whether the tops depend on shapes only: `constants` then gives them.
    checked : str
        Against what the layer was checked, for the documentation.
    version : str
        Of a kind of one's own: see `spherecv.caffe.register`.
    """

    bottoms: tuple[int, int | None] = (1, 1)
    tops: tuple[int, int | None] = (1, 1)
    open_axis: int | None = None
    is_constant: bool = False
    checked: str = ""
    version: str = ""

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape of every top."""
        return [bottoms[0]]

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape of every weight blob, as Caffe allocates it."""
        return []

    def stored_shapes(self, layer: Layer, bottoms: Sequence[Shape], count: int) -> list[Shape]:
        """Return the shape of every blob in a caffemodel that stores `count` of them for the layer."""
        return self.blob_shapes(layer, bottoms)

    def macs(self, layer: Layer, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Return the number of multiply-accumulate operations; zero for layers that are not dominated by them."""
        return 0

    def emit(self, layer: Layer, bottoms: Sequence[Value], tops: Sequence[Dims], graph: OnnxGraph) -> list[str]:
        """Write the layer as ONNX nodes and return the names of its tops' values."""
        raise NotImplementedError

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        """Return what the layer computes after the net; None if it is part of the net."""
        return None

    def constants(self, layer: Layer, bottoms: Sequence[Dims]) -> list[Array] | None:
        """Return the tops of a layer that is constant."""
        return None

    def shares_memory(self, layer: Layer, bottoms: Sequence[Shape]) -> bool:
        """Tell whether the tops lie where the first bottom lies in Caffe: what writes there in place changes both."""
        return False


class NumpyLayer(LayerKind):
    """A layer of one's own that a function computes after the net: see `spherecv.caffe.register`.

    Parameters
    ----------
    function : callable
        ``function(inputs, settings, weights)`` takes the bottoms, a dict of settings, and the weights, arrays of
        float32, and returns the tops as a list of such arrays, none of them an input changed in place.
    shape : callable, optional
        ``shape(layer, bottoms)`` returns the shapes of the tops, given those of the bottoms; by default every top has
        the shape of the first bottom.
    settings : callable, optional
        ``settings(layer)`` returns what the function gets: numbers, strings, None, and lists and dicts of such. By
        default ``layer.settings``, with a Python layer's ``param_str``.
    blob_shapes : callable, optional
        ``blob_shapes(layer, bottoms)`` returns the shapes of the weights; none by default.
    bottoms, tops : tuple of int
        Fewest and most; None where there is no limit.
    open_axis : int, optional
        The axis of the tops whose size depends on numbers, if there is one: `shape` then says what is the most.
    version : str
        To be raised when the function changes.
    """

    def __init__(
        self,
        function: Function,
        *,
        shape: Callable[[Layer, Sequence[Shape]], list[Shape]] | None = None,
        settings: Callable[[Layer], dict[str, Any]] | None = None,
        blob_shapes: Callable[[Layer, Sequence[Shape]], list[Shape]] | None = None,
        bottoms: tuple[int, int | None] = (1, None),
        tops: tuple[int, int | None] = (1, None),
        open_axis: int | None = None,
        version: str = "",
    ) -> None:
        self.function = function
        self._shape, self._settings, self._blob_shapes = shape, settings, blob_shapes
        self.bottoms, self.tops, self.open_axis, self.version = bottoms, tops, open_axis, version

    def top_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape of every top."""
        return [bottoms[0]] * len(layer.tops) if self._shape is None else self._shape(layer, bottoms)

    def blob_shapes(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return the shape of every weight blob."""
        return [] if self._blob_shapes is None else self._blob_shapes(layer, bottoms)

    def step(self, layer: Layer, bottoms: Sequence[Dims]) -> Step | None:
        """Return what the layer computes after the net."""
        from spherecv.caffe.tail import Step

        settings = dict(layer.settings)
        if layer.param.python_param.param_str:
            settings["param_str"] = layer.param.python_param.param_str
        return Step(layer.kind_name, settings if self._settings is None else self._settings(layer), layer.blobs)


def places(layer: Layer, count: int) -> npt.NDArray[np.int64]:
    """Return the places along an axis, 0, 1, ..., if they are not too many to list in a model."""
    if count > _MOST_PLACES:
        raise layer.unsupported(f"works along axes of {_MOST_PLACES:,} at most, but one has {count:,}")
    return np.arange(count)


def axis_of(layer: Layer, axis: int, rank: int, *, end: bool = False) -> int:
    """Return an axis counted from the front; with `end`, the place after the last axis is one too."""
    places = rank + 1 if end else rank
    if not -rank - end <= axis < places:
        raise layer.mistake(f"axis {axis} does not exist in a blob of {rank} axes")
    return axis if axis >= 0 else axis + places


def known(shape: Dims) -> Shape:
    """Return a shape whose sizes must all be known.

    Raises
    ------
    SizeNeededError
        If one is not.
    """
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) != len(shape):
        raise SizeNeededError
    return sizes


def reshape_target(shape: Dims, kept: int = 0, copied: Collection[int] = ()) -> list[int]:
    """Return the target of an ONNX Reshape.

    Parameters
    ----------
    shape : tuple of int or None
        The shape wanted. One unknown size becomes -1, what is left.
    kept : int
        How many leading axes keep their size, so that 0, copy, can stand for further unknown ones.
    copied : collection of int
        Other axes that keep theirs.
    """
    target = [-1 if size is None else size for size in shape]
    for axis in (*range(kept), *copied):
        if target.count(-1) > 1 and target[axis] == -1:
            target[axis] = 0
    if target.count(-1) > 1:
        raise SizeNeededError
    return target
