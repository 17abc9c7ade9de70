"""Files: written whole or not at all, TOML, hashes, the cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any

from spherecv.errors import SphereCVError, StorageError

_RELEASED = 1 << 25
"""Bytes of a mapped file between two givings back: what stays in memory of it."""
_SETTLED_NS = 2_000_000_000
"""Nanoseconds after which a file's times tell whether it was written again; they may be as coarse as two seconds."""
_MOST_HASHES = 256


@contextmanager
def open_whole(path: str | os.PathLike[str], *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a file for writing; it takes its place when the block ends well, and not at all otherwise.

    On Linux it has no name until then, so that a killed process leaves nothing, but for the instant in which it takes
    the place of another. On file systems without such files, as shares of a network, it is `.NAME.part.SUFFIX`
    meanwhile. What a killed process leaves there goes when the same place is written to next, or by `sweep_parts`.

    Parameters
    ----------
    path : path
        Where the file shall be. Its folder is made. A file that is there is replaced in one step; of a link, the one
        that it leads to. A pipe or a device is written to as it is.
    mode : int
        Permissions, less the process's mask.

    Yields
    ------
    binary file
        For writing and reading; of a pipe or a device for writing.

    Raises
    ------
    StorageError
        The folder or the file cannot be written: not permitted, read-only, full. It names `path`.
    """
    with refused(path):
        if _is_special(Path(path)):
            with Path(path).open("wb") as stream:
                yield stream
            return
        goal = _goal(path)
        descriptor = _nameless(goal.parent, mode)
        if descriptor is not None:
            with os.fdopen(descriptor, "w+b") as stream:
                yield stream
                stream.flush()
                _name(descriptor, goal)
            return
        part = Part(path, mode)
        try:
            with part.path.open("w+b") as stream:
                yield stream
        except BaseException:
            part.drop()
            raise
        part.put()


class Part:
    """A file in the making under a name of its own beside its goal, for what writes by name: `open_whole` needs none.

    Parameters
    ----------
    path : path
        As for `open_whole`.
    mode : int

    Attributes
    ----------
    path : Path
        Where to write meanwhile; of the same suffix. What a killed process leaves there is taken over by the next that
        writes to the same goal.

    Raises
    ------
    StorageError
    """

    def __init__(self, path: str | os.PathLike[str], mode: int = 0o666) -> None:
        self._asked = path
        with refused(path):
            self._goal = _goal(path)
            self.path, self._lock = _claimed(self._goal, mode)

    def put(self) -> None:
        """Put the file in its place; raises `StorageError`."""
        try:
            with refused(self._asked):
                self.path.replace(self._goal)
        except StorageError:
            self.drop()
            raise
        self._release()

    def drop(self) -> None:
        """Leave nothing."""
        with suppress(OSError):
            self.path.unlink()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def refused(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what goes wrong while a file is written into a `StorageError` that names it."""
    try:
        yield
    except BrokenPipeError:  # of an answer that nobody reads any more
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _goal(path: str | os.PathLike[str]) -> Path:
    goal = Path(os.path.realpath(path))
    goal.parent.mkdir(parents=True, exist_ok=True)
    if goal.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return goal


def _nameless(folder: Path, mode: int) -> int | None:
    """Open a file without a name in a folder; None where there are none."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError:  # where the folder is the reason, a file with a name fails for the same one
        return None
    if _source(descriptor).exists():
        return descriptor
    os.close(descriptor)
    return None


def _source(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def _name(descriptor: int, goal: Path) -> None:
    """Put a file without a name in its place; by way of another name where one is there, since a link replaces none.

    A kill between the two leaves that name: the next that writes to the same place takes it away.
    """
    _taken_away(_part_of(goal))
    folder = os.open(goal.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # With a folder's descriptor Python calls linkat, which follows the link that the source is.
        if not goal.exists():
            with suppress(FileExistsError):
                os.link(_source(descriptor), goal.name, dst_dir_fd=folder)
                return
        _lock(descriptor)
        number = 0
        while True:
            part = _part_of(goal, number or "")
            try:
                os.link(_source(descriptor), part.name, dst_dir_fd=folder)
            except FileExistsError:
                number += not _taken_away(part)
            else:
                try:
                    part.replace(goal)
                except BaseException:
                    part.unlink(missing_ok=True)
                    raise
                return
    finally:
        os.close(folder)


def _taken_away(part: Path) -> bool:
    """Remove what a killed process left; False where another is at work on it."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:  # somebody else's
        return False
    try:
        if not _lock(descriptor):
            return False
        if os.path.samestat(os.fstat(descriptor), part.stat()):
            part.unlink()
    except FileNotFoundError:
        pass
    finally:
        os.close(descriptor)
    return True


def _lock(descriptor: int) -> bool | None:
    """Lock a file as long as it is open; False where another process has, None where there are no locks."""
    if os.name != "posix":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _part_of(goal: Path, number: int | str = "") -> Path:
    return goal.with_name(f".{goal.stem}.part{number}{goal.suffix}")


def parts_of(goal: Path) -> Iterator[Path]:
    """What processes that were killed left of a file that they wrote; others may be at work on it."""
    yield from goal.parent.glob(f".{escape(goal.stem)}.part*{escape(goal.suffix)}")


def sweep_parts(path: str | os.PathLike[str]) -> None:
    """Take away what killed processes left of a file that they wrote; not what another one is at work on."""
    for part in parts_of(Path(os.path.realpath(path))):
        _taken_away(part)


def _claimed(goal: Path, mode: int) -> tuple[Path, int | None]:
    """Make a temporary file that nobody else writes to, and the lock that says so; a killed process's is taken over."""
    number = 0
    while True:
        part = _part_of(goal, number or "")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        locked = _lock(descriptor)
        if locked:
            with suppress(FileNotFoundError):  # it has just been finished
                if os.path.samestat(os.fstat(descriptor), part.stat()):
                    os.ftruncate(descriptor, 0)
                    return part, descriptor
        os.close(descriptor)
        if locked is None:
            break
        number += not locked
    part = _part_of(goal, f"-{secrets.token_hex(4)}")
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))
    return part, None


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep other processes that do the same out of a folder; where the file system has no locks, nobody."""
    if os.name != "posix":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `StorageError` where `open_whole` would, as far as can be told without writing: before long work."""
    goal = Path(path)
    if goal.is_dir():
        raise StorageError(f"{goal} cannot be written: it is a folder")
    folder = next(parent for parent in goal.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise StorageError(f"{goal} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"{goal} cannot be written: {folder} may not be written to")


def put_twin(path: Path, twin: Path) -> None:
    """Give a file a second name, or a copy of it where a file has one name only; what is written later does not meet.

    Raises
    ------
    StorageError
    """
    with refused(twin):
        twin.unlink(missing_ok=True)
        try:
            os.link(path, twin)
        except OSError:  # FAT, some network shares
            copy_file(path, twin)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file atomically; raises `StorageError` where that fails."""
    with open_whole(path) as stream:
        stream.write(data)


def copy_file(source: Path, path: str | os.PathLike[str]) -> None:
    """Copy a file's contents, as `write_bytes` does."""
    with open_whole(path) as stream, source.open("rb") as original:
        shutil.copyfileobj(original, stream, _RELEASED)


def append_bytes(stream: IO[bytes], data: bytes) -> None:
    """Write to a file that was opened unbuffered: all of it, or an `OSError` and no rest that would come later."""
    while data:
        data = data[stream.write(data) :]


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
    write_bytes(path, (head + tomli_w.dumps(without_none(table))).encode())


def without_none(value: Any) -> Any:
    """A table as TOML can hold it: without values that are None, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list | tuple) else value


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


def sha256_so_far(stream: IO[bytes]) -> bytes:
    """The SHA-256 of what a file from `open_whole` holds; writing goes on at its end."""
    stream.seek(0)
    digest = hashlib.sha256()
    while block := stream.read(_RELEASED):
        digest.update(block)
    return digest.digest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's contents in hexadecimal digits; raises `OSError` where it cannot be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_sha256(path: Path, *, own: bool = False) -> str:
    """The SHA-256 of a file's contents, read once and then remembered in the cache with its place, size and times.

    What is remembered guards against broken and mistaken files, not against someone who may write to the cache.

    Parameters
    ----------
    path : Path
    own : bool
        Whether the file is SphereCV's own and never written in place: its times tell at once whether it is another one.

    Raises
    ------
    OSError
        It cannot be read.
    """
    state = path.stat()
    times = (state.st_mtime_ns, state.st_ctime_ns)
    seal = [str(path.absolute()), state.st_dev, state.st_ino, state.st_size, *times]
    note = cache_dir() / "hashes" / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError):
        *held, digest = json.loads(note.read_bytes())
        if held == seal and isinstance(digest, str):
            return digest
    digest = sha256_of(path)
    if own or time.time_ns() - max(times) > _SETTLED_NS:
        with suppress(StorageError):  # then it is read again the next time
            write_bytes(note, json.dumps([*seal, digest]).encode())
            keep_newest(note.parent, _MOST_HASHES)
    return digest


def keep_newest(folder: Path, most: int) -> None:
    """Remove all files of a folder of the cache but those that were written last, as far as that can be done."""
    with suppress(OSError):
        for stale in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-most]:
            stale.unlink(missing_ok=True)


def cache_dir() -> Path:
    """The folder for everything that SphereCV may fetch or make again.

    `SPHERECV_CACHE` if that is set, else the user's cache folder. It need not exist.
    """
    chosen = os.environ.get("SPHERECV_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("spherecv", appauthor=False)
