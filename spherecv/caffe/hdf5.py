"""Caffe's other form of weights, HDF5 (`.caffemodel.h5`): in `data` a group per layer, in it a set per blob."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from spherecv.caffe.blobs import write_blob
from spherecv.caffe.spherecv_caffe_pb2 import NetParameter
from spherecv.caffe.text import as_text
from spherecv.errors import CaffeModelError, MissingDependencyError

if TYPE_CHECKING:
    import h5py

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_AXES = 32  # kMaxBlobAxes
_MOST_GROUPS = 20_000
_MOST_DEPTH = 8
_MOST_BLOBS = 64
_LEAST_BUDGET = 64 << 20  # bytes of weights that any file may unpack to; above it, a multiple of the file's size
_LARGEST_RATIO = 8


def is_hdf5(data: bytes) -> bool:
    """Tell whether a file's content is HDF5."""
    return data.startswith(_SIGNATURE)


def read_hdf5(data: bytes, name: str) -> NetParameter:
    """Read weights that Caffe stored as HDF5.

    Parameters
    ----------
    data : bytes
        The file's content.
    name : str
        Of the file, for errors.

    Returns
    -------
    NetParameter
        A layer for each group that holds blobs. A blob that only another layer stores, because they share it, is empty.

    Raises
    ------
    CaffeModelError
        For a file that is damaged, refers to other files, or holds something else than weights.
    MissingDependencyError
        Without the extra `hdf5`.
    """
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError("h5py", "hdf5", f"{name}, which is HDF5,") from None
    net = NetParameter()
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            group = file.get("data") if _is_own(file, "data") else None
            if not isinstance(group, h5py.Group):
                raise CaffeModelError(f"{name} is HDF5, but has no group 'data': it holds no weights of Caffe's")
            budget = max(_LEAST_BUDGET, _LARGEST_RATIO * len(data))
            for layer, blobs in _layers(group, name):
                budget = _add(net, layer, blobs, name, budget)
    except CaffeModelError:
        raise
    except (
        OSError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CaffeModelError(f"{name} is HDF5 that is truncated or damaged: {reason}") from None
    if not net.layer:
        raise CaffeModelError(f"{name} holds no layers: pass the weights that go with the prototxt")
    return net


def _is_own(group: h5py.Group, key: str) -> bool:
    """Tell whether a name stands for something in the file itself: other links could open any file."""
    import h5py

    return isinstance(group.get(key, getlink=True), h5py.HardLink)


def _layers(root: h5py.Group, name: str) -> Iterator[tuple[str, dict[int, Any]]]:
    """Walk over the groups below `data`. A layer `conv1/a` is a group in a group."""
    import h5py

    pending = [("", root, 0)]
    seen = 0
    while pending:
        path, group, depth = pending.pop()
        seen += 1
        if seen > _MOST_GROUPS or depth > _MOST_DEPTH:
            raise CaffeModelError(f"{name} has more groups than any net has layers")
        blobs, inner = {}, []
        for key in group:
            if not _is_own(group, key):
                raise CaffeModelError(f"{name}: {path or 'data'} links to {key!r} elsewhere, which weights do not")
            item = group[key]
            if isinstance(item, h5py.Group):
                inner.append((f"{path}/{key}" if path else key, item, depth + 1))
            elif isinstance(item, h5py.Dataset) and key.isdecimal() and path:
                blobs[int(key)] = item
        pending.extend(reversed(inner))
        if blobs:
            yield path, blobs


def _add(net: NetParameter, layer: str, blobs: dict[int, Any], name: str, budget: int) -> int:
    """Store a layer's blobs in the net, and return how many bytes are left to unpack."""
    if max(blobs) >= _MOST_BLOBS:
        raise CaffeModelError(f"{name}: layer {layer[:80]!r} has a blob {max(blobs)}, more than any layer has")
    stored = net.layer.add(name=as_text(layer.encode("utf-8", "surrogateescape")))
    for index in range(max(blobs) + 1):
        blob = stored.blobs.add()
        if index not in blobs:
            continue
        dataset = blobs[index]
        where = f"{name}: blob {index} of layer {layer[:80]!r}"
        if dataset.dtype.kind not in "fiu" or dataset.ndim > _MOST_AXES or dataset.shape is None:
            raise CaffeModelError(f"{where} holds no numbers of a blob, but {dataset.dtype} of {dataset.ndim} axes")
        if dataset.is_virtual or dataset.external:
            raise CaffeModelError(f"{where} lies in another file, which weights of Caffe's do not")
        budget -= dataset.size * max(4, dataset.dtype.itemsize)
        if budget < 0 or (dataset.size and not dataset.id.get_storage_size()):
            raise CaffeModelError(f"{where} claims {dataset.size:,} numbers, more than the file holds: it is damaged")
        write_blob(np.asarray(dataset[()], dtype=np.float32), blob)
    return budget
