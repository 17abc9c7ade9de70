"""`spherecv evaluate`: protocols from the literature, and pairs of your own; figures with intervals, and a report."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from spherecv.cli import options, subjects
from spherecv.cli.bins import evaluate_bin
from spherecv.cli.classes import classify_folds
from spherecv.cli.counting import counted
from spherecv.cli.featuresets import megaface_features, trillion
from spherecv.cli.ijb import ijb
from spherecv.cli.megaface import megaface
from spherecv.cli.nist import nist
from spherecv.cli.rfw import rfw
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from spherecv.evaluate import Experiment, Subject

app = typer.Typer(no_args_is_help=True, help="Measure a model: the protocols of the literature, or pairs of your own.")
app.command("megaface")(megaface)
app.command("megaface-features")(megaface_features)
app.command("trillion")(trillion)
app.command("bin")(evaluate_bin)
app.command("rfw")(rfw)
app.command("ijb")(ijb)
app.command("nist")(nist)
app.command("classify")(classify_folds)

Images = Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of the images, as PERSON/IMAGE.")]
Groups = Annotated[
    Path | None,
    typer.Option("--groups", help="CSV with group columns (age, sex, ...): adds false match rates by group."),
]
GroupImages = Annotated[
    Path | None, typer.Option("--group-images", help="Folder of the group table's images: ready-made crops.")
]
GroupBy = Annotated[list[str] | None, typer.Option("--group-by", help="A column of the table; several times for more.")]


@app.command("lfw")
@options.grouped
def lfw(
    images: Images,
    pairs: Annotated[Path, typer.Option("--pairs", help="pairs.txt (view 2) or pairsDevTest.txt (view 1), or .mat.")],
    training_pairs: Annotated[
        Path | None, typer.Option("--training-pairs", help="pairsDevTrain.txt: chooses the threshold of view 1.")
    ] = None,
    *,
    subject: subjects.SubjectOptions,
    embeddings: subjects.Embeddings = None,
    replicates: subjects.Replicates = 1000,
    report: subjects.Report = None,
    groups: Groups = None,
    group_images: GroupImages = None,
    group_by: GroupBy = None,
    as_json: options.Json = False,
) -> None:
    """LFW view 2, or view 1, exactly as the SphereFace authors evaluate, and without their refinements.

    Examples:

      spherecv evaluate lfw lfw/ --pairs pairs.txt --report lfw-report/

      spherecv evaluate lfw lfw/ --pairs pairsDevTest.txt --training-pairs pairsDevTrain.txt -m sphereface-20
    """
    from spherecv.evaluate.run import evaluate_lfw

    def run(one: Subject, saved: Any, progress: Any) -> Experiment:
        return evaluate_lfw(
            images,
            pairs,
            one,
            training_pairs=training_pairs,
            saved=saved,
            replicates=replicates,
            progress=progress,
        )

    chosen = subject.subjects()
    _answer(_run(run, chosen, embeddings, groups, group_images, group_by), report, as_json, replicates)


@app.command("ytf")
@options.grouped
def ytf(
    images: Annotated[Path, typer.Argument(metavar="FRAMES", help="Folder of frames, as PERSON/NUMBER/FRAME.")],
    splits: Annotated[Path, typer.Option("--splits", help="YTF's splits.txt.")],
    corrections: Annotated[
        Path | None,
        typer.Option("--corrections", help="Known label errors: two videos and same, different or drop, a line each."),
    ] = None,
    faulty: Annotated[
        Path | None,
        typer.Option("--faulty", help="Videos known to be faulty, PERSON/NUMBER a line: figures with and without."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Frames taken of each video, evenly spread; all by default.")
    ] = None,
    pooling: Annotated[str, typer.Option("--pooling", help="Of frames into a template: mean or quality.")] = "mean",
    *,
    subject: subjects.SubjectOptions,
    embeddings: subjects.Embeddings = None,
    replicates: subjects.Replicates = 1000,
    report: subjects.Report = None,
    as_json: options.Json = False,
) -> None:
    """YouTube Faces: 5,000 pairs of videos in 10 splits, a template for each video.

    Example:

      spherecv evaluate ytf frame_images_DB/ --splits splits.txt --frames 100 --faulty faulty-videos.txt
    """
    from spherecv.evaluate.run import evaluate_ytf

    def run(one: Subject, saved: Any, progress: Any) -> Experiment:
        return evaluate_ytf(
            images,
            splits,
            one,
            corrections=corrections,
            faulty=faulty,
            frames=frames,
            pooling=cast(Any, pooling),
            saved=saved,
            replicates=replicates,
            progress=progress,
        )

    chosen = subject.subjects()
    _answer(_run(run, chosen, embeddings), report, as_json, replicates)


@app.command("pairs")
@options.grouped
def pairs_command(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder that the list's paths are relative to.")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs", help="CSV, LFW's form, `path path label`, or the authors' .mat; all pairs without it."
        ),
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="cosine or euclidean.")] = "cosine",
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Largest distance accepted, chosen elsewhere.")
    ] = None,
    *,
    subject: subjects.OwnSubjectOptions,
    embeddings: subjects.Embeddings = None,
    replicates: subjects.Replicates = 1000,
    report: subjects.Report = None,
    groups: Groups = None,
    group_images: GroupImages = None,
    group_by: GroupBy = None,
    as_json: options.Json = False,
) -> None:
    """Pairs of your own, compared by the model's recipe as `spherecv verify` does.

    Without --pairs, every image of a PERSON/IMAGE folder is compared with every other, in blocks.

    Examples:

      spherecv evaluate pairs images/ --pairs images/pairs.csv --report my-report/

      spherecv evaluate pairs images/
    """
    from spherecv.cli.allpairs import compare_folder
    from spherecv.evaluate.run import evaluate_pairs
    from spherecv.metrics import check_metric

    if groups is not None and metric != "cosine":
        raise InvalidArgumentError("--groups compares by cosine: leave --metric as it is")
    listed = pairs
    if listed is None and (report is not None or groups is not None or threshold is not None or metric != "cosine"):
        raise InvalidArgumentError("--report, --groups, --threshold and --metric need a list: give --pairs")

    def run(one: Subject, saved: Any, progress: Any) -> Experiment:
        return evaluate_pairs(
            images,
            cast(Path, listed),
            one,
            metric=check_metric(metric),
            threshold=threshold,
            saved=saved,
            replicates=replicates,
            progress=progress,
        )

    chosen = subject.subjects()
    if listed is None:
        compare_folder(images, chosen, embeddings, replicates, as_json)
        return
    _answer(_run(run, chosen, embeddings, groups, group_images, group_by), report, as_json, replicates)


def _run(
    run: Callable[[Subject, Any, Any], Experiment],
    chosen: list[Subject],
    embeddings: Path | None,
    groups: Path | None = None,
    group_images: Path | None = None,
    group_by: list[str] | None = None,
) -> list[Experiment]:
    if (groups is None) != (group_images is None):
        raise InvalidArgumentError("--groups and --group-images go together: give both")
    experiments = []
    for subject in chosen:
        saved = subjects.saved_at(embeddings, subject, len(chosen) > 1)
        with counted(f"embedding, {subject.source.name}") as progress:
            experiment = run(subject, saved, progress)
        if groups is not None and group_images is not None:
            experiment = _with_groups(experiment, subject, groups, group_images, group_by or [])
        experiments.append(experiment)
    return experiments


def _with_groups(
    experiment: Experiment, subject: Subject, groups: Path, images: Path, columns: list[str]
) -> Experiment:
    """Add false match rates by group, at the threshold of the experiment's plain comparison, on ready-made crops."""
    from dataclasses import replace

    from spherecv.evaluate.run import evaluate_groups

    stages = subject.stages
    if len(experiment.variants) > 1:  # the last variant is the plain one, whose threshold is for the image alone
        stages = stages.with_recipe(replace(subject.source.recipe, mirror=False))
    cropped = replace(subject, stages=stages, face="whole")
    threshold = experiment.variants[-1].threshold
    saved = subjects.saved_at(None, cropped, several=False)
    with counted("embedding groups") as progress:
        rates = evaluate_groups(
            images, groups, cropped, threshold, columns=tuple(columns), saved=saved, progress=progress
        )
    note = f"false match rates by group: at the threshold of {experiment.variants[-1].name!r}, {threshold:.4f}"
    return replace(experiment, groups=rates, notes=(*experiment.notes, note))


def _answer(experiments: list[Experiment], report: Path | None, as_json: bool, replicates: int) -> None:
    from spherecv.evaluate.paired import compare_experiments

    compared = compare_experiments(experiments, replicates=replicates)
    if report is not None:
        from spherecv.evaluate.report import write_report

        page = write_report(report, experiments, comparisons=compared)
        typer.echo(f"wrote {page}", err=True)
    if as_json:
        rows = [{**one.to_dict(), "comparisons": []} for one in experiments]
        for (row, _), test in zip(combinations(rows, 2), compared, strict=True):
            row["comparisons"].append(test.to_dict())
        typer.echo(json.dumps(rows))
    else:
        typer.echo("\n\n".join(str(part) for part in (*experiments, *compared)))
