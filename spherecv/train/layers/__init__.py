"""The layers a net may be made of, by Caffe's names."""

from __future__ import annotations

from google.protobuf.message import Message

from spherecv.caffe.graph import Layer as Spec
from spherecv.errors import UnsupportedLayerError
from spherecv.train.layers import elementwise
from spherecv.train.layers.activation import Dropout, PReLU, ReLU, Sigmoid, TanH
from spherecv.train.layers.arrangement import Concat, Crop, Flatten, Permute, Reshape, Slice, Tile
from spherecv.train.layers.base import Context, Layer
from spherecv.train.layers.combine import Eltwise, Silence, Split
from spherecv.train.layers.convolution import Convolution, Deconvolution, Im2col
from spherecv.train.layers.dense import Embed, InnerProduct
from spherecv.train.layers.loss import (
    Accuracy,
    HingeLoss,
    InfogainLoss,
    MultinomialLogisticLoss,
    Softmax,
    SoftmaxWithLoss,
)
from spherecv.train.layers.margin import MarginInnerProduct
from spherecv.train.layers.normalisation import BatchNorm, Bias, Scale
from spherecv.train.layers.pooling import SPP, Pooling
from spherecv.train.layers.recurrent import LSTM, RNN, LSTMUnit
from spherecv.train.layers.regression import ContrastiveLoss, EuclideanLoss, SigmoidCrossEntropyLoss, SmoothL1Loss
from spherecv.train.layers.response import LRN, MVN, Normalize
from spherecv.train.layers.selection import ArgMax, BatchReindex, Filter, Reduction
from spherecv.train.layers.source import DummyData, Parameter

__all__ = ["LAYERS", "Context", "Layer", "make_layer"]

LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        LRN,
        LSTM,
        MVN,
        RNN,
        SPP,
        Accuracy,
        ArgMax,
        BatchNorm,
        BatchReindex,
        Bias,
        Concat,
        ContrastiveLoss,
        Convolution,
        Crop,
        Deconvolution,
        Dropout,
        DummyData,
        Eltwise,
        Embed,
        EuclideanLoss,
        Filter,
        Flatten,
        HingeLoss,
        Im2col,
        InfogainLoss,
        InnerProduct,
        LSTMUnit,
        MarginInnerProduct,
        MultinomialLogisticLoss,
        Normalize,
        PReLU,
        Parameter,
        Permute,
        Pooling,
        ReLU,
        Reduction,
        Reshape,
        Scale,
        Sigmoid,
        SigmoidCrossEntropyLoss,
        Silence,
        Slice,
        SmoothL1Loss,
        Softmax,
        SoftmaxWithLoss,
        Split,
        TanH,
        Tile,
        elementwise.AbsVal,
        elementwise.BNLL,
        elementwise.Clip,
        elementwise.ELU,
        elementwise.Exp,
        elementwise.Log,
        elementwise.Power,
        elementwise.ReLU6,
        elementwise.Swish,
        elementwise.Threshold,
    )
}


_OF_FORKS = 20_000  # from this number on, settings that forks added to a type of BVLC Caffe's
_KNOWN_OF_FORKS = ("ceil_mode", "engine")


def make_layer(spec: Spec, context: Context) -> Layer:
    """Return a new layer for its description.

    Raises
    ------
    UnsupportedLayerError
        For a type, or a setting, that the trainer does not know.
    PrototxtError
        For another number of bottoms or tops than the type has.
    """
    kind = LAYERS.get(spec.type)
    if kind is None:
        known = ", ".join(sorted(LAYERS))
        raise UnsupportedLayerError(f"{spec}: the trainer does not know this type; it knows {known}")
    for settings, value in spec.param.ListFields():
        for field, stated in value.ListFields() if isinstance(value, Message) else ():
            if field.number >= _OF_FORKS and field.name not in _KNOWN_OF_FORKS and stated != field.default_value:
                raise spec.unsupported(f"{settings.name}.{field.name} is a fork's: the trainer does not know it")
    return kind(spec, context)
