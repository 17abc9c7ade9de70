"""Weights that a caffemodel lacks and a filler of the prototxt gives, as Caffe fills them before it copies."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from spherecv.caffe.graph import Array, Layer, Shape
from spherecv.caffe.spherecv_caffe_pb2 import FillerParameter

# Per type: the message of its settings, and the fillers of its blobs.
_FILLERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Bias": ("bias_param", ("filler",)),
    "Convolution": ("convolution_param", ("weight_filler", "bias_filler")),
    "ConvolutionDepthwise": ("convolution_param", ("weight_filler", "bias_filler")),
    "Deconvolution": ("convolution_param", ("weight_filler", "bias_filler")),
    "DepthwiseConvolution": ("convolution_param", ("weight_filler", "bias_filler")),
    "Embed": ("embed_param", ("weight_filler", "bias_filler")),
    "InnerProduct": ("inner_product_param", ("weight_filler", "bias_filler")),
    "Normalize": ("norm_param", ("scale_filler",)),
    "PReLU": ("prelu_param", ("filler",)),
    "Scale": ("scale_param", ("filler", "bias_filler")),
}
# What Caffe takes where the prototxt states none; else 0.
_DEFAULTS = {("Scale", "filler"): 1.0, ("PReLU", "filler"): 0.25, ("Normalize", "scale_filler"): 1.0}
_FILLED = ("constant", "bilinear")


def states_filler(layer: Layer) -> bool:
    """Tell whether the prototxt states how the layer's weights are filled, in a way that gives the same each time."""
    filler = _filler(layer, 0)
    return filler is not None and filler.type in _FILLED


def random_filler(layer: Layer) -> str | None:
    """Return the name of the filler that draws the layer's weights by chance, None if none does."""
    for index in range(2):
        filler = _filler(layer, index)
        if filler is not None and filler.type not in _FILLED:
            return str(filler.type)
    return None


def filled(layer: Layer, index: int, shape: Shape) -> Array:
    """Return a blob as Caffe fills it, for a layer without a filler of chance.

    Parameters
    ----------
    layer : Layer
    index : int
        Which of its blobs.
    shape : tuple of int
        Of the blob.

    Raises
    ------
    PrototxtError
        For a bilinear filler of a blob that is no square kernel, which Caffe refuses too.
    """
    filler = _filler(layer, index)
    if filler is None:
        names = _FILLERS.get(layer.type, ("", ()))[1]
        value = _DEFAULTS.get((layer.type, names[index]), 0.0) if index < len(names) else 0.0
        return np.full(shape, value, np.float32)
    if filler.type == "constant":
        return np.full(shape, filler.value, np.float32)
    if len(shape) != 4 or shape[2] != shape[3]:
        raise layer.mistake(f"its bilinear filler needs a square kernel, but blob {index} has the shape {shape}")
    return np.ascontiguousarray(np.broadcast_to(_bilinear(shape[3]), shape))


def _filler(layer: Layer, index: int) -> FillerParameter | None:
    """Return the filler that the prototxt states for a blob."""
    message, names = _FILLERS.get(layer.type, ("", ()))
    if index >= len(names) or not layer.param.HasField(message):
        return None
    settings = getattr(layer.param, message)
    return getattr(settings, names[index]) if settings.HasField(names[index]) else None


def _bilinear(size: int) -> Array:
    """Return one kernel of BVLC's BilinearFiller; forks differ for odd sizes and for 2."""
    half = math.ceil(size / 2)
    centre = np.float32((size - 1) / (2.0 * half))
    ramp = 1 - np.abs(np.arange(size, dtype=np.float32) / np.float32(half) - centre)
    return np.outer(ramp, ramp).astype(np.float32)
