"""BlobProto <-> NumPy, in bulk: protobuf's own repeated fields hand over one Python float at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spherecv import protobuf as wire
from spherecv.errors import CaffeModelError

if TYPE_CHECKING:
    from spherecv.caffe.spherecv_caffe_pb2 import BlobProto

_DATA, _DOUBLE_DATA = 5, 8
_MOST_AXES = 32  # kMaxBlobAxes
_LEGACY = ("num", "channels", "height", "width")


def blob_shape(blob: BlobProto) -> tuple[int, ...]:
    """Return the shape a blob states: `shape`, else the legacy four numbers, else what its data says, `(count,)`."""
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    if any(blob.HasField(name) for name in _LEGACY):
        return tuple(getattr(blob, name) for name in _LEGACY)
    return (len(blob.double_data) or len(blob.data),)


def read_blob(blob: BlobProto, *, where: str = "a blob") -> npt.NDArray[np.float32]:
    """Return a blob's data as an array.

    Parameters
    ----------
    blob : BlobProto
        With single or double data, and any form of shape.
    where : str
        What the blob is, for errors: ``"blob 0 of layer 'conv1'"``.

    Returns
    -------
    ndarray of float32, of the blob's shape
        Read-only where no conversion was needed.

    Raises
    ------
    CaffeModelError
        If the shape is not that of the data.
    """
    shape = blob_shape(blob)
    doubles = len(blob.double_data) > 0
    count = len(blob.double_data) if doubles else len(blob.data)
    if len(shape) > _MOST_AXES or any(size < 0 for size in shape) or math.prod(shape) != count:
        stated = "x".join(map(str, shape[:_MOST_AXES]))
        raise CaffeModelError(f"{where} states the shape {stated} but holds {count:,} numbers: the file is damaged")
    wanted = _DOUBLE_DATA if doubles else _DATA
    message = memoryview(blob.SerializeToString())
    packed = [message[field.start : field.end] for field in wire.fields(message) if field.number == wanted]
    raw = packed[0] if len(packed) == 1 else b"".join(packed)
    numbers = np.frombuffer(raw, dtype="<f8" if doubles else "<f4")
    return numbers.astype(np.float32, copy=False).reshape(shape)


def write_blob(array: npt.ArrayLike, blob: BlobProto | None = None) -> BlobProto:
    """Store an array as a blob of single precision with a modern `shape`.

    Parameters
    ----------
    array : array_like
        Any shape; converted to float32.
    blob : BlobProto, optional
        Filled in place (what it held is cleared); a new one when absent.
    """
    from spherecv.caffe.spherecv_caffe_pb2 import BlobProto

    values = np.ascontiguousarray(array, dtype="<f4")
    target = BlobProto() if blob is None else blob
    target.Clear()
    target.shape.dim.extend(np.shape(array))  # a scalar gets no shape at all, as in Caffe's own files
    target.MergeFromString(wire.encode_bytes(_DATA, values.reshape(-1).view(np.uint8).data))
    return target
