"""Fair timing for every benchmark here: contenders interleaved in one process, ratios taken round by round.

A number from one run and a number from another tell more about the machine's neighbours than about the code. So all
contenders run in every round, in an order that changes, and what is compared is their ratio within a round: what slows
a round slows both sides of its ratio.
"""

from __future__ import annotations

import gc
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PACKAGES = ("numpy", "onnxruntime", "openvino", "torch", "mtcnn")
OPENCV_FLAVOURS = tuple(f"opencv{contrib}-python{kind}" for contrib in ("-contrib", "") for kind in ("-headless", ""))


@dataclass(frozen=True)
class Ratio:
    """How many times longer one contender takes than another: the median over rounds, and its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} x ({self.low:.3f} .. {self.high:.3f})"


@dataclass(frozen=True)
class Results:
    """Seconds per call of each contender, one number per round; the same position is the same round."""

    seconds: dict[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Return the median seconds per call of one contender."""
        return statistics.median(self.seconds[name])

    def fastest(self, names: Iterable[str] | None = None) -> str:
        """Return the name with the smallest median among `names` (all, when left out)."""
        return min(names if names is not None else self.seconds, key=self.median)

    def ratio(self, name: str, base: str) -> Ratio:
        """Return the time of `name` over the time of `base`, taken round by round."""
        ratios = [a / b for a, b in zip(self.seconds[name], self.seconds[base], strict=True)]
        if len(ratios) < 2:
            return Ratio(ratios[0], ratios[0], ratios[0])
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return Ratio(statistics.median(ratios), low, high)

    def table(self, *, base: str | None = None, items: int | None = None, unit: str = "images") -> str:
        """Lay the contenders out as a Markdown table, the fastest first.

        Parameters
        ----------
        base : str, optional
            The contender that the ratios are against; the fastest when left out.
        items : int, optional
            How many items one call handles: adds a column of items per second.
        unit : str
            What an item is called.
        """
        base = base or self.fastest()
        rate = f" {unit}/s |" if items else ""
        lines = [f"| contender | ms per call |{rate} time / {base}, quartiles over rounds |",
                 f"| --- | ---: |{' ---: |' if items else ''} --- |"]
        for name in sorted(self.seconds, key=self.median):
            seconds = self.median(name)
            cell = f" {items / seconds:.1f} |" if items else ""
            lines.append(f"| {name} | {seconds * 1e3:.2f} |{cell} {self.ratio(name, base)} |")
        return "\n".join(lines)


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 10,
    warmup: int = 1,
    shortest: float = 0.02,
    pause: float = 0.0,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Results:
    """Time callables against each other, one after another in every round.

    Parameters
    ----------
    contenders : mapping of str to callable
        What to time; called without arguments.
    repeats : int
        Rounds. Each contender is timed once in each.
    warmup : int
        Untimed calls of each contender before the first round; at least one, which also sets how many calls a timing
        takes together.
    shortest : float
        Seconds that one timing should last at least: short callables are called several times in a row.
    pause : float
        Seconds to wait before each timing. Thread pools spin for a while after their last task (ONNX Runtime's and
        OpenVINO's do) and would take time from whoever comes next.
    seed : int
        Of the order, which is drawn anew for every round.
    clock : callable
        What tells the time in seconds. `time.process_time` counts what this process's threads compute: the ratios to
        look at on a machine that is busy with other things, and blind to cores left idle.

    Returns
    -------
    Results
        Seconds per call, one number per round and contender.
    """
    if not contenders:
        raise ValueError("nothing to time")
    calls = {}
    for name, call in contenders.items():
        for _ in range(max(1, warmup)):
            start = clock()
            call()
            took = clock() - start
        calls[name] = max(1, round(shortest / max(took, 1e-9)))
    order = list(contenders)
    shuffle = random.Random(seed).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(repeats):
            shuffle(order)
            for name in order:
                call = contenders[name]
                time.sleep(pause)
                start = clock()
                for _ in range(calls[name]):
                    call()
                seconds[name].append((clock() - start) / calls[name])
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return Results({name: tuple(values) for name, values in seconds.items()})


def machine_line(*packages: str) -> str:
    """Return one line that names the machine and the installed versions of what is measured (and of `packages`)."""
    parts = [_processor(), f"{len(_usable_processors())} cores", f"{platform.system()} {platform.machine()}",
             f"Python {platform.python_version()}"]
    for package in (*OPENCV_FLAVOURS, *PACKAGES, *packages):
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(parts)


def _usable_processors() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows
        return set(range(os.cpu_count() or 1))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
