"""`spherecv evaluate bin`: the field's verification sets, as files of ready-made crops, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options, subjects
from spherecv.cli.counting import counted
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.evaluate import Subject
    from spherecv.evaluate.croprun import CropFigures
    from spherecv.evaluate.cropsets import BinSet, FolderSet
    from spherecv.evaluate.paired import PairedTest


@options.grouped
def evaluate_bin(
    sets: Annotated[
        list[str],
        typer.Argument(metavar="SET...", help="InsightFace's .bin files, or FOLDER,PAIRS: crops and their list."),
    ],
    *,
    subject: subjects.CropOptions,
    flip: Annotated[
        str, typer.Option("--flip", help="The mirror image's embedding: add (InsightFace), concatenate or none.")
    ] = "add",
    folds: Annotated[int, typer.Option("--folds", help="Stretches of the list that are tested in turn.")] = 10,
    far: Annotated[float, typer.Option("--far", help="False accept rate of the validation rate.")] = 1e-3,
    distance: Annotated[
        str, typer.Option("--distance", help="squared Euclidean, or the angle over pi: FaceNet's metrics 0 and 1.")
    ] = "squared",
    subtract_mean: Annotated[
        bool, typer.Option("--subtract-mean", help="Subtract the mean of the other folds, as FaceNet's option does.")
    ] = False,
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="Folder to keep embeddings in.  [default: the cache]")
    ] = None,
    replicates: subjects.Replicates = 1000,
    report: subjects.Report = None,
    as_json: options.Json = False,
) -> None:
    """LFW, CFP-FP, AgeDB-30, CALFW, CPLFW, VGG2-FP, ... as .bin files: accuracy over 10 folds, mean and deviation.

    VAL is the share of genuine pairs accepted at the threshold that gives the FAR on the other folds; AUC and EER as
    FaceNet's script prints them.

    Nothing in a .bin is run: only lists of bytes and booleans are read from it, whatever wrote it. An
    interrupted run resumes. Several models are compared on the same pairs (McNemar, paired bootstrap).

    Examples:

      spherecv evaluate bin lfw.bin cfp_fp.bin agedb_30.bin -m sphereface-20

      spherecv evaluate bin lfw.bin -m sphereface-20 -m sface --report bin-report/

      spherecv evaluate bin calfw-112x112/,pairs_CALFW.txt cfp-112x96/,cfp/Protocol/Split/FP
    """
    from spherecv.evaluate.croprun import print_table
    from spherecv.evaluate.cropsets import open_set

    chosen = subject.subjects()
    check_flip(flip)
    opened = [open_set(name, folds=folds) for name in sets]
    how = {"flip": flip, "far": far, "distance": distance, "subtract_mean": subtract_mean, "replicates": replicates}
    results = [[_run(mine, one, embeddings, how) for one in opened] for mine in chosen]
    tests = paired_tests(results, replicates)
    if report is not None:
        write_pages(report, results, tests)
    if as_json:
        rows = [found.to_dict() for row in results for found in row]
        typer.echo(json.dumps({"results": rows, "comparisons": [{"set": n, **t.to_dict()} for n, t in tests]}))
        return
    lines = [print_table(results), ""]
    lines += [f"note: {found.name}: {note}" for row in results for found in row for note in found.experiment.notes]
    lines += [f"{name}: {test}" for name, test in tests]
    typer.echo("\n".join(lines).rstrip())


def check_flip(flip: str) -> None:
    """Refuse another value of `--flip`."""
    from typing import get_args

    from spherecv.evaluate.croprun import Flip

    if flip not in get_args(Flip):
        raise InvalidArgumentError(f"--flip must be one of {', '.join(get_args(Flip))}, but got {flip!r}")


def row_file(folder: Path | None, subject: Subject, flip: str, *parts: str) -> str:
    """Where rows of embeddings are kept: in the folder that the option says, or in the cache."""
    import hashlib

    from spherecv.zoo import cache_dir

    text = "\n".join([subject.source.key, subject.source.recipe.fingerprint, str(flip != "none"), *parts])
    root = cache_dir() / "embeddings" if folder is None else folder
    return str(root / f"{subject.source.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.f32")


def _run(
    subject: Subject, source: BinSet | FolderSet, folder: Path | None, how: dict[str, Any]
) -> CropFigures:
    from spherecv.evaluate.croprun import evaluate_crops

    saved = row_file(folder, subject, how["flip"], json.dumps(source.stamp(), sort_keys=True))
    with counted(f"{source.name}, {subject.source.name}") as progress:
        return evaluate_crops(source, subject, saved=saved, progress=progress, **how)


def paired_tests(results: list[list[CropFigures]], replicates: int) -> list[tuple[str, PairedTest]]:
    """Compare each two models on each set, whose name comes first; results are by model, then by set."""
    from spherecv.evaluate.paired import compare_experiments

    if len(results) < 2:
        return []
    return [
        (row[0].name, test)
        for row in zip(*results, strict=True)
        for test in compare_experiments([found.experiment for found in row], replicates=replicates)
    ]


def write_pages(folder: Path, results: list[list[CropFigures]], tests: list[tuple[str, PairedTest]]) -> None:
    """One page for each set, with every model on it."""
    from spherecv.evaluate.report import write_report

    for row in zip(*results, strict=True):
        mine = [test for name, test in tests if name == row[0].name]
        page = write_report(folder / row[0].name, [found.experiment for found in row], comparisons=mine)
        typer.echo(f"wrote {page}", err=True)
