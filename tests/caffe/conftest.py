"""Nets made of text, weights made of seeds, and every runtime that a converted net must agree in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from spherecv.caffe import CaffeNet, load, write_blob
from spherecv.caffe.layers import kind_of
from spherecv.caffe.shapes import infer
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
Outputs = dict[str, Array]


def numbers_of(shape: Sequence[int], seed: int = 0) -> npt.NDArray[np.float32]:
    """Numbers in [-1, 1), the same in every version of NumPy: a hash (murmur3's last step) of their places."""
    bits = np.arange(math.prod(shape), dtype=np.uint32) + np.uint32(seed * 0x9E3779B1 & 0xFFFFFFFF)
    bits ^= bits >> np.uint32(16)
    bits *= np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    bits *= np.uint32(0xC2B2AE35)
    bits ^= bits >> np.uint32(16)
    values = (bits.view(np.int32) >> np.int32(8)).astype(np.float32) / np.float32(1 << 23)
    return values.reshape(tuple(shape))


def weights_of(net: CaffeNet, seed: int = 0) -> NetParameter:
    """Weights for every layer of a net, scaled so that signals keep about their size."""
    weights = NetParameter(name=net.name)
    for layer, (bottoms, _) in zip(net.layers, infer(net.layers, net.inputs), strict=True):
        shapes = kind_of(layer).blob_shapes(layer, bottoms)
        if not shapes:
            continue
        stored = weights.layer.add(name=layer.name, type=layer.type)
        for index, shape in enumerate(shapes):
            seed += 1
            values = numbers_of(shape, seed)
            if layer.type in ("BatchNorm", "PReLU") or (layer.type == "Scale" and index == 0):
                values = np.abs(values) / 2 + np.float32(0.1)
            elif len(shape) > 1:
                values *= np.float32(math.sqrt(3 / math.prod(shape[1:])))
            write_blob(values, stored.blobs.add())
    return weights


@pytest.fixture(scope="session")
def numbers() -> Callable[..., npt.NDArray[np.float32]]:
    """`numbers(shape, seed)`: see `numbers_of`."""
    return numbers_of


@pytest.fixture(scope="session")
def seeded_weights() -> Callable[..., NetParameter]:
    """`seeded_weights(net, seed)`: see `weights_of`."""
    return weights_of


@pytest.fixture(scope="session")
def convert(seeded_weights: Callable[..., NetParameter]) -> Callable[..., tuple[CaffeNet, bytes]]:
    """`convert(prototxt, blobs)`: a net with given (or seeded) weights, and its ONNX."""

    def make(
        prototxt: str, blobs: Mapping[str, Sequence[Array]] | None = None, *, fold: bool = True
    ) -> tuple[CaffeNet, bytes]:
        if blobs is None:
            weights = seeded_weights(load(prototxt.encode()))
        else:
            weights = NetParameter()
            for name, arrays in blobs.items():
                stored = weights.layer.add(name=name)
                for array in arrays:
                    write_blob(array, stored.blobs.add())
        caffemodel = weights.SerializeToString() if weights.layer else None
        net = load(prototxt.encode(), caffemodel)
        return net, net.to_onnx(fold=fold)

    return make


@pytest.fixture(scope="session")
def run_onnxruntime() -> Callable[[bytes, Feeds], Outputs]:
    """Run a model in ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3

    def run(model: bytes, feeds: Feeds) -> Outputs:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        read = {value.name: feeds[value.name] for value in session.get_inputs()}
        return dict(zip(names, session.run(names, read), strict=True))

    return run


def opencv_engines() -> list[str]:
    """The engines of the OpenCV that is installed: one in 4.x, two in 5.x."""
    return ["classic", "new"] if hasattr(cv2.dnn, "ENGINE_NEW") and cv2.__version__[0] != "4" else ["classic"]


@pytest.fixture(scope="session")
def run_opencv() -> Callable[..., Iterator[tuple[str, Outputs]]]:
    """`run_opencv(model, feeds, outputs)`: yield each engine's name and results, for each of a list of feeds."""

    def run(
        model: bytes, feeds: Sequence[Feeds], outputs: Sequence[str], *, winograd: bool = False
    ) -> Iterator[tuple[str, list[Outputs]]]:
        import onnx

        buffer = np.frombuffer(model, np.uint8)
        inputs = [value.name for value in onnx.load_from_string(model).graph.input]
        for engine in opencv_engines():
            if cv2.__version__[0] == "4":
                net = cv2.dnn.readNetFromONNX(buffer)
            else:
                number = cv2.dnn.ENGINE_NEW if engine == "new" else cv2.dnn.ENGINE_CLASSIC
                net = cv2.dnn.readNetFromONNX(buffer, engine=number)
            net.enableWinograd(winograd)
            results = []
            for feed in feeds:
                for name in inputs:
                    net.setInput(feed[name], name)
                results.append({name: np.array(r) for name, r in zip(outputs, net.forward(outputs), strict=True)})
            yield engine, results

    return run


@pytest.fixture(scope="session")
def deviation() -> Callable[[Array, Array], float]:
    """`deviation(a, b)`: max|a - b| / max|b|, the measure of parity; infinite for other shapes."""

    def measure(ours: Array, theirs: Array) -> float:
        if ours.shape != theirs.shape:
            return math.inf
        scale = float(np.abs(theirs).max()) or 1.0
        return float(np.abs(ours.astype(np.float64) - theirs).max()) / scale

    return measure
