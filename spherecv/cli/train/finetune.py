"""`spherecv train finetune`: a net that is there goes on learning, from faces of your own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options
from spherecv.cli.counting import counted
from spherecv.cli.train import choices, outcome
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.train.data import Dataset
    from spherecv.train.finetune import FineTuning
    from spherecv.zoo import Recipe, Terms


def finetune(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="PROTOTXT,CAFFEMODEL or a Caffe model of `spherecv models list`.")
    ],
    data: choices.Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of what is learnt.")] = Path("finetuned"),
    recipe: options.Recipe = None,
    loss: Annotated[str, typer.Option("--loss", help="See `spherecv train show`.")] = "a-softmax",
    margin: Annotated[int, typer.Option("--margin", help="m of A-Softmax, 1..4.")] = 4,
    lambda_base: Annotated[
        float | None, typer.Option("--lambda-base", help="Of A-Softmax: where lambda starts.  [default: 20]")
    ] = None,
    lambda_min: Annotated[
        float | None,
        typer.Option("--lambda-min", help="Where it ends, half-way: lower is a harder margin.  [default: 5]"),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option("--iterations", help="At most.  [default: 8 times through the data, 60 to 4000]"),
    ] = None,
    base_lr: Annotated[
        float | None,
        typer.Option("--base-lr", help="Rises, then falls along half a cosine.  [default: 0.04; --head-only 0.003]"),
    ] = None,
    clip_gradients: Annotated[
        float, typer.Option("--clip-gradients", help="Longest gradient of all layers together; below 0: any.")
    ] = 5.0,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images per iteration.")] = 32,
    freeze: Annotated[
        list[str] | None, typer.Option("--freeze", help="Layers that stay, as in conv1_*.", show_default=False)
    ] = None,
    head_only: Annotated[bool, typer.Option("--head-only", help="Train the last layer only.")] = False,
    validate: Annotated[
        float,
        typer.Option(
            "--validate",
            help="Share of the people held out; the latest weights that tell them apart nearly best are kept; 0: none.",
        ),
    ] = 0.1,
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Find the faces and cut them out, as `verify` does.  [default: for images much larger than the net's]",
            show_default=False,
        ),
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Scale images to the net's size, whatever theirs.")] = False,
    resume: choices.Resume = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    workers: choices.Workers = 1,
    snapshot: choices.Snapshot = None,
    augment: choices.Augment = None,
    skip_limit: choices.SkipLimit = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of data order, held-out people and new weights.")] = 0,
    as_json: options.Json = False,
) -> None:
    """Go on training a net on faces of your own, one folder per person.

    Some people are held out; it ends with what became of their error rates, new thresholds, and how to use the weights.

    Examples:

      spherecv train finetune sphereface-mini my-faces/ -o mine/

      spherecv train finetune sphereface-20 images/ --align -o mine/ --freeze 'conv1_*' --freeze 'conv2_*'
    """
    from spherecv.cli.train import result, sizes
    from spherecv.train.backend import check_installed
    from spherecv.train.data import open_dataset
    from spherecv.train.finetune import VARIED, annealed, open_finetuning, plan
    from spherecv.train.recipes import save
    from spherecv.train.validation import with_pairs
    from spherecv.zoo import Learnt, ModelSource

    check_installed()
    files = files_of(model)
    source = ModelSource.from_caffe(*files, recipe=recipe or _recipe_of(model, files))
    if align and recipe is None and source.recipe.name == "custom":
        raise InvalidArgumentError("--align needs to know where the net wants the landmarks: pass --recipe")
    dataset, fit = sizes.fitted(open_dataset(*data).check(), data, source.recipe, out, align=align, resize=resize)
    for line in fit.notes:
        typer.echo(line, err=True)
    settings = plan(
        len(dataset.items),
        batch_size=batch_size,
        iterations=iterations,
        base_lr=base_lr,
        head_only=head_only,
        clip_gradients=clip_gradients,
        snapshot=snapshot or 0,
        snapshot_prefix=str(out / "snapshot"),
        random_seed=seed,
    )
    with open_finetuning(
        *files,
        dataset,
        settings.replaced(display=max(1, settings.max_iter // 100)),
        loss=loss,
        margin=margin,
        schedule=annealed(settings.max_iter, base=lambda_base, minimum=lambda_min),
        batch_size=batch_size,
        frozen=tuple(freeze or ()),
        head_only=head_only,
        validate_share=validate,
        augmentation=choices.augmentation(augment) or VARIED,
        pixels=sizes.pixels_of(source.recipe),
        resize=fit.resize,
        resume=resume,
        device=device,
        threads=threads,
        workers=workers,
        skip_limit=skip_limit,
        log=outcome.open_log(str(out / "snapshot")),
    ) as ready:
        _say_start(ready, dataset)
        written = out / "deploy.prototxt", out / "model.caffemodel"
        terms = _terms_of(model, files)
        learnt = Learnt.of(result.contents_of(ready.known, fit, out)) | Learnt.beside(files[1])

        def keep() -> None:
            save(ready.trainer.net, *written)
            terms.save(written[1])
            learnt.save(written[1])

        final = ready.run(on_best=keep)
        with counted("measuring thresholds") as progress:
            able = len(with_pairs(dataset))
            found = result.conclude(ready, written, source.recipe, fit, out, able=able, progress=progress)
        outcome.finish(ready.trainer, str(out / "snapshot"), final, as_json, wrote=written[1], more=found.to_dict())
        if not as_json:
            typer.echo(found.text())


def _say_start(ready: FineTuning, dataset: Dataset) -> None:
    trainer = ready.trainer
    held = 0 if ready.held is None else ready.held.classes
    typer.echo(f"weights: {ready.weights}; {ready.rescaling}", err=True)
    typer.echo(
        f"{len(dataset.items)} images of {dataset.classes} people, {held} of them held out; at most "
        f"{trainer.settings.max_iter} iterations at a rate of {trainer.settings.policy.base_lr:g}",
        err=True,
    )


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


def _terms_of(model: str, files: tuple[Path, Path]) -> Terms:
    """Return under which terms the weights stand that a model's are tuned to."""
    from spherecv.zoo import Terms, identify, model_info

    info = identify({"prototxt": files[0], "caffemodel": files[1]}) if "," in model else model_info(model)
    return Terms.tuned_from(info) if info is not None else Terms.beside(files[1]) or Terms()


def _recipe_of(model: str, files: tuple[Path, Path]) -> str | Recipe | None:
    """Return how a model wants its input: as the manifest says, else as SphereFace, of the net's size."""
    from spherecv.train.recipes import deployed
    from spherecv.zoo import get_recipe, model_info
    from spherecv.zoo.source import identify

    if "," not in model:
        name = model_info(model).recipe
        return None if name is None else get_recipe(name)
    if identify({"prototxt": files[0], "caffemodel": files[1]}) is not None:
        return None
    height, width = deployed(files[0])[1][2:]
    guess = replace(get_recipe("sphereface"), size=(height, width))
    typer.echo(
        f"how {files[0]} wants its input is not known: taken as SphereFace's, (pixel - 127.5) / 128 in BGR; --recipe "
        "says otherwise",
        err=True,
    )
    return guess if guess.size == get_recipe("sphereface").size else replace(guess, name="custom")
