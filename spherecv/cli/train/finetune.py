"""`spherecv train finetune`: a net that is there goes on learning, from faces of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options
from spherecv.cli.train import choices, outcome
from spherecv.errors import InvalidArgumentError


def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="PROTOTXT,CAFFEMODEL or a Caffe model of `spherecv models list`.")
    ],
    data: choices.Data,
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
    resume: choices.Resume = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    workers: choices.Workers = 1,
    snapshot: choices.Snapshot = None,
    augment: choices.Augment = None,
    skip_limit: choices.SkipLimit = 100,
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

    prototxt, caffemodel = files_of(model)
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
        augmentation=choices.augmentation(augment),
        resize=resize,
        resume=resume,
        device=device,
        threads=threads,
        workers=workers,
        skip_limit=skip_limit,
        log=outcome.open_log(str(out / "snapshot")),
    ) as ready:
        if ready.weights is not None:
            typer.echo(f"weights: {ready.weights}", err=True)
        final = ready.trainer.run()
        save(ready.trainer.net, out / "deploy.prototxt", out / "model.caffemodel")
        outcome.finish(ready.trainer, str(out / "snapshot"), final, as_json, wrote=out / "model.caffemodel")


def files_of(model: str) -> tuple[Path, Path]:
    """Find the prototxt and caffemodel that a command line names."""
    prototxt, comma, caffemodel = model.partition(",")
    if comma:
        return Path(prototxt), Path(caffemodel)
    from spherecv.zoo import require

    files = require(model)
    if not {"prototxt", "caffemodel"} <= set(files):
        raise InvalidArgumentError(f"{model} is no Caffe model: only those can be fine-tuned")
    return files["prototxt"], files["caffemodel"]
