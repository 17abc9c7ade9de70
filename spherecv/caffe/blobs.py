"""BlobProto <-> NumPy, in bulk: protobuf's own repeated fields hand over one Python float at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spherecv import protobuf as wire
from spherecv.errors import CaffeModelError

if TYPE_CHECKING:
    from spherecv.caffe.spherecv_caffe_pb2 import BlobProto

_DATA, _DOUBLE_DATA = 5, 8
_MOST_AXES = 32  # kMaxBlobAxes
_LEGACY = ("num", "channels", "height", "width")
_RAW_KINDS = {0: "<f8", 1: "<f4", 2: "<f2"}  # DOUBLE, FLOAT, FLOAT16 of RawType


def has_legacy_shape(blob: BlobProto) -> bool:
    """Tell whether a blob states the four numbers of old. Where it does, Caffe looks at no other shape."""
    return any(blob.HasField(name) for name in _LEGACY)


def blob_shape(blob: BlobProto) -> tuple[int, ...]:
    """Return the shape a blob states: the legacy four numbers, else `shape`, else what its data says, `(count,)`."""
    if has_legacy_shape(blob):
        return tuple(getattr(blob, name) for name in _LEGACY)
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    return (_numbers_of(blob).size,)


def read_blob(blob: BlobProto, *, where: str = "a blob") -> npt.NDArray[np.float32]:
    """Return a blob's data as an array.

    Parameters
    ----------
    blob : BlobProto
        With single or double data, or raw data of 16, 32 or 64 bits, and any form of shape.
    where : str
        What the blob is, for errors: ``"blob 0 of layer 'conv1'"``.

    Returns
    -------
    ndarray of float32, of the blob's shape
        Read-only where no conversion was needed.

    Raises
    ------
    CaffeModelError
        If the shape is not that of the data, or the raw data are no floating-point numbers.
    """
    numbers = _numbers_of(blob, where)
    shape = blob_shape(blob)
    if len(shape) > _MOST_AXES or any(size < 0 for size in shape) or math.prod(shape) != numbers.size:
        stated = "x".join(map(str, shape[:_MOST_AXES]))
        raise CaffeModelError(
            f"{where} states the shape {stated} but holds {numbers.size:,} numbers: the file is damaged"
        )
    with np.errstate(over="ignore"):  # a double beyond float32 is infinite in Caffe too
        return numbers.astype(np.float32, copy=False).reshape(shape)


def read_weights(blob: BlobProto, *, where: str) -> npt.NDArray[np.float32]:
    """Return a blob's data as `read_blob` does, and refuse weights that are no numbers.

    Caffe loads them, and gives NaN for every input; the runtimes turn some of that into numbers, each in its own way.

    Raises
    ------
    CaffeModelError
        As for `read_blob`; or a weight is NaN or infinite.
    """
    numbers = read_blob(blob, where=where)
    if not np.isfinite(numbers).all():
        count = numbers.size - int(np.isfinite(numbers).sum())
        raise CaffeModelError(
            f"{where} holds {count:,} weights of {numbers.size:,} that are NaN or infinite: its training blew up, or "
            "the file is damaged; take another one"
        )
    return numbers


def _numbers_of(blob: BlobProto, where: str = "a blob") -> npt.NDArray[Any]:
    """Return the numbers in a row: doubles before singles, as Caffe takes them, and raw data where neither is."""
    if not blob.double_data and not blob.data and blob.HasField("raw_data"):
        return _raw(blob, where)
    field = _DOUBLE_DATA if blob.double_data else _DATA
    message = memoryview(blob.SerializeToString())
    packed = [message[part.start : part.end] for part in wire.fields(message) if part.number == field]
    raw = packed[0] if len(packed) == 1 else b"".join(packed)
    return np.frombuffer(raw, dtype="<f8" if blob.double_data else "<f4")


def _raw(blob: BlobProto, where: str) -> npt.NDArray[Any]:
    # The enum's first value, DOUBLE, is the default of a type that is not stated, in OpenCV's and NVCaffe's schema.
    kind = _RAW_KINDS.get(blob.raw_data_type)
    if kind is None:
        raise CaffeModelError(f"{where} holds whole numbers as raw_data, which no layer has for weights")
    if len(blob.raw_data) % np.dtype(kind).itemsize:
        raise CaffeModelError(f"{where} holds {len(blob.raw_data):,} bytes of raw_data, which end within a number")
    return np.frombuffer(blob.raw_data, dtype=kind)


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
