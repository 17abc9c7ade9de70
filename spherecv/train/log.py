"""What a run says while it runs: Caffe's log lines, a CSV, a table or lines on standard error, a plot at the end."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from spherecv.errors import InvalidArgumentError, MissingDependencyError
from spherecv.files import append_bytes, open_whole, refused

EVERY = 10.0
"""Seconds between two lines of a run that has no terminal."""

_COLUMNS = ("iteration", "loss", "lr", "images_per_second", "seconds")


@dataclass(frozen=True)
class Progress:
    """One iteration: its number, the smoothed loss, the rate, images per second, seconds, and the loss's parts."""

    iteration: int
    loss: float
    lr: float
    images_per_second: float
    seconds: float
    parts: dict[str, float] = field(default_factory=dict)


class Log:
    """Writes what is asked for; nothing by default.

    Parameters
    ----------
    file : path, optional
        Caffe-style lines, appended.
    table : path, optional
        A CSV with every iteration, appended; lines of an iteration that is run again after a resume come again.
    live : bool
        A table on the terminal; where there is none, a line on standard error each ten seconds.
    """

    def __init__(self, file: str | Path | None = None, table: str | Path | None = None, *, live: bool = False) -> None:
        self._file, self._table = (None if path is None else Path(path) for path in (file, table))
        self._live = live and sys.stderr.isatty()
        self._reports = live and not self._live
        self._reported: float | None = None
        self._news: list[str] = []
        self._lines: IO[bytes] | None = None
        self._rows: IO[bytes] | None = None
        self._display: Any = None
        self._columns: list[str] = []
        self._end = 0
        self._pace = 0.0

    @contextmanager
    def running(self, end: int) -> Iterator[None]:
        """Open the files for a run, or a part of one, of `end` iterations in all."""
        self._end = end
        if self._reported is None:  # parts that are shorter than `EVERY` say something, too
            self._reported = time.monotonic()
        try:
            self._lines, self._rows = self._open(self._file), self._open(self._table)
            while self._news:
                self.say(self._news.pop(0))
            if self._live:
                from rich.console import Console
                from rich.live import Live

                self._display = Live(console=Console(stderr=True), refresh_per_second=4)
                self._display.start()
            yield
        finally:
            if self._display is not None:
                self._display.stop()
            for stream in (self._lines, self._rows):
                if stream is not None:
                    stream.close()
            self._lines = self._rows = self._display = None

    def say(self, text: str) -> None:
        """Write one line."""
        if self._lines is not None:
            now = time.time()
            stamp = time.strftime("%m%d %H:%M:%S", time.localtime(now))
            line = f"I{stamp}.{int(now % 1 * 1e6):06d} {os.getpid():5d} spherecv] {text}\n"
            with refused(str(self._file)):
                append_bytes(self._lines, line.encode())

    def announce(self, text: str) -> None:
        """Say what a run starts from, or where it breaks off: on standard error at once, and in the file once open."""
        if self._live or self._reports:
            sys.stderr.write(f"{text}\n")
        if self._lines is None:
            self._news.append(text)
        else:
            self.say(text)

    def iteration(self, progress: Progress, *, show: bool) -> None:
        """Note an iteration; `show` says whether it is one to display."""
        self._pace = progress.seconds if not self._pace else 0.9 * self._pace + 0.1 * progress.seconds
        if show:
            self.say(
                f"Iteration {progress.iteration} ({progress.images_per_second:.1f} img/s), loss = {progress.loss:.6g}"
            )
            for name, value in progress.parts.items():
                self.say(f"    Train net output: {name} = {value:.6g}")
            self.say(f"Iteration {progress.iteration}, lr = {progress.lr:g}")
        if self._rows is not None:
            self._row(self._rows, progress)
        if self._display is not None:
            self._display.update(self._panel(progress))
        if self._reports and time.monotonic() - (self._reported or 0.0) >= EVERY:
            self._reported = time.monotonic()
            shown = ", ".join(f"{name} {value}" for name, value in self._shown(progress).items())
            sys.stderr.write(f"iteration {progress.iteration + 1} of {self._end}: {shown}\n")
            sys.stderr.flush()

    @staticmethod
    def _open(path: Path | None) -> IO[bytes] | None:
        if path is None:
            return None
        with refused(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("ab", buffering=0)

    def _row(self, rows: IO[bytes], progress: Progress) -> None:
        text = ""
        if not self._columns:
            self._columns = [*_COLUMNS, *_columns(progress.parts).values()]
            if rows.tell() == 0:
                text = _line(self._columns)
        values = [progress.iteration, f"{progress.loss:.7g}", f"{progress.lr:.7g}"]
        values += [f"{progress.images_per_second:.2f}", f"{progress.seconds:.4f}"]
        names = _columns(progress.parts)
        parts = {names[name]: value for name, value in progress.parts.items()}
        values += [f"{parts.get(name, float('nan')):.7g}" for name in self._columns[len(_COLUMNS) :]]
        with refused(str(self._table)):
            append_bytes(rows, (text + _line(values)).encode())

    def _panel(self, progress: Progress) -> Any:
        from rich.table import Table

        table = Table(title=f"iteration {progress.iteration + 1} of {self._end}")
        shown = self._shown(progress)
        for name in shown:
            table.add_column(name, justify="right")
        table.add_row(*shown.values())
        return table

    def _shown(self, progress: Progress) -> dict[str, str]:
        left = max(0, self._end - progress.iteration - 1) * self._pace
        return {
            "loss": f"{progress.loss:.4f}",
            "lr": f"{progress.lr:.3g}",
            **{_columns(progress.parts)[name]: f"{value:.4g}" for name, value in progress.parts.items()},
            "images/s": f"{progress.images_per_second:.1f}",
            "time left": f"{int(left // 3600)}:{int(left // 60 % 60):02d}:{int(left % 60):02d}",
        }


def _columns(parts: Collection[str]) -> dict[str, str]:
    """Return the column of each part: a net's output may have the name of one that every run has, such as ``loss``."""
    found: dict[str, str] = {}
    for part in parts:
        name = part
        while name in _COLUMNS or (name != part and name in parts):
            name = f"output {name}"
        found[part] = name
    return found


def _line(values: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _point(row: dict[str, str]) -> tuple[int, tuple[float, float, float]]:
    """Return iteration, loss, rate and lambda; NaN where the loss has none. A sum of losses names each before it."""
    mixed = (value for name, value in row.items() if name.rpartition(":")[2] == "lambda")
    return int(row["iteration"]), (float(row["loss"]), float(row["lr"]), float(next(mixed, "nan")))


def plot_loss(table: str | Path, image: str | Path) -> Path:
    """Draw loss, learning rate and lambda of a run from its CSV; a line that a kill cut short is left out.

    Parameters
    ----------
    table : path
        What `Log` wrote.
    image : path
        ``.png``, ``.svg`` or ``.pdf``.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("matplotlib", "plot", "a plot of the loss") from None
    try:
        with Path(table).open(newline="", encoding="utf-8") as rows:
            points = dict(_point(row) for row in csv.DictReader(rows) if None not in row.values())
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise InvalidArgumentError(f"{table} is no table of a run: {error}") from None
    figure = draw_loss(Path(table).stem, points, Figure(figsize=(8, 6), layout="constrained"))
    with open_whole(image) as stream:
        figure.savefig(stream, format=Path(image).suffix[1:].lower() or "png")
    return Path(image)


def draw_loss(name: str, points: dict[int, tuple[float, float, float]], figure: Any) -> Any:
    """Draw loss, learning rate and lambda by iteration: the loss above, what was set below."""
    iterations = sorted(points)
    losses, rates, lambdas = zip(*(points[i] for i in iterations), strict=True) if points else ((), (), ())
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    last = f": loss {losses[-1]:.4g} after {iterations[-1] + 1:,} iterations" if points else ""
    loss.set(title=f"{name}{last}", ylabel="loss")
    loss.plot(iterations, losses, color="tab:blue")
    courses = [_course("learning rate", rates), _course("lambda", lambdas)]
    rate.set_xlabel("iteration")
    rate.set_title(", ".join(filter(None, courses)), fontsize=10)
    rate.plot(iterations, rates, color="tab:orange")
    rate.set_ylabel("learning rate", color="tab:orange")
    if courses[1]:
        mixed = rate.twinx()
        mixed.plot(iterations, lambdas, color="tab:green")
        mixed.set(yscale="log")
        mixed.set_ylabel("lambda", color="tab:green")
    for axes in (loss, rate):
        axes.grid(visible=True, which="major", alpha=0.3)
    return figure


def _course(name: str, values: Sequence[float]) -> str:
    """Return from where to where a setting went, in words; empty where it was never there."""
    known = [value for value in values if math.isfinite(value)]
    return f"{name} {known[0]:.3g} to {known[-1]:.3g}" if known else ""
