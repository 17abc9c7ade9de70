"""`spherecv train`: train, fine-tune, distil and export nets."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options
from spherecv.cli.counting import counted
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.train.data import Augmentation
    from spherecv.train.log import Log
    from spherecv.train.trainer import Trainer

app = typer.Typer(no_args_is_help=True, help="Train nets, with Caffe's own files.")

Device = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
Workers = Annotated[int, typer.Option("--workers", help="Processes that read pictures.")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Go on from this .solverstate.", show_default=False)]
Augment = Annotated[
    list[str] | None,
    typer.Option(
        "--augment", help="A variation, as in mirror=1, shift=4, blur=0.2; may be repeated.", show_default=False
    ),
]
Processes = Annotated[int, typer.Option("--processes", help="CPU processes that train together.")]
Snapshot = Annotated[int | None, typer.Option("--snapshot", help="Iterations between snapshots.", show_default=False)]
SkipLimit = Annotated[int, typer.Option("--skip-limit", help="Pictures that may be unreadable.")]
Data = Annotated[
    list[Path], typer.Argument(metavar="DATA...", help="Folders IDENTITY/IMAGE, tar shards, or list files.")
]


@app.command("show")
def list_what(
    folder: Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="A folder of runs.")] = None,
    as_json: options.Json = False,
) -> None:
    """List what can be trained, and with what; or with FOLDER, the snapshots that lie there."""
    answer = _snapshots(folder) if folder is not None else _catalogue()
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for title, entries in answer.items():
        typer.echo(f"{title}:")
        for name, about in entries.items():
            typer.echo(f"  {name:<14} {about}")


@app.command("run")
def run(
    solver: Annotated[Path, typer.Argument(metavar="SOLVER", help="A solver prototxt.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Pictures, in place of the prototxt's list; may be repeated.", show_default=False),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A caffemodel to start from.", show_default=False)
    ] = None,
    resume: Resume = None,
    device: Device = "cpu",
    gpus: Annotated[
        str | None, typer.Option("--gpus", help="GPUs to train on together, as in 0,1.", show_default=False)
    ] = None,
    processes: Processes = 1,
    threads: options.Threads = None,
    workers: Workers = 1,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="In place of the prototxt's.", show_default=False)
    ] = None,
    max_iter: Annotated[int | None, typer.Option("--max-iter", help="In place of the solver's.")] = None,
    base_lr: Annotated[float | None, typer.Option("--base-lr", help="In place of the solver's.")] = None,
    snapshot: Snapshot = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Of snapshots, log and table.")] = None,
    augment: Augment = None,
    exact: Annotated[bool, typer.Option("--exact-margin", help="The margin's true gradient.")] = False,
    skip_limit: SkipLimit = 100,
    as_json: options.Json = False,
) -> None:
    """Train as a Caffe solver prototxt says: what `sphereface_train.sh` did.

    Log, table and plot of the loss lie beside the snapshots.

    Examples:

      spherecv train run sphereface_solver.prototxt --data casia-112x96/

      spherecv train run sphereface_solver.prototxt --resume result/sphereface_model_iter_4000.solverstate
    """
    import os

    from spherecv.train.parallel import RANK, companions
    from spherecv.train.run import open_run

    cards = _numbers("--gpus", gpus) if gpus else []
    size = len(cards) or processes
    first = RANK not in os.environ
    with companions(size, _again()) if size > 1 and first else nullcontext():
        rank = int(os.environ.get(RANK, "0"))
        wanted = {"max_iter": max_iter, "base_lr": base_lr, "snapshot": snapshot, "snapshot_prefix": prefix}
        changes = {name: value for name, value in wanted.items() if value is not None}
        log = _log(prefix or _prefix_of(solver), rank)
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
            augmentation=_augmentation(augment),
            exact_margin=exact,
            skip_limit=skip_limit,
            log=log,
            **changes,
        ) as ready:
            if ready.weights is not None and rank == 0:
                typer.echo(f"weights: {ready.weights}", err=True)
            loss = ready.trainer.run()
            if rank == 0:
                _finish(ready.trainer, prefix or _prefix_of(solver), loss, as_json)


@app.command("finetune")
def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="PROTOTXT,CAFFEMODEL or a Caffe model of `spherecv models list`.")
    ],
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of what is learnt.")] = Path("finetuned"),
    loss: Annotated[str, typer.Option("--loss", help="See `spherecv train show`.")] = "a-softmax",
    margin: Annotated[int, typer.Option("--margin", help="m of A-Softmax, 1..4.")] = 4,
    iterations: Annotated[int, typer.Option("--iterations", help="How long.")] = 1000,
    base_lr: Annotated[float, typer.Option("--base-lr", help="Falls along half a cosine.")] = 0.01,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Pictures per iteration.")] = 32,
    freeze: Annotated[
        list[str] | None, typer.Option("--freeze", help="Layers that stay, as in conv1_*.", show_default=False)
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Scale pictures to the net's size.")] = False,
    resume: Resume = None,
    device: Device = "cpu",
    threads: options.Threads = None,
    workers: Workers = 1,
    snapshot: Snapshot = None,
    augment: Augment = None,
    skip_limit: SkipLimit = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of data order and new weights.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Go on training a net on your own aligned faces, one folder per identity.

    Example:

      spherecv train finetune sphereface-20 my-faces-112x96/ -o mine/ --freeze 'conv1_*' --freeze 'conv2_*'
    """
    from spherecv.train.data import open_dataset
    from spherecv.train.finetune import open_finetuning
    from spherecv.train.policies import Policy
    from spherecv.train.recipes import save
    from spherecv.train.solver import SolverSettings

    prototxt, caffemodel = _files_of(model)
    settings = SolverSettings(
        policy=Policy("cosine", base_lr, max_iter=iterations),
        momentum=0.9,
        weight_decay=5e-4,
        max_iter=iterations,
        snapshot=snapshot or 0,
        display=max(1, iterations // 100),
        average_loss=20,
        snapshot_prefix=str(out / "snapshot"),
        random_seed=seed,
    )
    with open_finetuning(
        prototxt,
        caffemodel,
        open_dataset(*data).check(),
        settings,
        loss=loss,
        margin=margin,
        batch_size=batch_size,
        frozen=tuple(freeze or ()),
        augmentation=_augmentation(augment),
        resize=resize,
        resume=resume,
        device=device,
        threads=threads,
        workers=workers,
        skip_limit=skip_limit,
        log=_log(str(out / "snapshot")),
    ) as ready:
        if ready.weights is not None:
            typer.echo(f"weights: {ready.weights}", err=True)
        final = ready.trainer.run()
        save(ready.trainer.net, out / "deploy.prototxt", out / "model.caffemodel")
        _finish(ready.trainer, str(out / "snapshot"), final, as_json, wrote=out / "model.caffemodel")


@app.command("distill")
def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="An embedder in ONNX.")],
    data: Data,
    student: Annotated[Path, typer.Option("--student", help="The prototxt of the net that learns.")],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="A TOML with the settings of the run.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of what is learnt.")] = Path("distilled"),
    epochs: Annotated[float | None, typer.Option("--epochs", help="In place of the recipe's.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A caffemodel the student starts from.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="The teacher's embeddings (.npz).  [default: in OUT]")
    ] = None,
    resume: Resume = None,
    device: Device = "cpu",
    processes: Processes = 1,
    threads: options.Threads = None,
    workers: Workers = 1,
    snapshot: Snapshot = None,
    skip_limit: SkipLimit = 100,
    as_json: options.Json = False,
) -> None:
    """Teach a small net the embeddings of a large one, on aligned faces without labels.

    Example:

      spherecv train distill teacher.onnx faces-112/ --student mini.prototxt --recipe mini.toml -o mini/
    """
    import os
    from dataclasses import replace

    from spherecv.train.data import open_dataset
    from spherecv.train.distill import DistillRecipe, cached_targets, open_distillation, with_mixtures
    from spherecv.train.parallel import RANK, companions
    from spherecv.train.recipes import save
    from spherecv.train.teacher import Teacher

    settings = DistillRecipe() if recipe is None else DistillRecipe.from_toml(recipe)
    if epochs is not None:
        settings = replace(settings, epochs=epochs)
    stored = cache or out / "teacher.npz"
    first = RANK not in os.environ
    with counted("faces are mixed") as progress:
        dataset = with_mixtures(open_dataset(*data), settings, out, progress)
    if processes > 1 and first and not settings.same_view:
        # With all threads, as nobody trains yet; the others find what the first has stored.
        with counted("the teacher embeds") as progress:
            cached_targets(Teacher(teacher, settings.teacher), dataset, settings, stored, progress)
    every = max(1, len(dataset.items) // settings.batch_size)
    with (
        companions(processes, _again()) if processes > 1 and first else nullcontext(),
        counted("the teacher embeds") as progress,
        open_distillation(
            Teacher(teacher, settings.teacher, threads=threads),
            dataset,
            student,
            settings,
            weights=weights,
            cache=stored,
            resume=resume,
            device=device,
            threads=threads,
            workers=workers,
            skip_limit=skip_limit,
            log=_log(str(out / "snapshot"), int(os.environ.get(RANK, "0"))),
            progress=progress,
            snapshot=every if snapshot is None else snapshot,
            display=20,
            snapshot_prefix=str(out / "snapshot"),
        ) as trainer,
    ):
        final = trainer.run()
        if trainer.group.rank == 0:
            save(trainer.net, out / "deploy.prototxt", out / "model.caffemodel")
            _finish(trainer, str(out / "snapshot"), final, as_json, wrote=out / "model.caffemodel")


@app.command("export")
def export_net(
    prototxt: Annotated[Path, typer.Argument(metavar="PROTOTXT", help="The net that was trained.")],
    caffemodel: Annotated[Path, typer.Argument(metavar="CAFFEMODEL", help="Weights of a snapshot.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; .prototxt and .caffemodel are added.")],
    size: Annotated[
        str | None, typer.Option("--size", help="Height x width of the input, as in 112x96.", show_default=False)
    ] = None,
    channels: Annotated[int, typer.Option("--channels", help="Of the input.")] = 3,
    as_json: options.Json = False,
) -> None:
    """Write a trained net for use: without data and loss, under the same names.

    Example:

      spherecv train export sphereface_model.prototxt iter_28000.caffemodel --size 112x96 -o mine
    """
    from spherecv.train.deploy import export

    shape = None if size is None else (1, channels, *_size(size))
    written = out.with_name(f"{out.name}.prototxt"), out.with_name(f"{out.name}.caffemodel")
    outputs = export(prototxt, caffemodel, *written, shape=shape)
    if as_json:
        typer.echo(json.dumps({"prototxt": str(written[0]), "caffemodel": str(written[1]), "outputs": outputs}))
    else:
        typer.echo(f"wrote {written[0]} and {written[1]}: outputs {', '.join(outputs)}")


def _again() -> list[str]:
    """Return this command line for another process: `spherecv` as a module call, or whatever -c this one runs."""
    words = sys.orig_argv[1:]
    entry = words.index("-c") if "-c" in words else None
    if entry is not None:
        return words[entry:]
    return ["-c", "from spherecv.cli import main; main()", *sys.argv[1:]]


def _numbers(option: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InvalidArgumentError(f"{option} must be numbers with commas between, as in 0,1, but got {text!r}")
    return [int(part) for part in parts]


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise InvalidArgumentError(f"--size must be HEIGHTxWIDTH, as in 112x96, but got {text!r}")
    return int(height), int(width)


def _catalogue() -> dict[str, dict[str, str]]:
    from spherecv.caffe.architectures import SPHEREFACE_UNITS
    from spherecv.train.data import Augmentation
    from spherecv.train.policies import POLICIES
    from spherecv.train.recipes import LOSSES

    return {
        "nets": {f"sphereface-{depth}": f"{depth} layers, 112x96, 512 numbers" for depth in SPHEREFACE_UNITS},
        "losses": {name: about for name, (about, _) in LOSSES.items()},
        "solvers": dict.fromkeys(("SGD", "Nesterov", "Adam"), ""),
        "policies": dict.fromkeys(POLICIES, ""),
        "augmentations": {name: f"off is {value!r}" for name, value in Augmentation().to_dict().items()},
    }


def _snapshots(folder: Path) -> dict[str, dict[str, str]]:
    if not folder.is_dir():
        raise InvalidArgumentError(f"{folder} is not a folder")
    found = sorted(folder.rglob("*.solverstate"), key=lambda path: path.stat().st_mtime)
    exact = {path: path.with_suffix(".resume.npz").exists() for path in found}
    about = {str(path): "resumes exactly" if exact[path] else "Caffe's: resumes without data order" for path in found}
    return {"snapshots": about}


def _augmentation(settings: list[str] | None) -> Augmentation | None:
    from spherecv.train.data import Augmentation

    if not settings:
        return None
    table: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            table[name.strip()] = float(value or 1)
        except ValueError:
            raise InvalidArgumentError(f"--augment must be NAME=NUMBER, but got {setting!r}") from None
    if "mirror" in table:
        table["mirror"] = bool(table["mirror"])
    return Augmentation.from_dict(table)


def _files_of(model: str) -> tuple[Path, Path]:
    prototxt, comma, caffemodel = model.partition(",")
    if comma:
        return Path(prototxt), Path(caffemodel)
    from spherecv.zoo import require

    files = require(model)
    if not {"prototxt", "caffemodel"} <= set(files):
        raise InvalidArgumentError(f"{model} is no Caffe model: only those can be fine-tuned")
    return files["prototxt"], files["caffemodel"]


def _prefix_of(solver: Path) -> str:
    from spherecv.train.solver import SolverSettings

    return SolverSettings.from_prototxt(solver).snapshot_prefix


def _log(prefix: str, rank: int = 0) -> Log:
    from spherecv.train.log import Log

    return Log(f"{prefix}.log", f"{prefix}.csv", live=True) if rank == 0 else Log()


def _finish(trainer: Trainer, prefix: str, loss: float, as_json: bool, *, wrote: Path | None = None) -> None:
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
    }
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"{answer['model']}: loss {loss:.4g} after {trainer.iteration} iterations; table {prefix}.csv")
