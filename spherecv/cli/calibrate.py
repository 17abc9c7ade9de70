"""`spherecv calibrate`: a threshold and a probability for your own cameras, at an error rate that was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options, subjects
from spherecv.cli.counting import counted
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.evaluate.calibrating import Choice
    from spherecv.thresholds import Calibration


@options.grouped
def calibrate(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="A list of pairs, or a PERSON/IMAGE folder: all its pairs.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibration (.toml).")],
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the list's images; by default the list's own.")
    ] = None,
    far: Annotated[
        list[float] | None,
        typer.Option("--far", help="False accept rate wanted; the first is the default threshold, more may follow."),
    ] = None,
    choose: Annotated[
        str, typer.Option("--choose", help="Without --far: best accuracy, EER or information gain (C4.5).")
    ] = "best accuracy",
    impostors: Annotated[
        str, typer.Option("--impostors", help="Impostor pairs: listed, or all across the list's people.")
    ] = "listed",
    metric: Annotated[str, typer.Option("--metric", help="cosine or euclidean.")] = "cosine",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the distances, the thresholds and the probability here (.png)."),
    ] = None,
    *,
    subject: subjects.OwnSubjectOptions,
    embeddings: subjects.Embeddings = None,
    replicates: subjects.Replicates = 1000,
    as_json: options.Json = False,
) -> None:
    """Measure thresholds and a probability on pairs of your own.

    The file is for --calibration, and for `FaceVerifier(calibration=...)`. A rate is refused where fewer than 30 false
    accepts stand behind it. The file is used with this model, recipe, metric and detector only.

    Examples:

      spherecv calibrate pairs.csv --images images/ --far 0.01 --out door.toml

      spherecv calibrate images/ --far 0.001 --out door.toml --plot door.png
    """
    from spherecv.evaluate.calibrating import Choice, measure_subject
    from spherecv.metrics import check_metric

    chosen = subject.subjects()
    if len(chosen) > 1:
        raise InvalidArgumentError(f"a calibration is of one model, but got {len(chosen)}")
    choice: Choice = Choice(
        rule=far[0] if far else choose,
        rates=tuple(far or ())[1:],
        impostors=impostors,
        metric=check_metric(metric),
        replicates=replicates,
    )
    saved: Any = subjects.saved_at(embeddings, chosen[0], several=False)
    with counted("embedding") as progress:
        calibration, measured = measure_subject(pairs, chosen[0], choice, images=images, saved=saved, progress=progress)
    calibration.save(out)
    if plot is not None:
        from spherecv.evaluate.plots import calibration_png
        from spherecv.files import write_bytes

        write_bytes(plot, calibration_png(calibration, measured))
    typer.echo(json.dumps(_plain(calibration, out)) if as_json else _text(calibration, out))


def _plain(calibration: Calibration, out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    values = asdict(calibration)
    return {**values, "recipe": calibration.recipe.to_dict(), "out": str(out)}


def _text(calibration: Calibration, out: Path) -> str:
    from spherecv.thresholds import accepted_text

    rows = [
        f"  {row.chosen_for}: {calibration.metric} distance {row.threshold:.4f}; "
        f"{accepted_text(row, calibration.impostors)}, TAR {100 * row.measured_tar:.2f} % "
        f"({100 * row.tar_interval[0]:.2f} to {100 * row.tar_interval[1]:.2f})"
        for row in calibration.thresholds
    ]
    curve = calibration.probability
    if curve is not None:
        errors = ", ".join(f"{name} {error:.4f}" for name, error in curve.ece.items())
        rows.append(f"  probability: {curve.method}; expected calibration error, cross-validated: {errors}")
    notes = list(calibration.notes)
    if any(not row.false_accepts for row in calibration.thresholds):
        notes.append(
            f"the rates hold for other people, and so count people, not pairs: {calibration.identities} people say "
            "little of others; more people narrow them, more images of the same people do not"
        )
    head = (
        f"wrote {out}: {calibration.model}, {calibration.genuine:,} genuine and {calibration.impostors:,} impostor "
        f"pairs ({calibration.impostor_pairs_from}), {calibration.identities} people"
    )
    return "\n".join([head, *rows, *(f"note: {note}" for note in notes)])
