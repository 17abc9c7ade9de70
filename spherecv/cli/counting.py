"""Progress of long work, with rate and time left: a bar on a terminal, elsewhere a line each ten seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import TypeVar

import typer

T = TypeVar("T")

EVERY = 10.0
"""Seconds between two lines."""


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with the number done and in all; the bar appears at its first call."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(what, total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate="" if speed is None else f"{speed:.1f}/s")

        yield show


def _lines(what: str) -> Callable[[int, int], None]:
    """Report in lines to standard error: none for what is done sooner."""
    started = last = monotonic()
    first: int | None = None

    def show(done: int, total: int) -> None:
        nonlocal last, first
        now = monotonic()
        first = done if first is None else first
        if now - last < EVERY:
            return
        last = now
        speed = max(done - first, 1) / (now - started)
        left = timedelta(seconds=round((total - done) / speed))
        typer.echo(f"{what}: {done:,} of {total:,}, {speed:.1f}/s, {left} left", err=True)

    return show


@contextmanager
def resumable() -> Iterator[None]:
    """Say of work that is broken off how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what is done is kept, and the same command goes on with the rest") from None


def counting(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Go through `total` answers as they come, under the bar where there are several."""
    if total < 2:
        yield from items
        return
    with counted(what) as progress:
        for done, item in enumerate(items, start=1):
            yield item
            progress(done, total)
