"""The ONNX of a Caffe model, converted once: reading it from the cache costs no protobuf and no onnx."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from spherecv.caffe.cache import cached_onnx, ending_key
from spherecv.errors import ModelFileError
from spherecv.files import sha256_of


def onnx_of(
    prototxt: str | os.PathLike[str],
    caffemodel: str | os.PathLike[str],
    *,
    outputs: Sequence[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> bytes:
    """Return the ONNX of a Caffe model, converted once and then read from disk.

    Parameters
    ----------
    prototxt, caffemodel : path
        The two files. Their content is the key, not their names.
    outputs : sequence of str, optional
        Blobs to end at, as for `load`.
    cache_dir : path, optional
        As for `cached_onnx`.

    Returns
    -------
    bytes
        What ``load(prototxt, caffemodel, outputs=outputs).to_onnx()`` returns.

    Raises
    ------
    ModelFileError
        If a file cannot be read, is damaged, or does not go with the other.
    """
    key = f"{_hash(Path(prototxt))[:32]}-{_hash(Path(caffemodel))[:32]}{ending_key(outputs)}"

    def convert() -> bytes:
        from spherecv.caffe.net import load

        return load(prototxt, caffemodel, outputs=outputs).to_onnx()

    return cached_onnx(key, convert, cache_dir=cache_dir)


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise ModelFileError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
