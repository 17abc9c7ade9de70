"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spherecv.errors import StorageError


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


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file atomically; raises `StorageError` where that fails."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
