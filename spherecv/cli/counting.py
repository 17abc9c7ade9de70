"""A progress bar for work that reports how far it is, with rate and time left: on a terminal, never in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with the number done and in all; the bar appears at its first call."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate="" if speed is None else f"{speed:.1f}/s")

        yield show


def counting(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Go through `total` answers as they come, under the bar where there are several."""
    if total < 2:
        yield from items
        return
    with counted(what) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress(done, total)
