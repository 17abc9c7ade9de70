"""Lengths set right: a trained net rescaled layer by layer, so that its features are near 20 and its weights balanced.

Convolutions, inner products, PReLU, pooling and sums pass a positive factor through: a layer's weights times a power
of two, and its bias times the factor reached so far, make the same net with other lengths. Powers of two change no
digit, so the directions of the features stay bit for bit. A loss on cosines alone (distillation) leaves lengths free,
and they drift: gradients and margins then meet numbers that they were not made for. How fast a layer learns depends on
the length of its weights, as |gradient| |weights| does not change with the factor; so the factors make the layers'
weights as equally long as can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.net import Net

LENGTH = 20.0
"""The length of SphereFace's features, about: 15 to 25 after A-Softmax training, as the trainer's own runs end."""
_WEIGHTED = ("Convolution", "InnerProduct", "Deconvolution")
_PASSING = ("PReLU", "ReLU", "Pooling", "Dropout", "Flatten", "Concat", "Split", "Reshape", "Slice", "Permute", "Crop")
_HIGHEST = 60
_SLOWEST = 1e-3


@dataclass(frozen=True)
class Rescaling:
    """What was done to a net.

    Attributes
    ----------
    before, after : float
        Mean length of the features.
    layers : dict of str to int
        For each layer changed, the power of two on its weights.
    """

    before: float
    after: float
    layers: dict[str, int]

    def __str__(self) -> str:
        if not self.layers:
            return f"features have length {self.before:.4g}"
        return f"features had length {self.before:.4g}, now {self.after:.4g}; directions are unchanged"


def rescale(net: Net, embedding: str, inputs: dict[str, Array], *, length: float = LENGTH) -> Rescaling:
    """Bring a net's features near a length, and its layers' weights near each other, without a change of direction.

    Parameters
    ----------
    net : Net
    embedding : str
        The blob of the features.
    inputs : dict of str to array
        Images as the net is trained on, a batch of them.
    length : float
        What the features' mean length comes near to: within a factor of the root of two. Where it is so already, the
        net stays as it is.

    Returns
    -------
    Rescaling
        Nothing is changed where the features depend on layers that pass no factor through (BatchNorm after the last
        weights, Sigmoid), or where they are zero or not finite.
    """
    training = net.context.train
    net.train(False)
    features = net.backend.numpy(net.forward(inputs, keep=[embedding], learn=False).blobs[embedding])
    net.train(training)
    before = float(np.linalg.norm(features.reshape(len(features), -1).astype(np.float64), axis=1).mean())
    groups = _groups(net)
    last = groups[net.value_names()[embedding]]
    if not last or not math.isfinite(before) or before == 0:
        return Rescaling(before, before, {})
    wanted = round(math.log2(length / before))
    if not wanted:
        return Rescaling(before, before, {})
    powers = _balanced(net, groups, last, wanted)
    changed = {layer.name: shift for layer in net.layers if (shift := _apply(net, layer, groups, powers))}
    return Rescaling(before, before * 2.0 ** powers[last], changed)


def _balanced(net: Net, groups: dict[str, int], last: int, wanted: int) -> dict[int, int]:
    """Return the power of two of each group: least squares on the logarithms of the weights' lengths."""
    count = max(groups.values()) + 1
    rows, sides = [], []
    for layer in net.layers:
        size = _length(net, layer)
        if size:
            row = np.zeros(count + 1)
            row[groups[layer.spec.tops[0]]] += 1
            row[groups[layer.spec.bottoms[0]]] -= 1
            row[count] = -1  # the length that all come near to
            rows.append(row)
            sides.append(-math.log2(size))
    matrix, side = np.array(rows), np.array(sides) - wanted * np.array(rows)[:, last]
    free = [place for place in range(count + 1) if place not in (0, last)]
    solved = np.linalg.lstsq(matrix[:, free], side, rcond=None)[0]
    powers = dict.fromkeys(range(count), 0) | {last: wanted}
    for place, value in zip(free, solved, strict=True):
        powers[place] = max(-_HIGHEST, min(_HIGHEST, round(value)))
    return powers


def _length(net: Net, layer: Layer) -> float:
    """Return the length of a layer's weights: 0 where it has none that can be scaled."""
    if layer.spec.type not in _WEIGHTED or not _owns_weights(net, layer):
        return 0.0
    size = float(np.linalg.norm(net.backend.numpy(layer.params[0].data).astype(np.float64)))
    return size if math.isfinite(size) else 0.0


def _groups(net: Net) -> dict[str, int]:
    """Number the values that must share a factor; 0: those whose factor is fixed."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    def join(names: Any) -> None:
        first, *rest = names
        for name in rest:
            parent[root(name)] = root(first)

    fixed = "\0fixed"
    join([fixed, *net.inputs])
    for layer in net.layers:
        bottoms, tops = list(layer.spec.bottoms), list(layer.spec.tops)
        if layer.spec.type in _WEIGHTED and _owns_weights(net, layer):
            for name in (*bottoms, *tops):
                root(name)
        elif layer.spec.type in _PASSING or _is_sum(layer):
            join([*bottoms, *tops])
        else:
            join([fixed, *bottoms, *tops])
    roots = {root(fixed): 0}
    return {name: roots.setdefault(root(name), len(roots)) for name in parent if name != fixed}


def _owns_weights(net: Net, layer: Layer) -> bool:
    """Whether its arrays may change: they learn, and no other layer shares them, which could not take two factors."""
    if not all(param.trainable for param in layer.params):
        return False
    mine = {id(param) for param in layer.params}
    return not any(id(param) in mine for other in net.layers if other is not layer for param in other.params)


def _is_sum(layer: Layer) -> bool:
    settings = layer.spec.param.eltwise_param
    return layer.spec.type == "Eltwise" and settings.operation != settings.PROD


def _apply(net: Net, layer: Layer, groups: dict[str, int], powers: dict[int, int]) -> int:
    """Put the factors on a layer's arrays, and return the power of two on its weights."""
    if layer.spec.type not in _WEIGHTED or not _owns_weights(net, layer):
        return 0
    bottom = powers.get(groups[layer.spec.bottoms[0]], 0)
    top = powers.get(groups[layer.spec.tops[0]], 0)
    for param, shift in zip(layer.params, (top - bottom, top), strict=False):
        if shift:
            param.data = net.backend.asarray(np.ldexp(net.backend.numpy(param.data), shift))
    return top - bottom


def balance_rates(net: Net) -> None:
    """Make all layers learn at one pace: an array's rate times the square of its length over the median layer's.

    A step of SGD changes an array by rate |g| / |w| of itself, and |g| |w| is what the function of the net fixes: so a
    rate that grows with |w|^2 makes the relative change the same however the net happens to be scaled.
    """
    weights = [size for layer in net.layers if (size := _length(net, layer))]
    if not weights:
        return
    middle = float(np.median(weights)) ** 2
    for param in net.params:
        values = net.backend.numpy(param.data).astype(np.float64)
        if param.learned and np.isfinite(values).all():
            param.lr_mult *= max(_SLOWEST, float(np.sum(values * values)) / middle)
