"""The legacy forms of layers into today's (`layer { type: "Convolution" }`).

They are V1 (`layers { type: CONVOLUTION }`) and V0 (`layers { layer { type: "conv" } }`), by the rules of Caffe's
upgrade_proto.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter, NetParameter, V0LayerParameter, V1LayerParameter
from spherecv.caffe.text import as_text
from spherecv.errors import ModelFileError, PrototxtError

# Names that are not the enum's words put together (BVLC Caffe, upgrade_proto.cpp).
_IRREGULAR = {
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
_TEXTS = ("name", "bottom", "top")  # in a binary file of any encoding
_RENAMED = {"param", "blob_share_mode", "blobs_lr", "weight_decay", "type", "layer"}


class _V0Type(NamedTuple):
    """What a V0 type is called today, the message of its settings, and their names in V0 and today."""

    name: str
    message: str = ""
    settings: Mapping[str, str] = {}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_DENSE = {**_same("num_output", "weight_filler", "bias_filler"), "biasterm": "bias_term"}
_WINDOW = {**_same("pad", "stride"), "kernelsize": "kernel_size"}
_SOURCE = {"source": "source", "batchsize": "batch_size"}
_V0_TYPES = {
    "accuracy": _V0Type("Accuracy"),
    "bnll": _V0Type("BNLL"),
    "concat": _V0Type("Concat", "concat_param", _same("concat_dim")),
    "conv": _V0Type("Convolution", "convolution_param", {**_DENSE, **_WINDOW, "group": "group"}),
    "data": _V0Type("Data", "data_param", {**_SOURCE, "rand_skip": "rand_skip"}),
    "dropout": _V0Type("Dropout", "dropout_param", _same("dropout_ratio")),
    "euclidean_loss": _V0Type("EuclideanLoss"),
    "flatten": _V0Type("Flatten"),
    "hdf5_data": _V0Type("HDF5Data", "hdf5_data_param", _SOURCE),
    "hdf5_output": _V0Type("HDF5Output"),
    "im2col": _V0Type("Im2col"),
    "images": _V0Type(
        "ImageData",
        "image_data_param",
        {**_SOURCE, **_same("rand_skip", "new_height", "new_width"), "shuffle_images": "shuffle"},
    ),
    "infogain_loss": _V0Type("InfogainLoss", "infogain_loss_param", _same("source")),
    "innerproduct": _V0Type("InnerProduct", "inner_product_param", _DENSE),
    "lrn": _V0Type("LRN", "lrn_param", _same("local_size", "alpha", "beta", "k")),
    "multinomial_logistic_loss": _V0Type("MultinomialLogisticLoss"),
    "pool": _V0Type("Pooling", "pooling_param", {**_WINDOW, "pool": "pool"}),
    "relu": _V0Type("ReLU"),
    "sigmoid": _V0Type("Sigmoid"),
    "softmax": _V0Type("Softmax"),
    "softmax_loss": _V0Type("SoftmaxWithLoss"),
    "split": _V0Type("Split"),
    "tanh": _V0Type("TanH"),
    "window_data": _V0Type("WindowData", "window_data_param", _SOURCE),
}
_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_PADDED = ("conv", "pool")


def upgrade(message: NetParameter) -> NetParameter:
    """Return the net with every legacy `layers` entry turned into `layer`.

    Parameters
    ----------
    message : NetParameter
        Left as it is.

    Returns
    -------
    NetParameter
        The message itself where there is nothing to upgrade, else a new one.

    Raises
    ------
    ModelFileError
        For a net that has both forms, which Caffe refuses too.
    """
    if not message.layers:
        return message
    if message.layer:
        raise ModelFileError("the net has both `layer` and legacy `layers` entries: keep one of the two forms")
    modern = NetParameter()
    modern.CopyFrom(message)
    modern.ClearField("layers")
    try:
        if any(legacy.HasField("layer") for legacy in message.layers):
            for legacy in _without_padding(message):
                _upgrade_first(legacy, modern.layer.add())
        else:
            for legacy in message.layers:
                _upgrade_layer(legacy, modern.layer.add())
    except (ValueError, TypeError):  # strings that are not text: protobuf reads them and will not write them
        raise ModelFileError("a legacy layer has a name that is not UTF-8 text: the file is damaged") from None
    return modern


def type_name(legacy_type: int) -> str:
    """Return today's name of a legacy layer type: 4 -> ``"Convolution"``."""
    word = V1LayerParameter.LayerType.Name(legacy_type)
    return _IRREGULAR.get(word) or "".join(part.capitalize() for part in word.split("_"))


