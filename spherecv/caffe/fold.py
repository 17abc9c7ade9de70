"""Folding BatchNorm, BN, Scale and Bias into the layer before them, where nothing else sees what lies between.

All four are y = scale x + shift for each channel, and so is their chain; a Convolution, Deconvolution or InnerProduct
that feeds it takes scale and shift into its weights. Done in float64: only rounding tells the two nets apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spherecv.caffe.graph import Layer
from spherecv.caffe.layers.normalization import BN, BatchNorm
from spherecv.caffe.shapes import LayerShapes
from spherecv.caffe.spherecv_caffe_pb2 import LayerParameter

Vector = npt.NDArray[np.float64]

_CONVOLUTIONS = ("Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution")
_NORMALISING: dict[str, BatchNorm | BN] = {"BatchNorm": BatchNorm(), "BN": BN()}


class Affine(NamedTuple):
    """y = scale x + shift, per channel."""

    scale: Vector
    shift: Vector


def fold(layers: Sequence[Layer], shapes: Sequence[LayerShapes], kept: Collection[str]) -> list[Layer]:
    """Return equivalent layers, fewer of them.

    Parameters
    ----------
    layers : sequence of Layer
        In single assignment (see `single_assignment`), with weights.
    shapes : sequence of LayerShapes
        One per layer.
    kept : collection of str
        Blobs that must stay available: the net's outputs.
    """
    readers = Counter(bottom for layer in layers for bottom in layer.bottoms)
    folded: list[Layer] = []
    maker: dict[str, int] = {}
    for layer, (bottoms, _) in zip(layers, shapes, strict=True):
        affine = _affine(layer, len(bottoms[0])) if bottoms else None
        before = maker.get(layer.bottoms[0]) if bottoms else None
        joined = None
        if affine is not None and before is not None:
            source = folded[before]
            if len(source.tops) == 1 and readers[layer.bottoms[0]] == 1 and layer.bottoms[0] not in kept:
                joined = _join(source, affine, len(bottoms[0]))
        if joined is not None and before is not None:
            folded[before] = replace(joined, tops=layer.tops)
            maker[layer.tops[0]] = before
            continue
        if affine is not None and layer.type in _NORMALISING:
            layer = _as_scale(layer, affine)
        maker.update(dict.fromkeys(layer.tops, len(folded)))
        folded.append(layer)
    return folded


def _affine(layer: Layer, rank: int) -> Affine | None:
    """Return what a layer does to each channel, if that is all it does."""
    if len(layer.bottoms) != 1 or not layer.blobs or rank < 2:
        return None
    if layer.type in _NORMALISING:
        return Affine(*_NORMALISING[layer.type].affine(layer))
    if layer.type not in ("Scale", "Bias"):
        return None
    param = layer.param.scale_param if layer.type == "Scale" else layer.param.bias_param
    if param.axis not in (1, 1 - rank) or layer.blobs[0].ndim != 1:
        return None
    blobs = [blob.astype(np.float64) for blob in layer.blobs]
    if layer.type == "Bias":
        return Affine(np.ones_like(blobs[0]), blobs[0])
    return Affine(blobs[0], blobs[1] if len(blobs) == 2 else np.zeros_like(blobs[0]))


def _join(source: Layer, affine: Affine, rank: int) -> Layer | None:
    """Return the source, whose top has `rank` axes, with the affine function in its weights; None if that cannot be."""
    if source.type in _CONVOLUTIONS:
        param = source.param.convolution_param
    elif source.type == "InnerProduct" and source.param.inner_product_param.axis == 1:
        param = source.param.inner_product_param
        if param.normalize:  # of the weights as they are
            return None
    elif source.type == "Scale" and (first := _affine(source, rank)) is not None:
        return _as_scale(source, Affine(first.scale * affine.scale, first.shift * affine.scale + affine.shift))
    else:
        return None
    weight = source.blobs[0].astype(np.float64)
    bias = source.blobs[1].astype(np.float64) if param.bias_term else 0.0
    if source.type == "Deconvolution":
        groups = param.group
        split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        scaled = (split * affine.scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))).reshape(weight.shape)
    elif source.type == "InnerProduct" and param.transpose:
        scaled = weight * affine.scale
    else:
        scaled = weight * affine.scale.reshape(-1, *(1,) * (weight.ndim - 1))
    settings = LayerParameter()
    settings.CopyFrom(source.param)
    target = settings.inner_product_param if source.type == "InnerProduct" else settings.convolution_param
    target.bias_term = True
    return _with_blobs(source, settings, scaled, bias * affine.scale + affine.shift)


def _as_scale(layer: Layer, affine: Affine) -> Layer:
    settings = LayerParameter(name=layer.name, type="Scale")
    settings.scale_param.bias_term = True
    return _with_blobs(replace(layer, type="Scale"), settings, affine.scale, affine.shift)


def _with_blobs(layer: Layer, settings: LayerParameter, *blobs: Vector) -> Layer:
    return replace(layer, param=settings, blobs=tuple(blob.astype(np.float32) for blob in blobs))
