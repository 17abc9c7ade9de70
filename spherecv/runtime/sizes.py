"""The smallest image that a convolutional net of open height and width can take."""

from __future__ import annotations

import math
from collections.abc import Iterable

from spherecv.runtime.signature import Node, Signature

# Operators whose output has the height and width of their first input.
_KEEPING = frozenset(
    ("Add", "BatchNormalization", "Clip", "Div", "Dropout", "Elu", "Identity", "LRN", "LeakyRelu", "Mul", "PRelu",
     "Relu", "Sigmoid", "Softmax", "Sub", "Tanh")
)  # fmt: skip
_SLIDING = ("AveragePool", "Conv", "MaxPool")
_LARGEST = 1 << 12


def smallest_sides(signature: Signature) -> dict[str, tuple[int, int]]:
    """Find how high and how wide an image must be at least for every window of the net to fit into what it slides over.

    OpenCV 5.0 does not check this: a smaller image crashes the process.

    Returns
    -------
    dict of str to tuple of int
        Height and width for each input of four axes. 1 where the net has no such bound that can be seen: what follows
        operators other than convolution, pooling and element-wise ones is not looked at.
    """
    smallest = {}
    for port in signature.inputs:
        if port.dims is not None and len(port.dims) == 4:
            smallest[port.name] = (_smallest(signature.nodes, port.name, 0), _smallest(signature.nodes, port.name, 1))
    return smallest


def _smallest(nodes: Iterable[Node], name: str, axis: int) -> int:
    """Bisect: if a side fits, so does every longer one."""
    if not _fits(nodes, name, axis, _LARGEST):
        return 1
    low, high = 0, _LARGEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _fits(nodes, name, axis, middle) else (middle, high)
    return high


def _fits(nodes: Iterable[Node], name: str, axis: int, side: int) -> bool:
    sides = {name: side}
    for node in nodes:
        known = sides.get(node.inputs[0]) if node.inputs else None
        if known is None or not node.outputs:
            continue
        if node.operator in _KEEPING:
            sides[node.outputs[0]] = known
        elif node.operator in _SLIDING and (after := _slide(node, axis, known)) is not None:
            if after < 1:
                return False
            sides[node.outputs[0]] = after
    return True


def _slide(node: Node, axis: int, side: int) -> int | None:
    """How often a window fits along an axis; None if the node does not say it in numbers."""
    kernel, pads = node.integers.get("kernel_shape", ()), node.integers.get("pads", (0, 0, 0, 0))
    strides, dilations = node.integers.get("strides", (1, 1)), node.integers.get("dilations", (1, 1))
    if [len(kernel), len(pads), len(strides), len(dilations)] != [2, 4, 2, 2] or "auto_pad" in node.integers:
        return None
    if strides[axis] < 1:
        return None
    room = side + pads[axis] + pads[axis + 2] - ((kernel[axis] - 1) * dilations[axis] + 1)
    if node.integer("ceil_mode", 0):
        return math.ceil(room / strides[axis]) + 1
    return room // strides[axis] + 1 if room >= 0 else 0