def _without_padding(message: NetParameter) -> Sequence[V1LayerParameter]:
    """Return the layers of a V0 net, with the pad of every padding layer in the layer that reads it."""
    kept = []
    padding: dict[str, V1LayerParameter] = {}
    for wrapped in message.layers:
        layer = V1LayerParameter()
        layer.CopyFrom(wrapped)
        for place, bottom in enumerate(wrapped.bottom):
            if bottom in padding:
                if layer.layer.type not in _PADDED:
                    raise PrototxtError(f"layer {layer.layer.name!r} reads a padding layer, but is no conv or pool")
                layer.layer.pad = padding[bottom].layer.pad
                layer.bottom[place] = padding[bottom].bottom[0]
        for top in wrapped.top:
            padding.pop(top, None)
        if wrapped.layer.type != "padding":
            kept.append(layer)
        elif len(wrapped.bottom) != 1 or len(wrapped.top) != 1:
            raise PrototxtError(f"the padding layer {wrapped.layer.name!r} must have one bottom and one top")
        else:
            padding[wrapped.top[0]] = layer
    return kept


def _upgrade_first(legacy: V1LayerParameter, modern: LayerParameter) -> None:
    """Turn a V0 layer into today's; settings that its type does not have count for nothing, as in Caffe."""
    old = legacy.layer
    modern.bottom.extend(map(as_text, legacy.bottom))
    modern.top.extend(map(as_text, legacy.top))
    if old.HasField("name"):
        modern.name = as_text(old.name)
    kind = _V0_TYPES.get(as_text(old.type))
    if kind is None:
        name, word = as_text(old.name)[:80], as_text(old.type)[:80]
        raise PrototxtError(f"layer {name!r}: Caffe's V0 format has no layer type {word!r}")
    modern.type = kind.name
    for settings, message in ((kind.settings, kind.message), (_V0_TRANSFORM, "transform_param")):
        for name, today in settings.items():
            _carry(old, name, getattr(modern, message), today)
    if old.HasField("hdf5_output_param"):
        modern.hdf5_output_param.CopyFrom(old.hdf5_output_param)
    modern.blobs.extend(old.blobs)
    for index in range(max(len(old.blobs_lr), len(old.weight_decay))):
        spec = modern.param.add()
        if index < len(old.blobs_lr):
            spec.lr_mult = old.blobs_lr[index]
        if index < len(old.weight_decay):
            spec.decay_mult = old.weight_decay[index]


def _carry(old: V0LayerParameter, name: str, settings: Any, today: str) -> None:
    """Copy one setting, if it is given."""
    if not old.HasField(name):
        return
    value, target = getattr(old, name), getattr(settings, today)
    if hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    elif hasattr(target, "append"):
        target.append(value)
    else:
        setattr(settings, today, value)


def _upgrade_layer(legacy: V1LayerParameter, modern: LayerParameter) -> None:
    for field, value in legacy.ListFields():
        if field.name in _RENAMED:
            continue
        target = getattr(modern, field.name)
        if field.name in _TEXTS:
            value = [as_text(word) for word in value] if hasattr(target, "MergeFrom") else as_text(value)
        if hasattr(target, "MergeFrom"):
            target.MergeFrom(value)
        else:
            setattr(modern, field.name, value)
    if legacy.type != V1LayerParameter.NONE:
        modern.type = type_name(legacy.type)
    specs = max(len(legacy.param), len(legacy.blob_share_mode), len(legacy.blobs_lr), len(legacy.weight_decay))
    for index in range(specs):
        spec = modern.param.add()
        if index < len(legacy.param):
            spec.name = as_text(legacy.param[index])
        if index < len(legacy.blob_share_mode):
            spec.share_mode = legacy.blob_share_mode[index]  # the two enums number their modes alike
        if index < len(legacy.blobs_lr):
            spec.lr_mult = legacy.blobs_lr[index]
        if index < len(legacy.weight_decay):
            spec.decay_mult = legacy.weight_decay[index]
    _move_transform(modern)


def _move_transform(modern: LayerParameter) -> None:
    """Move what a data layer's own settings say of the transformation to where it is read.

    Caffe does so in this form of layers alone: in today's, those fields have no effect.
    """
    for name in ("data_param", "image_data_param", "window_data_param"):
        if not modern.HasField(name):
            continue
        own = getattr(modern, name)
        for field in ("scale", "mean_file", "crop_size", "mirror"):
            if own.HasField(field):
                setattr(modern.transform_param, field, getattr(own, field))
                own.ClearField(field)
