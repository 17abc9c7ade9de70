"""`spherecv train distill`: a small net learns the embeddings of a large one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options
from spherecv.cli.counting import counted
from spherecv.cli.train import choices, outcome
from spherecv.cli.train.processes import own_rank, starts_others, together
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.train.teacher import TeacherRecipe


def distill(
    teacher: Annotated[Path, typer.Argument(metavar="TEACHER", help="An embedder in ONNX.")],
    data: choices.Data,
    student: Annotated[Path, typer.Option("--student", help="The prototxt of the net that learns.")],
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="A TOML with the settings of the run.", show_default=False)
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="How the teacher wants its input: a recipe's name, or a .toml file.  [default: the settings' table "
            "teacher]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of what is learnt.")] = Path("distilled"),
    epochs: Annotated[float | None, typer.Option("--epochs", help="In place of the recipe's.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A caffemodel the student starts from.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="The teacher's embeddings (.npz).  [default: in OUT]")
    ] = None,
    resume: choices.Resume = None,
    device: options.Device = "cpu",
    processes: choices.Processes = 1,
    threads: options.Threads = None,
    workers: choices.Workers = 1,
    snapshot: choices.Snapshot = None,
    skip_limit: choices.SkipLimit = 100,
    as_json: options.Json = False,
) -> None:
    """Teach a small net the embeddings of a large one, on aligned faces without labels.

    Example:

      spherecv train distill teacher.onnx faces-112/ --student mini.prototxt --settings mini.toml -o mini/

      spherecv train distill sface.onnx faces-112/ --student mini.prototxt --recipe sface -o mini/
    """
    from dataclasses import replace

    from spherecv.train.data import open_dataset
    from spherecv.train.distill import DistillRecipe, cached_targets, open_distillation, with_mixtures
    from spherecv.train.recipes import save
    from spherecv.train.teacher import Teacher

    settings = DistillRecipe() if settings_file is None else DistillRecipe.from_toml(settings_file)
    if recipe is not None:
        settings = replace(settings, teacher=_teacher_recipe(recipe))
    if epochs is not None:
        settings = replace(settings, epochs=epochs)
    stored = cache or out / "teacher.npz"
    with counted("faces are mixed") as progress:
        dataset = with_mixtures(open_dataset(*data), settings, out, progress)
    if starts_others(processes) and not settings.same_view:
        # With all threads, as nobody trains yet; the others find what the first has stored.
        with counted("the teacher embeds") as progress:
            cached_targets(Teacher(teacher, settings.teacher), dataset, settings, stored, progress)
    every = max(1, len(dataset.items) // settings.batch_size)
    with (
        together(processes),
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
            log=outcome.open_log(str(out / "snapshot"), own_rank()),
            progress=progress,
            snapshot=every if snapshot is None else snapshot,
            display=20,
            snapshot_prefix=str(out / "snapshot"),
        ) as trainer,
    ):
        final = trainer.run()
        if trainer.group.rank == 0:
            save(trainer.net, out / "deploy.prototxt", out / "model.caffemodel")
            outcome.finish(trainer, str(out / "snapshot"), final, as_json, wrote=out / "model.caffemodel")


def _teacher_recipe(name: str) -> TeacherRecipe:
    """Return a recipe of the manifest, or of a file, in the teacher's words."""
    from spherecv.train.teacher import TeacherRecipe
    from spherecv.zoo import get_recipe

    try:
        recipe = get_recipe(name)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{error}; a file with the settings of the run goes to --settings") from None
    if not isinstance(recipe.mean, tuple):
        raise InvalidArgumentError("mean must be a number for each channel to distil, but is an image")
    height, width = recipe.size
    std = tuple(1.0 / scale for scale in recipe.scale)
    return TeacherRecipe(height=height, width=width, rgb=recipe.color == "RGB", mean=recipe.mean, std=std)
