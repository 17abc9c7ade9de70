"""From training to use: a deploy prototxt and a caffemodel without data, loss and other training layers."""

from __future__ import annotations

from pathlib import Path

from spherecv.caffe import load
from spherecv.caffe.graph import in_phase, layers_of, open_ends
from spherecv.caffe.layers import DATA, TRAINING_ONLY
from spherecv.caffe.reader import Source, read_caffemodel, read_definition
from spherecv.caffe.spherecv_caffe_pb2 import TEST, TRAIN, NetParameter
from spherecv.caffe.upgrade import upgrade
from spherecv.caffe.writer import serialize, write_caffemodel, write_prototxt
from spherecv.errors import InvalidArgumentError
from spherecv.train.net import input_shapes
from spherecv.train.params import Shape


def deploy_definition(definition: NetParameter, *, shape: Shape | None = None) -> NetParameter:
    """Return a net for use: names kept, data and loss layers gone, one image as input.

    Parameters
    ----------
    definition : NetParameter
        Upgraded; of training or of use.
    shape : tuple of int, optional
        Of the input, (1, channels, height, width); as declared by default.

    Raises
    ------
    InvalidArgumentError
        The definition declares no shape (an ImageData layer does not) and none was passed.
    """
    specs = in_phase(layers_of(definition), definition, TEST)
    specs = specs or in_phase(layers_of(definition), definition, TRAIN)
    data = [spec for spec in layers_of(definition) if spec.type in DATA]
    declared = input_shapes(definition, TEST)
    name = next(iter(declared), data[0].tops[0] if data else "data")
    size = shape or declared.get(name)
    if size is None:
        raise InvalidArgumentError(
            f"the net {definition.name!r} does not say how large its images are: pass the size, as in 112x96"
        )
    deployed = NetParameter(name=definition.name)
    entry = deployed.layer.add(name=name, type="Input", top=[name])
    entry.input_param.shape.add(dim=[1, *size[1:]])
    made = {name}
    for spec in specs:
        if spec.type in DATA or spec.type in TRAINING_ONLY or spec.type == "Input":
            continue
        if not set(spec.bottoms) <= made:
            continue  # it stood on labels, or on what a loss made
        kept = deployed.layer.add()
        kept.CopyFrom(spec.param)
        kept.ClearField("loss_weight")
        made.update(spec.tops)
    if len(deployed.layer) == 1:
        raise InvalidArgumentError(f"the net {definition.name!r} has no layers to deploy")
    return deployed


def deploy_weights(definition: NetParameter, weights: NetParameter) -> NetParameter:
    """Return those layers of a caffemodel that a deployed net has."""
    names = {layer.name for layer in definition.layer}
    kept = NetParameter(name=definition.name)
    for layer in weights.layer:
        if layer.name in names:
            kept.layer.add().CopyFrom(layer)
    return kept


def export(
    prototxt: Source,
    caffemodel: Source,
    out_prototxt: str | Path,
    out_caffemodel: str | Path,
    *,
    shape: Shape | None = None,
) -> tuple[str, ...]:
    """Write a trained net for use, and return the names of its outputs.

    Parameters
    ----------
    prototxt, caffemodel : path or bytes
        Of training; the weights of a snapshot.
    out_prototxt, out_caffemodel : path
    shape : tuple of int, optional
        Of the input, where the prototxt does not tell it.

    Raises
    ------
    CaffeModelError
        The weights do not belong to the prototxt. Nothing is written then.
    """
    definition = deploy_definition(upgrade(read_definition(prototxt).message), shape=shape)
    weights = deploy_weights(definition, upgrade(read_caffemodel(caffemodel)))
    text = str(definition).encode()
    load(text, serialize(weights))  # that it loads is the point of exporting: checked before anything is written
    write_prototxt(definition, out_prototxt)
    write_caffemodel(weights, out_caffemodel)
    return open_ends(layers_of(definition))
