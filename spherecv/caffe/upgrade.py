"""The legacy form of layers (V1, `layers { type: CONVOLUTION }`) into today's (`layer { type: "Convolution" }`)."""

from __future__ import annotations

from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter, NetParameter, V1LayerParameter
from spherecv.errors import ModelFileError

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
_RENAMED = {"param", "blob_share_mode", "blobs_lr", "weight_decay", "type", "layer"}


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
        for legacy in message.layers:
            _upgrade_layer(legacy, modern.layer.add())
    except (ValueError, TypeError):  # strings that are not text: protobuf reads them and will not write them
        raise ModelFileError("a legacy layer has a name that is not UTF-8 text: the file is damaged") from None
    return modern


def type_name(legacy_type: int) -> str:
    """Return today's name of a legacy layer type: 4 -> ``"Convolution"``."""
    word = V1LayerParameter.LayerType.Name(legacy_type)
    return _IRREGULAR.get(word) or "".join(part.capitalize() for part in word.split("_"))


def _upgrade_layer(legacy: V1LayerParameter, modern: LayerParameter) -> None:
    for field, value in legacy.ListFields():
        if field.name in _RENAMED:
            continue
        target = getattr(modern, field.name)
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
            spec.name = legacy.param[index]
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
