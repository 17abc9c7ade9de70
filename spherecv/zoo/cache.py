"""Record of the model files that were verified."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from spherecv.errors import StorageError
from spherecv.files import write_bytes
from spherecv.zoo.model import ModelFile

_CHUNK = 1 << 20


def mismatch(path: Path, file: ModelFile) -> str:
    """In what `path` differs from what the manifest says of `file`; empty if in nothing.

    A match is written down beside the file, with its size and times, so that the 90 MB of SphereFace-20 are hashed once
    (0.2 s for both digests) and not at each start. The note guards against broken and mistaken files, as hashes do, not
    against someone who may write to the user's cache.

    Raises
    ------
    StorageError
        The file cannot be read.
    """
    with reading(path):
        if _read_note(path) == _seal(path, file):
            return ""
        difference = difference_of(path, file)
    if not difference:
        remember(path, file)
    return difference


def difference_of(path: Path, file: ModelFile) -> str:
    """As `mismatch`, by reading the file in any case.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes, not {file.size:,}"
    found = digests_of(path, [algorithm for algorithm, _ in file.digests])
    for algorithm, digest in file.digests:
        if found[algorithm] != digest:
            return f"has {algorithm.upper()} {found[algorithm][:12]}..., not {digest[:12]}..."
    return ""


def remember(path: Path, file: ModelFile) -> None:
    """Note that a file was found to be what the manifest names."""
    with contextlib.suppress(OSError, StorageError):  # a read-only cache only costs the next start some time
        write_bytes(_note(path), json.dumps(_seal(path, file)).encode())


def _seal(path: Path, file: ModelFile) -> dict[str, object]:
    state = path.stat()
    # ctime too: unlike mtime, no copying tool can carry it over from another file.
    return {"size": state.st_size, "mtime": state.st_mtime_ns, "ctime": state.st_ctime_ns, **dict(file.digests)}


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.verified")


def _read_note(path: Path) -> object:
    try:
        return json.loads(_note(path).read_bytes())
    except (OSError, ValueError):
        return None


def digests_of(path: Path, algorithms: list[str]) -> dict[str, str]:
    """Hexadecimal digests of a file by several algorithms, in one reading."""
    hashes = {algorithm: hashlib.new(algorithm) for algorithm in algorithms}
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            for each in hashes.values():
                each.update(chunk)
    return {algorithm: each.hexdigest() for algorithm, each in hashes.items()}


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into a StorageError that says how to fix it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "free space there, or set SPHERECV_CACHE to another folder"
        else:
            mend = "make the folder writable, or set SPHERECV_CACHE to another one"
        raise StorageError(f"{path} cannot be written ({error.strerror or error}): {mend}") from None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is read into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from None
