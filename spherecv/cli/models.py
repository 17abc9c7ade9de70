"""`spherecv models`: the known models, their terms, files and downloads, and models of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.zoo import ModelInfo
    from spherecv.zoo.model import KnownPrecision, KnownThreshold

Name = Annotated[str, typer.Argument(metavar="NAME", help="A model of `spherecv models list`.")]

app = typer.Typer(no_args_is_help=True, help="Models by name: those that SphereCV knows, and your own.")


@app.command("list")
def list_models(
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="embedder or detector; both by default.",
            autocompletion=options.one_of("embedder", "detector"),
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the models, with their licence, their terms of use, and whether they are on this machine."""
    from spherecv.zoo import model_info, model_names

    if kind not in (None, "embedder", "detector"):
        raise InvalidArgumentError(f"--kind must be embedder or detector, but got {kind!r}")
    infos = [model_info(name) for name in model_names(kind)]
    if as_json:
        typer.echo(json.dumps([_entry(info) for info in infos]))
        return
    _print_table(infos)


@app.command("info")
def info_of_model(
    name: Name,
    *,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Addresses and hashes of the files, the recipe's values, every threshold with its interval, what "
            "precisions lose at each, and the model's card.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show a model's terms, files, recipe and thresholds, and what these were measured on.

    Examples:

      spherecv models info sface

      spherecv models info sface --all
    """
    from spherecv.zoo import model_info

    info = model_info(name)
    if as_json:
        typer.echo(json.dumps(_entry(info)))
        return
    typer.echo("\n".join(_description(info) if everything else _summary(info)))


@app.command("download")
def download(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models of `spherecv models list`.")],
) -> None:
    """Download models, or what is missing or broken of them. An interrupted download resumes.

    Examples:

      spherecv models download sface

      spherecv models download sphereface-20 yunet
    """
    from spherecv.zoo import fetch, model_info

    # All names first: a slip in the second must not come to light after the first 90 MB.
    for info in [model_info(name) for name in names]:
        typer.echo(f"{info.name}: {info.licence}. {info.terms}")
        for role, path in fetch(info).items():
            typer.echo(f"  {role}: {path}")


@app.command("path")
def path_of_model(name: Name, as_json: options.Json = False) -> None:
    """Print where the files of a model lie or belong, one a line. Exit code 2 if one is missing or wrong."""
    from spherecv.zoo import expected_paths, locate, state_of

    if as_json:
        paths = {role: str(path) for role, path in expected_paths(name).items()}
        typer.echo(json.dumps({"name": name, "state": state_of(name), "paths": paths}))
        return
    for path in expected_paths(name).values():
        typer.echo(path)
    locate(name)


@app.command("add")
@options.grouped
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: a-z, 0-9, dot and dash.")],
    *,
    prototxt: options.Prototxt = None,
    caffemodel: options.Caffemodel = None,
    onnx: Annotated[Path | None, typer.Option("--onnx", help="An ONNX model instead.", show_default=False)] = None,
    recipe: options.Recipe = None,
    calibration: options.Calibration = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a model of your own of that name.")] = False,
) -> None:
    """Keep a model of your own under a name, which then works everywhere that a model is named.

    Its files are copied and its hashes kept. It is opened once first: what could not be used is not kept. What
    `spherecv calibrate` measured of it gives it thresholds and a probability.

    Examples:

      spherecv models add door --prototxt door.prototxt --caffemodel door.caffemodel --recipe sphereface

      spherecv models add door --onnx door.onnx --recipe door.toml --calibration calibration.toml --replace
    """
    from spherecv.config import PipelineConfig
    from spherecv.thresholds import Calibration
    from spherecv.zoo import add_model

    model = options.model_of(None, prototxt, caffemodel)
    if (model is None) == (onnx is None):
        raise InvalidArgumentError("give --prototxt and --caffemodel, or --onnx")
    config = PipelineConfig(model or str(onnx), recipe=recipe)
    config.open_embedder()
    source = config.source
    if calibration is not None:
        measured = Calibration.load(calibration)
        measured.check(model=name, model_key=source.key, metric=measured.metric, detector=measured.detector)
    info = add_model(name, source.files, recipe=source.recipe, calibration=calibration, replace=replace)
    known = "with its calibration" if calibration else "without a threshold: measure one with `spherecv calibrate`"
    typer.echo(f"{info.name}: {_megabytes(info.size)}, recipe {source.recipe.fingerprint}, {known}")
    if info.licence != "not stated":
        typer.echo(f"licence {info.licence}. {info.terms}")


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="A model of your own.")]) -> None:
    """Remove a model of your own, with the copy of its files. Galleries that it filled stay."""
    from spherecv.zoo import remove_model

    remove_model(name)
    typer.echo(f"removed {name}")


def _entry(info: ModelInfo) -> dict[str, Any]:
    from spherecv.zoo import expected_paths, get_recipe, state_of

    paths = expected_paths(info)
    entry = {**info.to_dict(), "state": state_of(info)}
    for file in entry["files"]:
        file["path"] = str(paths[file["role"]]) if file["role"] in paths else None
    if info.recipe:
        recipe = get_recipe(info.recipe)
        entry["recipe"] = {**recipe.to_dict(), "fingerprint": recipe.fingerprint}
    return entry


def _print_table(infos: list[ModelInfo]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from spherecv.zoo import state_of

    table = Table(box=None, pad_edge=False)
    for column in ("model", "kind", "size", "state", "licence"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for info in infos:
        table.add_row(info.name, info.kind, _megabytes(info.size), state_of(info), info.licence)
    terms = Table(box=None, pad_edge=False, show_header=False)
    for info in infos:
        terms.add_row(info.name, Text(info.terms))  # Text: no markup, whatever brackets are in it
    console = Console()
    with console.capture() as answer:  # rich itself would end with exit code 1 where the reader goes away
        console.print(table, "\nTerms of use", terms)
    typer.echo(answer.get(), nl=False)
    typer.echo("\nModels of your own: `spherecv models add`; or their files and --recipe, without a name.")


def _head(info: ModelInfo) -> list[str]:
    from spherecv.zoo import state_of

    return [
        f"{info.name}: {info.title}",
        f"  kind       {info.kind}, {info.format}, {_megabytes(info.size)}, {state_of(info)}",
        f"  licence    {info.licence}",
        f"  terms      {info.terms}",
        f"  trained on {info.training_data}",
        f"  home       {info.homepage}",
    ]


def _summary(info: ModelInfo) -> list[str]:
    """What one reads before using a model, on one screen."""
    from spherecv.zoo import expected_paths, get_recipe

    paths = expected_paths(info)
    lines = _head(info) + [f"  {file.role:10} {paths[file.role]}" for file in info.files if file.role in paths]
    if info.recipe:
        recipe = get_recipe(info.recipe)
        lines.append(f"  recipe     {recipe.name}, fingerprint {recipe.fingerprint}")
    lines += _thresholds_at_a_glance(info)
    lines += [f"  precision  {_loss_in_short(loss)}" for loss in info.precisions]
    for row in info.clustering:
        found = f"precision {row.precision:.3f}, recall {row.recall:.3f}"
        lines.append(f"  grouping   {row.metric} distance {row.distance:g}: {found}")
    lines += _calibrated(info)
    return [*lines, "", f"`spherecv models info {info.name} --all` shows everything that is known of it."]


def _thresholds_at_a_glance(info: ModelInfo) -> list[str]:
    """One line for each rate, the default's first; below them what they were measured on, once."""
    rows: dict[tuple[str, bool, str], dict[str, list[KnownThreshold]]] = {}
    for row in sorted(info.thresholds, key=lambda row: -(row.far or 1)):
        data = row.dataset.partition(",")[0]
        place = f"on {data}, recipe {row.recipe}, detector {row.detector}"
        rows.setdefault((place, row.reproduced, row.source), {}).setdefault(row.chosen_for, []).append(row)
    lines = []
    for (place, reproduced, source), by_rate in rows.items():
        for chosen_for, alike in by_rate.items():
            measured = next((row.measured_far for row in alike if row.measured_far is not None), None)
            rate = "" if measured is None else f", FAR {measured:.3g}"
            distances = ", ".join(f"{row.metric} {row.threshold:.6g}" for row in alike)
            lines.append(f"  threshold  {distances}, for {chosen_for}{rate}")
        lines += [f"             {place}", f"             {_who_measured(reproduced)}: {source}"]
    return lines


def _calibrated(info: ModelInfo) -> list[str]:
    from spherecv.zoo import own_dir

    if info.calibration:
        return ["  calibration", *(own_dir() / info.name / info.calibration).read_text(encoding="utf-8").splitlines()]
    if info.recipe and not info.thresholds:
        return ["  thresholds none known: measure one with `spherecv calibrate`, or pass --threshold"]
    return []


def _description(info: ModelInfo) -> list[str]:
    """All that is known of a model."""
    from spherecv.zoo import expected_paths, get_recipe, models_dir

    paths = expected_paths(info)
    lines = _head(info)
    for file in info.files:
        lines.append(f"  {file.role:10} {paths.get(file.role, f'in the package {file.wheel}, which is not installed')}")
        lines += [f"             from {source}" for source in (*file.urls, file.index, file.manual) if source]
        lines += [f"             {algorithm} {digest}" for algorithm, digest in file.digests]
    if info.recipe:
        recipe = get_recipe(info.recipe)
        lines.append(f"  recipe     {recipe.name}, fingerprint {recipe.fingerprint}")
        values = {key: value for key, value in recipe.to_dict().items() if key != "name"}
        # A mean image is a line of a hundred thousand letters, which nobody reads.
        texts = {key: json.dumps(value) for key, value in values.items()}
        lines += [f"             {key} = {t if len(t) < 500 else t[:60] + '...'}" for key, t in texts.items()]
    lines += [line for row in info.thresholds for line in _threshold_lines(row.to_dict())]
    lines += [line for loss in info.precisions for line in _precision_lines(loss)]
    for row in info.clustering:
        lines.append(f"  grouping   {row.metric} distance {row.distance:g} (recipe {row.recipe}): {row.measured}")
    lines += _calibrated(info)
    if info.card:
        lines += ["", (models_dir() / info.card).read_text(encoding="utf-8")]
    return lines


def _threshold_lines(row: dict[str, Any]) -> list[str]:
    measured = "" if row["rate"] is None else f", measured {row['rate']:g}"
    if row["interval"]:
        measured += f" ({row['interval'][0]:g} to {row['interval'][1]:g} with 95 %)"
    return [
        f"  threshold  {row['metric']} {row['threshold']:.6g}, for {row['chosen_for']}{measured}",
        f"             on {row['dataset']}, {row['pairs']:,} pairs, recipe {row['recipe']}, detector {row['detector']}",
        f"             {_who_measured(row['reproduced'])}: {row['source']}",
    ]


def _who_measured(reproduced: bool) -> str:
    return "measured by this project" if reproduced else "NOT reproduced"


def _loss_in_short(loss: KnownPrecision) -> str:
    (accuracy, accuracy_then), (tar, tar_then) = loss.accuracy, loss.tar
    rates = f"accuracy {accuracy_then:.2%} (float32 {accuracy:.2%}), TAR at FAR 0.001 {tar_then:.2%} ({tar:.2%})"
    return f"{loss.precision}: {rates}"


def _precision_lines(loss: KnownPrecision) -> list[str]:
    mean, least = loss.cosine
    kept = "may" if loss.is_comparable else "may not"
    lines = [
        f"  precision  {_loss_in_short(loss)}",
        f"             cosine to float32 {mean:.5f}, at least {least:.5f}; {kept} be compared with float32",
        f"             on {loss.dataset}, detector {loss.detector}, {' and '.join(loss.backends)}: {loss.source}",
    ]
    return lines + [
        f"             FAR at {row.metric} {row.threshold:.6g}: {row.measured:.3g} (float32 {row.far:.3g}, mixed "
        f"{row.mixed:.3g})"
        for row in loss.shifts
    ]


def _megabytes(size: int | None) -> str:
    if size is None:
        return "size unknown"
    return f"{size / 1e6:.1f} MB"
