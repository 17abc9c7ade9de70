"""Caffe models without Caffe: read and write `.prototxt` and `.caffemodel`, and convert them to ONNX.

The names below are imported when first used, so that an ONNX graph that is already in the cache (`onnx_of`) costs
neither the import of protobuf nor that of onnx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherecv.caffe.blobs import read_blob, write_blob
    from spherecv.caffe.builder import NetBuilder
    from spherecv.caffe.cache import CONVERTER_VERSION, cached_onnx
    from spherecv.caffe.conversion import onnx_of
    from spherecv.caffe.graph import Layer
    from spherecv.caffe.layers import LayerKind, NumpyLayer, Value
    from spherecv.caffe.net import CaffeNet, load
    from spherecv.caffe.reader import read_caffemodel, read_message, read_prototxt
    from spherecv.caffe.registry import register, unregister
    from spherecv.caffe.tail import Step
    from spherecv.caffe.writer import write_caffemodel, write_prototxt

__all__ = [
    "CONVERTER_VERSION",
    "CaffeNet",
    "Layer",
    "LayerKind",
    "NetBuilder",
    "NumpyLayer",
    "Step",
    "Value",
    "cached_onnx",
    "load",
    "onnx_of",
    "read_blob",
    "read_caffemodel",
    "read_message",
    "read_prototxt",
    "register",
    "unregister",
    "write_blob",
    "write_caffemodel",
    "write_prototxt",
]

_HOME = {
    "CONVERTER_VERSION": "cache",
    "CaffeNet": "net",
    "Layer": "graph",
    "LayerKind": "layers",
    "NetBuilder": "builder",
    "NumpyLayer": "layers",
    "Step": "tail",
    "Value": "layers",
    "cached_onnx": "cache",
    "load": "net",
    "onnx_of": "conversion",
    "read_blob": "blobs",
    "read_caffemodel": "reader",
    "read_message": "reader",
    "read_prototxt": "reader",
    "register": "registry",
    "unregister": "registry",
    "write_blob": "blobs",
    "write_caffemodel": "writer",
    "write_prototxt": "writer",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
