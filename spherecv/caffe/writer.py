"""Writing nets as `.prototxt` and `.caffemodel`, whole or not at all."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from spherecv.caffe import text
from spherecv.errors import CaffeModelError
from spherecv.files import write_bytes

if TYPE_CHECKING:
    from google.protobuf.message import Message


def write_prototxt(message: Message, path: str | PathLike[str]) -> Path:
    """Write a net's definition (or a solver) as text; weights inside it are left out.

    Parameters
    ----------
    message : NetParameter or SolverParameter
        Written as it is, but for the blobs of layers, which belong into the caffemodel.
    path : str or path
        Replaced only once the whole file is on disk.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    StorageError
        If the folder cannot be written to.
    """
    write_bytes(path, text.render(_without_blobs(message)).encode())
    return Path(path)


def write_caffemodel(message: Message, path: str | PathLike[str]) -> Path:
    """Write a message (a net with its weights, or a SolverState) in binary.

    Parameters
    ----------
    message : NetParameter, SolverState or BlobProto
        Fields that our schema does not know, but the file it came from had, are written back too.
    path : str or path
        Replaced only once the whole file is on disk.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    StorageError
        If the folder cannot be written to.
    CaffeModelError
        If the net is larger than the 2 GiB that the format can hold.
    """
    write_bytes(path, serialize(message))
    return Path(path)


def serialize(message: Message) -> bytes:
    """Return a message in binary, equal messages as equal bytes."""
    from google.protobuf.message import EncodeError

    try:
        return bytes(message.SerializeToString(deterministic=True))
    except (EncodeError, ValueError, MemoryError) as error:
        raise CaffeModelError(f"the net cannot be written (the format ends at 2 GiB): {error}") from None


def _without_blobs(message: Message) -> Message:
    """Return the message itself, or a copy without blobs where a layer has some."""
    layers = [*getattr(message, "layer", ()), *getattr(message, "layers", ())]
    if not any(layer.blobs for layer in layers):
        return message
    bare = type(message)()
    bare.CopyFrom(message)
    for layer in [*getattr(bare, "layer", ()), *getattr(bare, "layers", ())]:
        layer.ClearField("blobs")
    return bare
