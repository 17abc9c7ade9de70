"""Shape inference: what every layer gets and gives, checked as Caffe checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spherecv.caffe.graph import Layer, Shape, fits_a_blob
from spherecv.caffe.layers import kind_of


class LayerShapes(NamedTuple):
    """The shapes of a layer's bottoms and tops."""

    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]


def infer(layers: Sequence[Layer], inputs: Mapping[str, Shape], *, more_rows: int = 0) -> list[LayerShapes]:
    """Return the shapes of every layer's bottoms and tops.

    Parameters
    ----------
    layers : sequence of Layer
        In the order in which they run; in-place layers are fine.
    inputs : dict of str to tuple of int
        The shapes of the net's inputs.
    more_rows : int
        Added to the sizes that depend on numbers, to find out what follows them.

    Raises
    ------
    PrototxtError
        Naming layer and line, where shapes or settings make no sense.
    UnsupportedLayerError
        For a layer or setting we do not know.
    """
    shapes = dict(inputs)
    inferred = []
    for layer in layers:
        kind = kind_of(layer)
        _check_count(layer, "bottom", len(layer.bottoms), kind.bottoms)
        _check_count(layer, "top", len(layer.tops), kind.tops)
        bottoms = tuple(shapes[name] for name in layer.bottoms)
        tops = tuple(kind.top_shapes(layer, bottoms))
        if len(tops) != len(layer.tops):
            raise layer.mistake(f"has {len(layer.tops)} tops, but gives {len(tops)}")
        if kind.open_axis is not None and more_rows:
            tops = tuple(_longer(shape, kind.open_axis, more_rows) for shape in tops)
        for shape in tops:
            if min(shape, default=1) < 1:
                small = f": its input {bottoms[0]} is too small" if bottoms else ""
                raise layer.mistake(f"its output would have the shape {shape}{small}")
        for what, computed in (("output", tops), ("weights", kind.blob_shapes(layer, bottoms))):
            for shape in computed:
                if not fits_a_blob(shape):
                    raise layer.mistake(f"its {what} would have the shape {shape}, more than a blob can hold")
        shapes.update(zip(layer.tops, tops, strict=True))
        inferred.append(LayerShapes(bottoms, tops))
    return inferred


def _longer(shape: Shape, axis: int, more: int) -> Shape:
    return (*shape[:axis], shape[axis] + more, *shape[axis + 1 :])


def _check_count(layer: Layer, what: str, count: int, limits: tuple[int, int | None]) -> None:
    least, most = limits
    if count < least or (most is not None and count > most):
        wanted = f"at least {least}" if most is None else f"{least}" if most == least else f"{least} to {most}"
        raise layer.mistake(f"has {count} {what}s, but needs {wanted}")
