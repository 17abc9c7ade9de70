"""`spherecv evaluate rfw`: Racial Faces in the Wild, its four groups side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from spherecv.cli import options, subjects
from spherecv.cli.bins import check_flip, paired_tests, row_file, write_pages
from spherecv.cli.counting import counted


@options.grouped
def rfw(
    root: Annotated[
        Path, typer.Argument(metavar="ROOT", help="Holds data/GROUP/ (crops) and txts/GROUP/GROUP_pairs.txt.")
    ],
    *,
    subject: subjects.CropOptions,
    flip: Annotated[
        str, typer.Option("--flip", help="The mirror image's embedding: add, concatenate or none.")
    ] = "add",
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="Folder to keep embeddings in.  [default: the cache]")
    ] = None,
    replicates: subjects.Replicates = 1000,
    report: subjects.Report = None,
    as_json: options.Json = False,
) -> None:
    """RFW: accuracy over 10 folds on African, Asian, Caucasian and Indian faces; their mean, deviation and worst ratio.

    The images of data/ must be ready-made crops of the model's size: `spherecv align` makes them.

    Example:

      spherecv evaluate rfw rfw/ -m sphereface-20
    """
    from spherecv.evaluate.croprun import evaluate_crops, print_table
    from spherecv.evaluate.fieldsets import rfw_sets, spread

    check_flip(flip)
    sets = rfw_sets(root)
    results = []
    for one in subject.subjects():
        row = []
        for source in sets:
            saved = row_file(embeddings, one, flip, json.dumps(source.stamp(), sort_keys=True))
            with counted(f"{source.name}, {one.source.name}") as progress:
                how: Any = cast(Any, flip)
                row.append(
                    evaluate_crops(source, one, flip=how, saved=saved, replicates=replicates, progress=progress)
                )
        results.append(row)
    tests = paired_tests(results, replicates)
    if report is not None:
        write_pages(report, results, tests)
    spreads = [spread([found.figures.accuracy[0] for found in row]) for row in results]
    if as_json:
        rows = [found.to_dict() for row in results for found in row]
        compared = [{"set": name, **test.to_dict()} for name, test in tests]
        typer.echo(json.dumps({"results": rows, "spread": spreads, "comparisons": compared}))
        return
    typer.echo(print_table(results))
    for row, values in zip(results, spreads, strict=True):
        ratio = values["error_ratio"]
        worst = "not known, since a group has no error" if ratio is None else f"{ratio:.2f}"
        mean, deviation = (f"{100 * (values[name] or 0.0):.2f}" for name in ("mean", "deviation"))
        name = row[0].experiment.model
        typer.echo(f"{name}: mean {mean}, deviation {deviation}, largest error over smallest {worst}")
        for found in row:
            for note in found.experiment.notes:
                typer.echo(f"note: {found.name}: {note}")
    for name, test in tests:
        typer.echo(f"{name}: {test}")
