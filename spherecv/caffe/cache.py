"""Converted models on disk, each under the key of what it was made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from spherecv.caffe.registry import fingerprint
from spherecv.errors import StorageError
from spherecv.files import cache_dir as default_cache_dir
from spherecv.files import write_bytes

# Part of every entry's name: raise it with any change to the bytes that `CaffeNet.to_onnx` makes.
CONVERTER_VERSION = "3"

_SUFFIX = ".onnx-cache"
_MAGIC = b"spherecv onnx cache\n"
_DIGEST_BYTES = 32
_MOST_ENTRIES = 16


def ending_key(outputs: Sequence[str] | None) -> str:
    """Return what outputs of one's own choice add to a cache's key; nothing for a net's own."""
    if outputs is None:
        return ""
    return "-" + hashlib.sha256("\0".join(outputs).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def cached_onnx(
    key: str, convert: Callable[[], bytes], *, cache_dir: str | os.PathLike[str] | None = None
) -> bytes:
    """Return the ONNX that is kept under a key, or make and keep it.

    Parameters
    ----------
    key : str
        Names what the ONNX is made of, in characters that a file name can have. The converter's version is added to it.
    convert : callable
        Makes the ONNX.
    cache_dir : path, optional
        Where entries are kept; by default the folder `onnx` in `SPHERECV_CACHE` or in the user's cache folder. A folder
        that cannot be written to is no error: the model is then converted each time. The 16 entries used last are kept.

    Returns
    -------
    bytes
        What `convert` returned, now or before.
    """
    folder = default_cache_dir() / "onnx" if cache_dir is None else Path(cache_dir)
    own = fingerprint()
    entry = folder / f"{key}-{CONVERTER_VERSION}{'-' if own else ''}{own}{_SUFFIX}"
    cached = _read(entry)
    if cached is not None:
        return cached
    model = convert()
    with suppress(StorageError):
        write_bytes(entry, b"".join((_MAGIC, hashlib.sha256(model).digest(), model)))
        _prune(folder)
    return model


def _read(entry: Path) -> bytes | None:
    """Return the model in an entry, or None if there is none, or none that is whole."""
    try:
        content = entry.read_bytes()
    except (OSError, ValueError):
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    digest, model = content[len(_MAGIC) : start], content[start:]
    if not content.startswith(_MAGIC) or hashlib.sha256(model).digest() != digest:
        return None
    with suppress(OSError):
        os.utime(entry)  # used just now, says it to `_prune`
    return model


def _prune(folder: Path) -> None:
    """Remove all entries but those used last: a change of converter leaves the old ones behind."""
    with suppress(OSError):
        entries = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for stale in entries[_MOST_ENTRIES:]:
            stale.unlink(missing_ok=True)
