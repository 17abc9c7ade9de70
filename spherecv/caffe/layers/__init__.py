"""The types of layers that the converter knows, one class each, grouped by what they do."""

from __future__ import annotations

from spherecv.caffe.graph import Layer
from spherecv.caffe.layers.activation import (
    BNLL,
    ELU,
    AbsVal,
    Clip,
    Dropout,
    Exp,
    HardSigmoid,
    HardSwish,
    Log,
    Mish,
    Power,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    Swish,
    TanH,
    Threshold,
)
from spherecv.caffe.layers.arrangement import Concat, Crop, Eltwise, Flatten, Permute, Reshape, Slice, Split
from spherecv.caffe.layers.base import LayerKind, NumpyLayer, SizeNeededError, Value
from spherecv.caffe.layers.channels import Axpy, Flip, Im2col, PixelShuffle, Reorg, ShuffleChannel, Tile, Unsqueeze
from spherecv.caffe.layers.convolution import Convolution, ConvolutionDepthwise, Deconvolution
from spherecv.caffe.layers.dense import InnerProduct
from spherecv.caffe.layers.detection import DetectionOutput, PriorBox, PriorBoxClustered
from spherecv.caffe.layers.normalization import BN, LRN, MVN, BatchNorm, Bias, Normalize, Scale, Softmax
from spherecv.caffe.layers.pooling import SPP, Pooling
from spherecv.caffe.layers.recurrent import LSTM, RNN, LSTMUnit
from spherecv.caffe.layers.reduction import ArgMax, BatchReindex, DummyData, Embed, Filter, Parameter, Reduction
from spherecv.caffe.layers.regions import Proposal, PSROIPooling, PythonLayer, ROIPooling
from spherecv.caffe.layers.resize import BilinearInterpolate, Interp, MaxUnPool, Pad, Resize, Upsample
from spherecv.errors import UnsupportedLayerError

__all__ = [
    "BUILT_IN",
    "DATA",
    "KINDS",
    "TRAINING_ONLY",
    "LayerKind",
    "NumpyLayer",
    "SizeNeededError",
    "Value",
    "is_known",
    "kind_of",
    "unknown_type",
]

KINDS: dict[str, LayerKind] = {
    "AbsVal": AbsVal(),
    "ArgMax": ArgMax(),
    "Axpy": Axpy(),
    "BN": BN(),
    "BNLL": BNLL(),
    "BatchNorm": BatchNorm(),
    "BatchReindex": BatchReindex(),
    "Bias": Bias(),
    "BilinearInterpolate": BilinearInterpolate(),
    "Clip": Clip(),
    "Concat": Concat(),
    "Convolution": Convolution(),
    "ConvolutionDepthwise": ConvolutionDepthwise(),
    "Crop": Crop(),
    "Deconvolution": Deconvolution(),
    "DepthwiseConvolution": Convolution(),
    "DetectionOutput": DetectionOutput(),
    "Dropout": Dropout(),
    "DummyData": DummyData(),
    "ELU": ELU(),
    "Eltwise": Eltwise(),
    "Embed": Embed(),
    "Exp": Exp(),
    "Filter": Filter(),
    "Flatten": Flatten(),
    "Flip": Flip(),
    "HardSigmoid": HardSigmoid(),
    "HardSwish": HardSwish(),
    "Im2col": Im2col(),
    "InnerProduct": InnerProduct(),
    "Interp": Interp(),
    "LRN": LRN(),
    "LSTM": LSTM(),
    "LSTMUnit": LSTMUnit(),
    "Log": Log(),
    "MVN": MVN(),
    "MaxUnPool": MaxUnPool(),
    "Mish": Mish(),
    "Normalize": Normalize(),
    "PReLU": PReLU(),
    "PSROIPooling": PSROIPooling(),
    "Pad": Pad(),
    "Parameter": Parameter(),
    "Permute": Permute(),
    "PixelShuffle": PixelShuffle(),
    "Pooling": Pooling(),
    "Power": Power(),
    "PriorBox": PriorBox(),
    "PriorBoxClustered": PriorBoxClustered(),
    "Proposal": Proposal(),
    "Python": PythonLayer(),
    "RNN": RNN(),
    "ROIPooling": ROIPooling(),
    "ReLU": ReLU(),
    "ReLU6": ReLU6(),
    "Reduction": Reduction(),
    "Reorg": Reorg(),
    "Reshape": Reshape(),
    "Resize": Resize(),
    "SPP": SPP(),
    "Scale": Scale(),
    "ShuffleChannel": ShuffleChannel(),
    "Sigmoid": Sigmoid(),
    "Slice": Slice(),
    "Softmax": Softmax(),
    "Split": Split(),
    "Swish": Swish(),
    "TanH": TanH(),
    "Threshold": Threshold(),
    "Tile": Tile(),
    "Unsqueeze": Unsqueeze(),
    "Upsample": Upsample(),
}

# Without what `spherecv.caffe.register` adds to KINDS.
BUILT_IN = dict(KINDS)

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
        "SmoothL1Loss",
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
    kind = KINDS.get(layer.kind_name) or KINDS.get(layer.type)
    if kind is None:
        raise unknown_type(layer)
    return kind


def is_known(layer_type: str) -> bool:
    """Tell whether a type of layer is supported, or dropped in deployment."""
    return layer_type in KINDS or layer_type in DATA or layer_type in TRAINING_ONLY or layer_type == "Input"


def unknown_type(layer: Layer) -> UnsupportedLayerError:
    """Return the error for a layer of a type that is not known."""
    supported = ", ".join(sorted({*KINDS, "Input"}))
    dropped = ", ".join(sorted(DATA | TRAINING_ONLY))
    return layer.unsupported(
        f"unknown type; supported are {supported}; dropped in deployment are {dropped}; spherecv.caffe.register adds "
        "types of one's own"
    )
