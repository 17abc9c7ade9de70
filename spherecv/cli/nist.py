"""`spherecv evaluate nist`: a list of pairs in the manner of NIST and ISO/IEC 19795."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options, subjects
from spherecv.cli.counting import counted

if TYPE_CHECKING:
    from spherecv.evaluate.nistrun import NistExperiment


@options.grouped
def nist(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder that the list's paths are relative to.")],
    *,
    pairs: Annotated[Path, typer.Option("--pairs", help="CSV, LFW's form, `path path label`, CFP's folder, ...")],
    table: Annotated[
        Path | None, typer.Option("--table", help="CSV of what is known about the images: groups, qualities.")
    ] = None,
    group_by: Annotated[
        list[str] | None, typer.Option("--group-by", help="A column of the table; several times for more.")
    ] = None,
    quality: Annotated[
        list[str] | None, typer.Option("--quality", help="A column of numbers, judged beside the faces' own quality.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Largest distance accepted, chosen elsewhere.")
    ] = None,
    fmr: Annotated[
        float, typer.Option("--fmr", help="False match rate at which groups and qualities are judged.")
    ] = 1e-3,
    metric: Annotated[str, typer.Option("--metric", help="cosine or euclidean.")] = "cosine",
    subject: subjects.OwnSubjectOptions,
    embeddings: subjects.Embeddings = None,
    replicates: subjects.Replicates = 1000,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write DET, groups and discard curves into this folder.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """DET, FNMR at FMR with people resampled, failures counted, rates by group, and error-versus-discard curves.

    Images that are missing, unreadable or without a face are never dropped: they are counted as failures to acquire,
    and their pairs as rejections beside the figures without them. Groups: FMR within and between, FNMR, and the worst
    over the geometric mean. Qualities: how the errors fall when the pairs of least quality are discarded.

    Examples:

      spherecv evaluate nist photos/ --pairs pairs.csv

      spherecv evaluate nist photos/ --pairs pairs.csv --table people.csv --group-by sex --quality sharpness
    """
    from spherecv.checks import check_metric
    from spherecv.evaluate.nistrun import ImageTable, compare_nist, evaluate_nist

    chosen = subject.subjects()
    results = []
    for one in chosen:
        with counted(f"embedding, {one.source.name}") as progress:
            results.append(
                evaluate_nist(
                    images,
                    pairs,
                    one,
                    table=ImageTable(table, group_by or (), quality or ()),
                    threshold=threshold,
                    fmr=fmr,
                    metric=check_metric(metric),
                    saved=subjects.saved_at(embeddings, one, len(chosen) > 1),
                    replicates=replicates,
                    progress=progress,
                )
            )
    compared = compare_nist(results, replicates=replicates)
    tests = [test.to_dict() for test in compared]
    answer = json.dumps({"results": [result.to_dict() for result in results], "comparisons": tests})
    if report is not None:
        _report(report, results, answer)
    typer.echo(answer if as_json else "\n\n".join(str(part) for part in (*results, *compared)))


def _report(folder: Path, results: list[NistExperiment], answer: str) -> None:
    from spherecv.evaluate.plots import det_curves_png, discard_png, groups_png
    from spherecv.files import write_bytes

    write_bytes(folder / "det.png", det_curves_png([(found.model, found.rates.roc) for found in results]))
    curves = [(found.model, curve) for found in results for curve in found.discards]
    write_bytes(folder / "discard.png", discard_png(curves))
    for number, found in enumerate(results, start=1):
        for errors in found.groups:
            write_bytes(folder / f"groups-{number}-{errors.matches.column}.png", groups_png(errors.matches))
    write_bytes(folder / "report.json", (answer + "\n").encode())
    typer.echo(f"wrote {folder / 'report.json'}", err=True)
