"""The layers a net may be made of, by Caffe's names."""

from __future__ import annotations

from spherecv.caffe.graph import Layer as Spec
from spherecv.errors import UnsupportedLayerError
from spherecv.train.layers.activation import Dropout, PReLU, ReLU, Sigmoid, TanH
from spherecv.train.layers.base import Context, Layer
from spherecv.train.layers.combine import Concat, Eltwise, Flatten, Silence, Split
from spherecv.train.layers.convolution import Convolution
from spherecv.train.layers.dense import InnerProduct
from spherecv.train.layers.loss import Accuracy, Softmax, SoftmaxWithLoss
from spherecv.train.layers.margin import MarginInnerProduct
from spherecv.train.layers.normalisation import BatchNorm, Scale
from spherecv.train.layers.pooling import Pooling

__all__ = ["LAYERS", "LOSS_LAYERS", "Context", "Layer", "make_layer"]

LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        Accuracy,
        BatchNorm,
        Concat,
        Convolution,
        Dropout,
        Eltwise,
        Flatten,
        InnerProduct,
        MarginInnerProduct,
        PReLU,
        Pooling,
        ReLU,
        Scale,
        Sigmoid,
        Silence,
        Softmax,
        SoftmaxWithLoss,
        Split,
        TanH,
    )
}
LOSS_LAYERS = ("SoftmaxWithLoss",)


def make_layer(spec: Spec, context: Context) -> Layer:
    """Return a new layer for its description.

    Raises
    ------
    UnsupportedLayerError
        For a type the trainer does not know.
    """
    kind = LAYERS.get(spec.type)
    if kind is None:
        known = ", ".join(sorted(LAYERS))
        raise UnsupportedLayerError(f"{spec}: the trainer does not know this type; it knows {known}")
    return kind(spec, context)
