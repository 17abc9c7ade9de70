"""Converted models on disk, each under the key of what it was made of."""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from spherecv.caffe.registry import fingerprint
from spherecv.errors import StorageError
from spherecv.files import cache_dir as default_cache_dir
from spherecv.files import write_bytes

# Part of every entry's name: raise it with any change to the bytes that `CaffeNet.to_onnx` makes.
CONVERTER_VERSION = "5"

_SUFFIX = ".onnx-cache"
_MAGIC = b"spherecv onnx cache\n"
_DIGEST_BYTES = 32
_MOST_ENTRIES = 16
_whole: dict[str, tuple[str, int, int, int]] = {}
"""Entries that were found to be whole, and place, size and times that they had; a few a program."""


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


def cached_file(
    key: str, convert: Callable[[], bytes], *, cache_dir: str | os.PathLike[str] | None = None
) -> Path | bytes:
    """Return the file in which the ONNX of a key is kept, or make and keep it.

    For those who load the file itself: nothing is copied, and the checksum, CRC-32, takes a tenth of SHA-256's time.

    Parameters
    ----------
    key, convert, cache_dir
        As for `cached_onnx`.

    Returns
    -------
    Path or bytes
        A plain ONNX file; what `convert` returned where the folder cannot be written to.
    """
    folder = default_cache_dir() / "onnx" if cache_dir is None else Path(cache_dir)
    stem = f"{key}-{CONVERTER_VERSION}-{fingerprint()}file"
    for entry in folder.glob(f"{stem}-*{_SUFFIX}"):
        if _is_whole(entry):
            return entry
        with suppress(OSError):
            entry.unlink()
    model = convert()
    entry = folder / f"{stem}-{zlib.crc32(model):08x}{_SUFFIX}"
    try:
        write_bytes(entry, model)
    except StorageError:
        return model
    _prune(folder)
    return entry


def _is_whole(entry: Path) -> bool:
    """Tell whether a file has the checksum that its name states; looked at once in a program, while it lies still."""
    try:
        state = entry.stat()
        seen = (str(entry), state.st_ino, state.st_size, state.st_ctime_ns)
        if seen == _whole.get(entry.name):
            return True
        os.utime(entry)  # used just now, says it to `_prune`
        state = entry.stat()
        seen = (str(entry), state.st_ino, state.st_size, state.st_ctime_ns)
        with entry.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            whole = f"{zlib.crc32(content):08x}" == entry.stem[-8:]
    except (OSError, ValueError):
        return False
    if whole:
        _whole[entry.name] = seen
    return whole


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
