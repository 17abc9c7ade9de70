"""Lengths set right: a trained net rescaled layer by layer, so that its activations are near 1 and its features near 20.

Convolutions, inner products, PReLU, pooling and sums pass a positive factor through: a layer's weights times a power
of two, and its bias times the factor reached so far, make the same net with other lengths. Powers of two change no
digit, so the directions of the features stay bit for bit. A loss on cosines alone (distillation) leaves lengths free,
and they drift: gradients and margins then meet numbers that they were not made for.
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
    """Bring a net's activations near 1, and its features near a length, without a change of direction.

    Parameters
    ----------
    net : Net
    embedding : str
        The blob of the features.
    inputs : dict of str to array
        Images as the net is trained on, a batch of them.
    length : float
        What the features' mean length comes near to: within a factor of the root of two.

    Returns
    -------
    Rescaling
        Nothing is changed where the features depend on layers that pass no factor through (BatchNorm after the last
        weights, Sigmoid), or where they are zero or not finite.
    """
    last_value = net.value_names()
    of_value = _groups(net)
    groups = {name: of_value[last_value[name]] for name in last_value if last_value[name] in of_value}
    training = net.context.train
    net.train(False)
    values = net.forward(inputs, keep=list(groups), learn=False).blobs
    net.train(training)
    features = net.backend.numpy(values[embedding]).astype(np.float64)
    before = float(np.linalg.norm(features.reshape(len(features), -1), axis=1).mean())
    if not math.isfinite(before) or before == 0:
        return Rescaling(before, before, {})
    powers = {0: 0}
    for name, group in groups.items():
        size = _rms(net, values[name])
        if group and math.isfinite(size) and size > 0:
            powers[group] = _power(1.0 / size)
    last = groups[embedding]
    if last:
        powers[last] = _power(length / before)
    changed = {layer.name: shift for layer in net.layers if (shift := _apply(net, layer, of_value, powers))}
    return Rescaling(before, before * 2.0 ** powers.get(last, 0), changed)


def _power(factor: float) -> int:
    return max(-_HIGHEST, min(_HIGHEST, round(math.log2(factor))))


def _rms(net: Net, values: Array) -> float:
    flat = net.backend.numpy(values).astype(np.float64)
    return float(np.sqrt(np.mean(flat * flat)))


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
    """Whether no other layer shares its arrays: a shared one cannot take two factors."""
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
