"""What fine-tuning and distillation have in common: losses by name, freezing, and writing what was learnt."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

from spherecv.caffe.graph import layers_of, open_ends
from spherecv.caffe.reader import Source, read_definition
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.caffe.upgrade import upgrade
from spherecv.caffe.writer import write_caffemodel, write_prototxt
from spherecv.errors import InvalidArgumentError, PrototxtError
from spherecv.train.deploy import deploy_definition, deploy_weights
from spherecv.train.layers.base import Layer
from spherecv.train.losses import (
    ArcFace,
    ASoftmax,
    CentreLoss,
    CosFace,
    LambdaSchedule,
    Loss,
    SoftmaxLoss,
    SphereFace2,
    SphereFacePlus,
    SphereFaceR,
    TripletLoss,
    WeightedSum,
)
from spherecv.train.net import Net, input_shapes
from spherecv.train.weights import to_caffemodel


def _video(classes: int, margin: int, schedule: LambdaSchedule) -> Loss:
    return WeightedSum([(1.0, ASoftmax(classes, margin=margin, schedule=schedule)), (0.1, CentreLoss(classes))])


_SOFT = 20.0  # the length that rescaling gives features: drawing them to another one is all a short training would do
_Maker = Callable[[int, int, LambdaSchedule], Loss]
LOSSES: dict[str, tuple[str, _Maker]] = {
    "a-softmax": ("SphereFace's angular margin m", lambda n, m, s: ASoftmax(n, margin=m, schedule=s)),
    "softmax": ("plain softmax over identities", lambda n, _m, _s: SoftmaxLoss(n)),
    "sphereface+": (
        "A-Softmax with minimum hyperspherical energy",
        lambda n, m, s: SphereFacePlus(n, margin=m, schedule=s),
    ),
    "sphereface-r": ("margin on the angle, stable; features of fixed length", lambda n, _m, _s: SphereFaceR(n)),
    "sphereface-r-soft": (
        "the same, features drawn to a length",
        lambda n, _m, _s: SphereFaceR(n, feature="soft", scale=_SOFT),
    ),
    "sphereface-r-v2": ("margin on the angles to the others", lambda n, _m, _s: SphereFaceR(n, version="v2")),
    "sphereface-r-v2-soft": (
        "the same, features drawn to a length",
        lambda n, _m, _s: SphereFaceR(n, version="v2", feature="soft", scale=_SOFT),
    ),
    "sphereface2": ("a yes or no for each identity, no choice among all", lambda n, _m, _s: SphereFace2(n)),
    "cosface": ("additive cosine margin", lambda n, _m, _s: CosFace(n)),
    "arcface": ("additive angular margin", lambda n, _m, _s: ArcFace(n)),
    "video": ("A-Softmax and a centre term, for frames of videos", _video),
    "triplet": ("semi-hard triplets; batches of P identities with K images", lambda _n, _m, _s: TripletLoss()),
}


def make_loss(name: str, classes: int, *, margin: int = 4, schedule: LambdaSchedule | None = None) -> Loss:
    """Return a loss by its name.

    Parameters
    ----------
    name : str
        One of `LOSSES`.
    classes : int
    margin, schedule
        Of A-Softmax and what stands on it.
    """
    if name not in LOSSES:
        raise InvalidArgumentError(f"loss must be one of {', '.join(LOSSES)}, but got {name!r}")
    return LOSSES[name][1](classes, margin, schedule or LambdaSchedule())


def deployed(prototxt: Source) -> tuple[NetParameter, tuple[int, ...], str]:
    """Return a net for use, the shape of its input in Caffe's order, and the name of the blob it ends with."""
    definition = deploy_definition(upgrade(read_definition(prototxt).message))
    (shape,) = input_shapes(definition).values()
    if len(shape) != 4:
        raise PrototxtError(f"the net {definition.name!r} takes {shape}: images are (1, channels, height, width)")
    ends = open_ends(layers_of(definition))
    if len(ends) != 1:
        raise PrototxtError(f"the net {definition.name!r} ends with {', '.join(ends)}: one embedding is needed")
    return definition, tuple(shape), ends[0]


def last_layer(net: Net) -> Layer:
    """Return the layer that makes the features: the last one with arrays of its own."""
    return [layer for layer in net.layers if layer.params][-1]


def freeze(net: Net, patterns: Sequence[str]) -> int:
    """Keep layers as they are, and return how many parameters that concerns.

    Parameters
    ----------
    net : Net
    patterns : sequence of str
        Names of layers; ``conv1_*`` stands for many.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in net.layers):
            raise InvalidArgumentError(f"the net {net.name!r} has no layer {pattern!r} to freeze")
    held = 0
    for layer in net.layers:
        if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in patterns):
            for param in layer.params:
                param.lr_mult = 0.0
                held += 1
    net.refresh_needs()
    return held


def save(net: Net, prototxt: str | Path, caffemodel: str | Path) -> None:
    """Write a net for use."""
    definition = deploy_definition(net.definition)
    write_prototxt(definition, prototxt)
    write_caffemodel(deploy_weights(definition, to_caffemodel(net)), caffemodel)
