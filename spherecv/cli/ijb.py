"""`spherecv evaluate ijb`: templates of IJB-B and IJB-C, 1:1 and 1:N."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from spherecv.cli import options, subjects
from spherecv.cli.bins import check_flip, row_file
from spherecv.cli.counting import counted
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.evaluate import Subject
    from spherecv.evaluate.ijbrun import TemplateExperiment


@options.grouped
def ijb(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of the images: loose_crop, or ready crops.")],
    *,
    media: Annotated[Path, typer.Option("--media", help="IMAGE TEMPLATE MEDIUM a line: ijbc_face_tid_mid.txt.")],
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", help="1:1: TEMPLATE TEMPLATE LABEL a line: ijbc_template_pair_label.txt."),
    ] = None,
    gallery: Annotated[
        list[Path] | None, typer.Option("--gallery", help="1:N: CSV of templates and subjects; several times for both.")
    ] = None,
    probes: Annotated[
        Path | None, typer.Option("--probes", help="1:N: CSV of the probes' templates and subjects.")
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option("--landmarks", help="Five points and a score for each image: ijbc_name_5pts_score.txt."),
    ] = None,
    subject: subjects.CropOptions,
    flip: Annotated[
        str, typer.Option("--flip", help="The mirror image's embedding: add, concatenate or none.")
    ] = "add",
    weighing: Annotated[
        str, typer.Option("--weighing", help="Images of a template: length (as the net gives them) or unit.")
    ] = "length",
    detector_scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Weigh images by the detector's scores of --landmarks.")
    ] = True,
    embeddings: Annotated[
        Path | None, typer.Option("--embeddings", help="Folder to keep embeddings in.  [default: the cache]")
    ] = None,
    replicates: subjects.Replicates = 1000,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the ROC and all figures into this folder.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """IJB-B and IJB-C: TAR at FAR 1e-6 to 1e-1 of template pairs, ranks and TPIR at FPIR on each gallery.

    Images of one medium are averaged, then the media of a template, as the field's reference evaluation does. An
    interrupted run resumes; embeddings are kept on the disk, so memory stays bounded.

    Examples:

      spherecv evaluate ijb IJBC/loose_crop --media ijbc_face_tid_mid.txt --landmarks ijbc_name_5pts_score.txt
      --pairs ijbc_template_pair_label.txt -m sphereface-20

      spherecv evaluate ijb crops/ --media tid_mid.txt --gallery G1.csv --gallery G2.csv --probes probe_mixed.csv
    """
    if pairs is None and not gallery:
        raise InvalidArgumentError("there is nothing to measure: give --pairs, or --gallery and --probes")
    check_flip(flip)
    if weighing not in ("length", "unit"):
        raise InvalidArgumentError(f"--weighing must be length or unit, but got {weighing!r}")
    chosen = subject.subjects()

    def run(one: Subject) -> TemplateExperiment:
        from spherecv.evaluate.ijbrun import IjbFiles, evaluate_ijb

        with counted(f"embedding, {one.source.name}") as progress:
            return evaluate_ijb(
                images,
                IjbFiles(media, pairs, gallery or (), probes, landmarks),
                one,
                flip=cast(Any, flip),
                weighing=cast(Any, weighing),
                detector_scores=detector_scores,
                saved=lambda stamp: row_file(embeddings, one, flip, json.dumps(stamp, sort_keys=True)),
                replicates=replicates,
                progress=progress,
            )

    results = [run(one) for one in chosen]
    from spherecv.evaluate.ijbrun import compare_templates_of

    compared = compare_templates_of(results, replicates=replicates)
    tests = [test.to_dict() for test in compared]
    answer = json.dumps({"results": [result.to_dict() for result in results], "comparisons": tests})
    if report is not None:
        _report(report, results, answer)
    lines = "\n".join(str(test) for test in compared)
    typer.echo(answer if as_json else "\n\n".join([*(str(result) for result in results), lines]).rstrip())


def _report(folder: Path, results: list[TemplateExperiment], answer: str) -> None:
    from spherecv.evaluate.plots import rates_png
    from spherecv.evaluate.templatesets import CURVE_RATES
    from spherecv.files import write_bytes

    curves = [(found.model, CURVE_RATES, found.verification.curve) for found in results if found.verification]
    if curves:
        write_bytes(folder / "roc.png", rates_png(curves))
    write_bytes(folder / "report.json", (answer + "\n").encode())
    typer.echo(f"wrote {folder / 'report.json'}", err=True)
