"""Files: written whole or not at all, TOML, hashes, the cache folder."""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from spherecv.errors import SphereCVError, StorageError

_RELEASED = 1 << 25
"""Bytes of a mapped file between two givings back: what stays in memory of it."""


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it becomes `path` when the block ends well.

    Parameters
    ----------
    path : path
        Where the file shall be. Its folder is made. A file that is there is replaced in one step.

    Yields
    ------
    Path
        In the same folder, with the same suffix. Removed when the block raises.

    Raises
    ------
    StorageError
        The folder or the file cannot be written: not permitted, read-only, full.
    """
    goal = Path(path)
    temporary = goal.with_name(f".{goal.stem}-{secrets.token_hex(4)}{goal.suffix}")
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        temporary.replace(goal)
    except OSError as error:
        raise StorageError(f"{goal} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `StorageError` where `atomic_path` would, as far as can be told without writing: before long work."""
    goal = Path(path)
    if goal.is_dir():
        raise StorageError(f"{goal} cannot be written: it is a folder")
    folder = next(parent for parent in goal.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise StorageError(f"{goal} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"{goal} cannot be written: {folder} may not be written to")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file atomically; raises `StorageError` where that fails."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_toml(path: str | os.PathLike[str], error: type[SphereCVError], what: str = "") -> dict[str, Any]:
    """Read a file's values; what is wrong is raised as `error`, which names the file and, in a word, what it is."""
    import tomllib

    name = f"{what} {path}".strip()
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"{name} cannot be read: {fault.strerror or fault}") from None
    except ValueError as fault:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise error(f"{name} is not TOML: {fault}") from None


def write_toml(path: str | os.PathLike[str], table: Mapping[str, Any], *, comment: str = "") -> None:
    """Write a table atomically, under a line of comment; values that are None are left out, tuples become arrays.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    import tomli_w

    head = f"# {comment}\n" if comment else ""
    write_bytes(path, (head + tomli_w.dumps(_without_none(table))).encode())


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value


class Reading:
    """Pages of a mapped file that is read once, from its beginning: those behind are given back as the reading goes on.

    Parameters
    ----------
    mapped : mmap.mmap
        Opened for reading.
    """

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._behind = 0
        self._advice = getattr(mmap, "MADV_DONTNEED", None)  # not on every system; there the kernel decides alone

    def reached(self, place: int) -> None:
        """Say that the bytes before a place are not needed at the moment; they can still be read again."""
        if self._advice is not None and place - self._behind >= _RELEASED:
            start = self._behind
            self._behind = place - place % mmap.PAGESIZE
            self._mapped.madvise(self._advice, start, self._behind - start)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's contents in hexadecimal digits; raises `OSError` where it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_dir() -> Path:
    """The folder for everything that SphereCV may fetch or make again.

    `SPHERECV_CACHE` if that is set, else the user's cache folder. It need not exist.
    """
    chosen = os.environ.get("SPHERECV_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("spherecv", appauthor=False)
