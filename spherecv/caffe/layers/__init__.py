"""The types of layers that the converter knows, one class each, grouped by what they do."""

from __future__ import annotations

from spherecv.caffe.graph import Layer
from spherecv.caffe.layers.activation import Dropout, Power, PReLU, ReLU, Sigmoid, TanH
from spherecv.caffe.layers.arrangement import Concat, Crop, Eltwise, Flatten, Permute, Reshape, Slice, Split
from spherecv.caffe.layers.base import LayerKind, SizeNeededError, Value
from spherecv.caffe.layers.convolution import Convolution, Deconvolution
from spherecv.caffe.layers.dense import InnerProduct
from spherecv.caffe.layers.detection import DetectionOutput, PriorBox, PriorBoxClustered
from spherecv.caffe.layers.normalization import LRN, BatchNorm, Bias, Normalize, Scale, Softmax
from spherecv.caffe.layers.pooling import Pooling
from spherecv.errors import UnsupportedLayerError

__all__ = [
    "DATA",
    "KINDS",
    "TRAINING_ONLY",
    "LayerKind",
    "SizeNeededError",
    "Value",
    "is_known",
    "kind_of",
    "unknown_type",
]

KINDS: dict[str, LayerKind] = {
    "BatchNorm": BatchNorm(),
    "Bias": Bias(),
    "Concat": Concat(),
    "Convolution": Convolution(),
    "Crop": Crop(),
    "Deconvolution": Deconvolution(),
    "DetectionOutput": DetectionOutput(),
    "Dropout": Dropout(),
    "Eltwise": Eltwise(),
    "Flatten": Flatten(),
    "InnerProduct": InnerProduct(),
    "LRN": LRN(),
    "Normalize": Normalize(),
    "PReLU": PReLU(),
    "Permute": Permute(),
    "Pooling": Pooling(),
    "Power": Power(),
    "PriorBox": PriorBox(),
    "PriorBoxClustered": PriorBoxClustered(),
    "ReLU": ReLU(),
    "Reshape": Reshape(),
    "Scale": Scale(),
    "Sigmoid": Sigmoid(),
    "Slice": Slice(),
    "Softmax": Softmax(),
    "Split": Split(),
    "TanH": TanH(),
}

# Their first top becomes an input of the deployed net.
DATA = frozenset({"Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData"})

# Layers that only training or testing needs: deployment drops them.
TRAINING_ONLY = frozenset(
    {
        "Accuracy",
        "ContrastiveLoss",
        "EuclideanLoss",
        "HDF5Output",
        "HingeLoss",
        "InfogainLoss",
        "MarginInnerProduct",
        "MultinomialLogisticLoss",
        "SigmoidCrossEntropyLoss",
        "Silence",
        "SoftmaxWithLoss",
    }
)


def kind_of(layer: Layer) -> LayerKind:
    """Return what is known of a layer's type.

    Raises
    ------
    UnsupportedLayerError
        For an unknown type; the message lists the known ones.
    """
    if layer.type not in KINDS:
        raise unknown_type(layer)
    return KINDS[layer.type]


def is_known(layer_type: str) -> bool:
    """Tell whether a type of layer is supported, or dropped in deployment."""
    return layer_type in KINDS or layer_type in DATA or layer_type in TRAINING_ONLY or layer_type == "Input"


def unknown_type(layer: Layer) -> UnsupportedLayerError:
    """Return the error for a layer of a type that is not known."""
    supported = ", ".join(sorted({*KINDS, "Input"}))
    dropped = ", ".join(sorted(DATA | TRAINING_ONLY))
    return layer.unsupported(f"unknown type; supported are {supported}; dropped in deployment are {dropped}")
