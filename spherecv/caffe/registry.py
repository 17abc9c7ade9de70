"""Types of layers of one's own: the equal of Caffe's Python layers and of `cv2.dnn_registerLayer`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.caffe.layers import LayerKind

_REGISTERED: dict[str, str] = {}  # types, and what their kinds are


def register(layer_type: str, kind: LayerKind, *, replace: bool = False) -> None:
    """Teach the converter a type of layer, for as long as the program runs.

    Parameters
    ----------
    layer_type : str
        As the prototxt has it: ``"Cube"`` for ``type: "Cube"``. For a Python layer, its module and its class:
        ``"my_layers.Cube"`` for ``python_param { module: "my_layers" layer: "Cube" }``.
    kind : LayerKind
        What the layer does. `LayerKind.top_shapes` says which shapes it gives, `blob_shapes` which weights it has, and
        one of two methods what it computes: `emit` in ONNX, with any operators of opset 13, or `step` after the net.
        `NumpyLayer` is a kind for the second way, made of one function. Settings that Caffe's own schema lacks, as
        ``cube_param { shift: 2 }``, are in ``layer.settings``.
    replace : bool
        Whether the type may be known already, to SphereCV or from an earlier call.

    Raises
    ------
    InvalidArgumentError
        If the type is known, and `replace` is False; or if `kind` is no LayerKind.

    Notes
    -----
    A model that was converted with a function of one's own names it, and a program that opens the model must have
    registered it too: no code travels in a model. Raise `kind.version` when the kind changes, so that nets converted
    before are not taken from the cache.

    Examples
    --------
    In ONNX:

    >>> from spherecv.caffe import LayerKind, register
    >>> class Cube(LayerKind):
    ...     def emit(self, layer, bottoms, tops, graph):
    ...         x = bottoms[0].name
    ...         return [graph.node("Mul", [x, graph.node("Mul", [x, x])])]
    >>> register("Cube", Cube())

    After the net, in NumPy:

    >>> from spherecv.caffe import NumpyLayer
    >>> def sort_channels(inputs, settings, weights):
    ...     return [np.sort(inputs[0], axis=settings["sort_param"]["axis"])]
    >>> register("Sort", NumpyLayer(sort_channels))

    >>> unregister("Cube")
    >>> unregister("Sort")
    """
    from spherecv.caffe.layers import KINDS, LayerKind, NumpyLayer, is_known
    from spherecv.runtime.steps import FUNCTIONS

    if not isinstance(layer_type, str) or not layer_type.isprintable() or not layer_type.strip():
        raise InvalidArgumentError(f"layer_type must be a name, but got {layer_type!r}")
    given: object = kind
    if not isinstance(given, LayerKind):
        made = " (make one: register the object, not its class)" if isinstance(given, type) else ""
        raise InvalidArgumentError(f"kind must be a LayerKind, but got {type(given).__name__}{made}")
    if is_known(layer_type) and not replace:
        raise InvalidArgumentError(f"the type {layer_type!r} is known: pass replace=True to put yours in its place")
    KINDS[layer_type] = kind
    if isinstance(kind, NumpyLayer):
        FUNCTIONS[layer_type] = kind.function
    _REGISTERED[layer_type] = f"{type(kind).__module__}.{type(kind).__qualname__} {kind.version}"


def unregister(layer_type: str) -> None:
    """Forget a type that was registered; one of SphereCV's own whose place it took is back."""
    from spherecv.caffe.layers import BUILT_IN, KINDS
    from spherecv.runtime.steps import FUNCTIONS

    if layer_type not in _REGISTERED:
        raise InvalidArgumentError(f"no type {layer_type!r} was registered")
    del _REGISTERED[layer_type]
    if layer_type not in BUILT_IN:
        FUNCTIONS.pop(layer_type, None)
        del KINDS[layer_type]
    else:
        KINDS[layer_type] = BUILT_IN[layer_type]


def is_registered(layer_type: str) -> bool:
    """Tell whether a type is one that was registered."""
    return layer_type in _REGISTERED


def fingerprint() -> str:
    """Return what tells the registered types from others, for the names of cached conversions; empty without any."""
    if not _REGISTERED:
        return ""
    told = "\n".join(f"{name} {what}" for name, what in sorted(_REGISTERED.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:12]
