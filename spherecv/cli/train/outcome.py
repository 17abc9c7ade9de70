"""What a training leaves behind: its log, its table and plot, and the answer of the command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from spherecv.train.log import Log
    from spherecv.train.trainer import Trainer


def open_log(prefix: str, rank: int = 0) -> Log:
    """Open log and table at a prefix; of several processes only the first writes them."""
    from spherecv.train.log import Log

    return Log(f"{prefix}.log", f"{prefix}.csv", live=True) if rank == 0 else Log()


def finish(
    trainer: Trainer,
    prefix: str,
    loss: float,
    as_json: bool,
    *,
    wrote: Path | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Plot the loss, and say how the training ended; `wrote` is the model where it is no snapshot, `more` for JSON."""
    from spherecv.errors import MissingDependencyError
    from spherecv.train.log import plot_loss

    skipped = list(getattr(trainer.batches, "skipped", {}))
    for reason in skipped[:10]:
        typer.echo(f"warning: skipped: {reason}", err=True)
    plot: Path | None
    try:
        plot = plot_loss(f"{prefix}.csv", f"{prefix}.png")
    except MissingDependencyError:
        plot = None  # the table is there; the plot is an extra
    answer = {
        "iterations": trainer.iteration,
        "loss": loss,
        "skipped": len(skipped),
        "model": str(wrote) if wrote else f"{prefix}_iter_{trainer.iteration}.caffemodel",
        "table": f"{prefix}.csv",
        "plot": None if plot is None else str(plot),
        **(more or {}),
    }
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"{answer['model']}: loss {loss:.4g} after {trainer.iteration} iterations; table {prefix}.csv")
