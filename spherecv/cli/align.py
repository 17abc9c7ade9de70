"""`spherecv align`: images to aligned crops, in the same tree, with a table of what was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from spherecv.cli import options, subjects
from spherecv.cli.counting import counted, resumable
from spherecv.errors import InvalidArgumentError, SphereCVError

if TYPE_CHECKING:
    from spherecv.dataset import AlignSummary


@dataclass
class AlignDetector(options.DetectorOptions):
    """What finds faces, by default as the SphereFace authors ran it."""

    preset: subjects.Preset = "sphereface"


@options.grouped
def align(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A folder, an image, a list, or the authors' dataList.mat.")
    ],
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder of the crops, in the same tree.")] = None,
    out_option: Annotated[Path | None, typer.Option("--out", "-o", help="The same as OUT.", show_default=False)] = None,
    recipe: Annotated[
        str,
        typer.Option("--recipe", help="How to align: sphereface (112x96), mobilefacenet (112x112), or a .toml file."),
    ] = "sphereface",
    *,
    detector: AlignDetector,
    face: Annotated[
        str,
        typer.Option(
            "--face", help="Which of several: center or largest.", autocompletion=options.one_of("center", "largest")
        ),
    ] = "center",
    no_face: subjects.NoFace = "skip",
    image_format: Annotated[
        str, typer.Option("--format", help="Of the crops: jpg or png.", autocompletion=options.one_of("jpg", "png"))
    ] = "jpg",
    quality: Annotated[int, typer.Option("--quality", help="Of JPEG, 1..100.")] = 95,
    table: Annotated[
        Path | None, typer.Option("--table", help="Where the table goes: .csv or .parquet.  [default: OUT/faces.csv]")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Where the images of a dataList.mat are.", show_default=False)
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", "-j", help="Processes; one for each core by default.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Do everything again.")] = False,
    as_json: options.Json = False,
) -> None:
    """Align a data set as the SphereFace authors did.

    Of each image the face nearest the centre is cut out, turned upright by its landmarks. An interrupted run resumes
    when the same command is given again. Exit code 2 where there is no crop at all.

    Examples:

      spherecv align lfw/ lfw-112x96/

      spherecv align CASIA-WebFace/ --out casia-112x96/ --table casia.parquet
    """
    from spherecv.dataset import align_dataset

    if (out is None) == (out_option is None):
        raise InvalidArgumentError("say once where the crops go: spherecv align SRC OUT, or --out OUT")
    with resumable(), counted("aligning") as progress:
        summary = align_dataset(
            source,
            cast(Path, out or out_option),
            recipe=recipe,
            **_settings(detector),
            face=cast(Any, face),
            no_face=cast(Any, no_face),
            image_format=cast(Any, image_format),
            quality=quality,
            table=table,
            images=images,
            processes=processes,
            restart=restart,
            progress=progress,
        )
    typer.echo(json.dumps(summary.to_dict()) if as_json else _text(summary))
    _report_lost(summary)


def _settings(detector: AlignDetector) -> dict[str, Any]:
    given = detector.settings()
    if given.pop("device", "cpu") != "cpu":
        raise InvalidArgumentError("alignment runs on the CPU: leave --device out")
    return given


def _report_lost(summary: AlignSummary) -> None:
    """Name the first images of which there is no crop; an error where that is all of them."""
    reasons = [row.reason or "no face found" for row in summary.lost]
    said = [why if row.path in why else f"{row.path}: {why}" for row, why in zip(summary.lost, reasons, strict=True)]
    missing = sum(summary.counts.get(status, 0) for status in ("failed", "no face"))
    if missing == summary.images == 1:
        raise SphereCVError(said[0])
    for line in said:
        typer.echo(line, err=True)
    if missing > len(said):
        typer.echo(f"and {missing - len(said)} more: see the table", err=True)
    if missing == summary.images:
        raise SphereCVError(f"none of the {missing} images gave a crop")


def _text(summary: AlignSummary) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.counts.items(), reverse=True))
    new = summary.images - summary.resumed
    rate = f", {new / summary.seconds:.1f} images/s" if new and summary.seconds else ""
    return (
        f"{summary.images} images: {counts}; {summary.resumed} of them were done before\n"
        f"{summary.seconds:.1f} s in {summary.processes} processes{rate}; images without a face: {summary.policy}\n"
        f"table: {summary.table}"
    )
