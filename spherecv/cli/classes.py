"""`spherecv evaluate classify`: classes of images over folds, with an A-Softmax head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options, subjects
from spherecv.cli.counting import counted
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spherecv.evaluate.classification import ClassFigures
    from spherecv.train.data import Dataset


def classify_folds(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Aligned crops, as CLASS/IMAGE.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="PROTOTXT,CAFFEMODEL or a Caffe model of `spherecv models list`.")
    ] = "sphereface-mini",
    folds: Annotated[int, typer.Option("--folds", help="Tested in turn.")] = 10,
    subject: Annotated[
        str | None,
        typer.Option("--subject", help="Regular expression of the person in an image's path; nobody is in two folds."),
    ] = None,
    iterations: Annotated[int, typer.Option("--iterations", help="Of training, in each fold.")] = 300,
    margin: Annotated[int, typer.Option("--margin", help="m of A-Softmax, 1..4.")] = 4,
    base_lr: Annotated[float, typer.Option("--base-lr", help="Falls along half a cosine.")] = 0.01,
    clip: Annotated[
        float, typer.Option("--clip-gradients", help="Longest gradient; below 0 for any. Long embeddings need it.")
    ] = 10.0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per iteration.")] = 32,
    freeze: Annotated[
        list[str] | None, typer.Option("--freeze", help="Layers that stay, as in conv1_*.", show_default=False)
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Scale images to the net's size.")] = False,
    replicates: subjects.Replicates = 1000,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the confusion matrix and the figures into this folder.")
    ] = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    seed: Annotated[int, typer.Option("--seed", help="Of folds, data order and new weights.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Closed-set classification: in each fold the net goes on training on the others with an A-Softmax head.

    By people (--subject) nobody is in training and test, as on CK+; otherwise every class is dealt out over the folds.

    Examples:

      spherecv evaluate classify ck+/ --subject 'S[0-9]+' --folds 10

      spherecv evaluate classify people/ --folds 5 --iterations 500
    """
    from spherecv.evaluate.classification import class_figures, class_folds, groups_of
    from spherecv.train.data import open_dataset

    if subject is not None and not folder.is_dir():
        raise InvalidArgumentError(f"--subject reads people off the paths of a folder, and {folder} is none")
    data = open_dataset(folder).check()
    names = [Path(item.path).relative_to(folder).as_posix() for item in data.items] if subject is not None else []
    groups = None if subject is None else groups_of(names, subject)
    labels = data.labels()
    numbers = class_folds(labels, folds, groups=groups, seed=seed)
    predicted = labels.copy()
    settings: dict[str, Any] = {"margin": margin, "batch_size": batch_size, "frozen": tuple(freeze or ())}
    with counted("folds") as progress:
        for fold in range(folds):
            tested = numbers == fold
            parts = [data.subset(mask.nonzero()[0].tolist()) for mask in (~tested, tested)]
            solver = {"iterations": iterations, "base_lr": base_lr, "clip": clip, "seed": seed}
            predicted[tested] = _fold(model, parts, solver, resize, device, threads, settings)
            progress(fold + 1, folds)
    figures = class_figures(labels, predicted, numbers, data.names, groups=groups, replicates=replicates, seed=seed)
    answer = {"model": model, "folder": str(folder), "by": subject or "images", **figures.to_dict()}
    if report is not None:
        _report(report, figures, answer)
    typer.echo(json.dumps(answer) if as_json else f"{model}: {figures}")


def _fold(
    model: str,
    parts: Sequence[Dataset],
    solving: dict[str, Any],
    resize: bool,
    device: str,
    threads: int | None,
    settings: dict[str, Any],
) -> Any:
    from spherecv.cli.train.finetune import files_of
    from spherecv.train.data import Augmentation, View
    from spherecv.train.finetune import open_finetuning
    from spherecv.train.policies import Policy
    from spherecv.train.predicting import predict
    from spherecv.train.recipes import deployed
    from spherecv.train.solver import SolverSettings

    prototxt, caffemodel = files_of(model)
    solver = SolverSettings(
        policy=Policy("cosine", solving["base_lr"], max_iter=solving["iterations"]),
        momentum=0.9,
        weight_decay=5e-4,
        max_iter=solving["iterations"],
        clip_gradients=solving["clip"],
        random_seed=solving["seed"],
        snapshot_after_train=False,
    )
    _, channels, height, width = deployed(prototxt)[1]
    size = (height, width) if resize else (0, 0)
    view = View(height, width, resize=size, colour=channels == 3, augmentation=Augmentation(mirror=False))
    where: dict[str, Any] = {"resize": resize, "device": device, "threads": threads}
    with open_finetuning(prototxt, caffemodel, parts[0], solver, **where, **settings) as ready:
        ready.trainer.run()
        return predict(ready.trainer, parts[1], view)


def _report(folder: Path, figures: ClassFigures, answer: dict[str, Any]) -> None:
    from spherecv.evaluate.plots import confusion_png
    from spherecv.files import write_bytes

    write_bytes(folder / "confusion.png", confusion_png(figures.names, figures.confusion))
    write_bytes(folder / "report.json", (json.dumps(answer) + "\n").encode())
    typer.echo(f"wrote {folder / 'confusion.png'}", err=True)
