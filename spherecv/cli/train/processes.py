"""Several processes that train together: the first starts the others with its own command line."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext


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

    return companions(size, _again()) if starts_others(size) else nullcontext()


def _again() -> list[str]:
    """Return this command line for another process: `spherecv` as a module call, or whatever -c this one runs."""
    words = sys.orig_argv[1:]
    entry = words.index("-c") if "-c" in words else None
    if entry is not None:
        return words[entry:]
    return ["-c", "from spherecv.cli import main; main()", *sys.argv[1:]]
