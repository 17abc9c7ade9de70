"""Several processes that train together: the first starts the others with its own command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import typer

from spherecv.runtime.ending import INTERRUPTED


def own_rank() -> int:
    """The number of this process among those that train together; the first has 0."""
    from spherecv.train.parallel import RANK

    return int(os.environ.get(RANK, "0"))


def starts_others(size: int) -> bool:
    """Whether this process is the one that starts the others of `size`, not alone and not one of those started."""
    from spherecv.train.parallel import RANK

    return size > 1 and RANK not in os.environ


def together(size: int) -> AbstractContextManager[None]:
    """Let `size` processes run this command line, as long as the context lasts."""
    from spherecv.train.parallel import companions

    if starts_others(size):
        return companions(size, _again())
    return _told_by_the_first() if own_rank() else nullcontext()


@contextmanager
def _told_by_the_first() -> Iterator[None]:
    """End without a word where Ctrl-C or SIGTERM ends all."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _again() -> list[str]:
    """Return this command line for another process: `spherecv` as a module call, or whatever -c this one runs."""
    words = sys.orig_argv[1:]
    entry = words.index("-c") if "-c" in words else None
    if entry is not None:
        return words[entry:]
    return ["-c", "from spherecv.cli import main; main()", *sys.argv[1:]]
