"""`spherecv train run`: a training as a Caffe solver prototxt says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options
from spherecv.cli.train import choices, outcome
from spherecv.cli.train.processes import own_rank, together
from spherecv.errors import InvalidArgumentError


def run(
    solver: Annotated[Path, typer.Argument(metavar="SOLVER", help="A solver prototxt.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Images, in place of the prototxt's list; may be repeated.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A caffemodel to start from.", show_default=False)
    ] = None,
    resume: choices.Resume = None,
    device: options.Device = "cpu",
    gpus: Annotated[
        str | None, typer.Option("--gpus", help="GPUs to train on together, as in 0,1.", show_default=False)
    ] = None,
    processes: choices.Processes = 1,
    threads: options.Threads = None,
    workers: choices.Workers = 1,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="In place of the prototxt's.", show_default=False)
    ] = None,
    max_iter: Annotated[int | None, typer.Option("--max-iter", help="In place of the solver's.")] = None,
    base_lr: Annotated[float | None, typer.Option("--base-lr", help="In place of the solver's.")] = None,
    snapshot: choices.Snapshot = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Of snapshots, log and table.")] = None,
    augment: choices.Augment = None,
    exact: Annotated[bool, typer.Option("--exact-margin", help="The margin's true gradient.")] = False,
    skip_limit: choices.SkipLimit = 100,
    as_json: options.Json = False,
) -> None:
    """Train as a Caffe solver prototxt says: what `sphereface_train.sh` did.

    Log, table and plot of the loss lie beside the snapshots.

    Examples:

      spherecv train run sphereface_solver.prototxt --data casia-112x96/

      spherecv train run sphereface_solver.prototxt --resume result/sphereface_model_iter_4000.solverstate
    """
    from spherecv.train.run import open_run

    cards = _numbers("--gpus", gpus) if gpus else []
    with together(len(cards) or processes):
        rank = own_rank()
        wanted = {"max_iter": max_iter, "base_lr": base_lr, "snapshot": snapshot, "snapshot_prefix": prefix}
        changes = {name: value for name, value in wanted.items() if value is not None}
        log = outcome.open_log(prefix or _prefix_of(solver), rank)
        with open_run(
            solver,
            data=tuple(data or ()),
            weights=weights,
            resume=resume,
            device="cuda" if gpus else device,
            gpu=cards[rank] if cards else 0,
            threads=threads,
            workers=workers,
            batch_size=batch_size,
            augmentation=choices.augmentation(augment),
            exact_margin=exact,
            skip_limit=skip_limit,
            log=log,
            **changes,
        ) as ready:
            if ready.weights is not None and rank == 0:
                typer.echo(f"weights: {ready.weights}", err=True)
            loss = ready.trainer.run()
            if rank == 0:
                outcome.finish(ready.trainer, prefix or _prefix_of(solver), loss, as_json)


def _numbers(option: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InvalidArgumentError(f"{option} must be numbers with commas between, as in 0,1, but got {text!r}")
    return [int(part) for part in parts]


def _prefix_of(solver: Path) -> str:
    from spherecv.train.solver import SolverSettings

    return SolverSettings.from_prototxt(solver).snapshot_prefix
