"""`spherecv verify`: two images, or sets of them, or clips: one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.addresses import brief, is_text_image
from spherecv.cli import options
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.records import Verification, VerificationMatrix

SAME, DIFFERENT = 0, 1
_LONGEST = 48
"""Characters of a path that are shown; of a longer one, its name."""


@options.grouped
def verify(
    a: Annotated[str, typer.Argument(metavar="A", help="An image; a folder or list of one person; or a clip.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other, likewise.")],
    pipeline: options.PipelineOptions,
    decision: options.ProbabilityOptions,
    face: options.AnyFaceOptions,
    plot: Annotated[Path | None, typer.Option("--plot", help="Save an image of the answer here (.png, .jpg).")] = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether two images show the same person. Exit code: 0 the same, 1 different people, 2 no answer.

    Either side may be several images of one person, as a folder or a list (.txt), or a clip. Of an image with several
    faces the largest counts; the answer says so.

    The default threshold of the default model accepts 1.4 % of pairs of different people; --far chooses another
    measured rate (0.01, 0.001, 0.0001), and --threshold the distance itself.

    Examples:

      spherecv verify a.jpg b.jpg

      spherecv verify a.jpg b.jpg --far 0.001 --plot answer.png

      spherecv verify passport.jpg door.mp4

      spherecv verify a.jpg b.jpg --prototxt deploy.prototxt --caffemodel net.caffemodel --recipe sphereface
        --threshold 0.6
    """
    from spherecv.verify import FaceVerifier

    which = face.which()
    if plot is not None:
        if which == "all":
            raise InvalidArgumentError("--plot draws one comparison: it does not go with --face all")
        from spherecv.drawing import check_picture_path

        check_picture_path(plot)  # before the work, not after
    verifier = FaceVerifier(pipeline.pipeline_config(), **decision.settings())
    if which == "all":
        matrix = verifier.verify_all(a, b)
        typer.echo(json.dumps(matrix.to_dict()) if as_json else _matrix_text(matrix))
        raise typer.Exit(SAME if matrix.verified.any() else DIFFERENT)
    result = verifier.verify(a, b, face=which)
    typer.echo(json.dumps(result.to_dict()) if as_json else _text(result))
    if plot is not None:
        _save_plot(result, plot)
    raise typer.Exit(SAME if result.verified else DIFFERENT)


def _text(result: Verification) -> str:
    from spherecv.records import detector_text, probability_text

    verdict, relation = ("Same person", "within") if result.verified else ("Different people", "beyond")
    head = f"{verdict}: the {result.metric} distance {result.distance:.4f} is {relation} the threshold"
    names = [_short(label) for label in result.labels]
    wide = max(map(len, names))
    sides = [f"  {'AB'[side]}  {names[side]:{wide}}  {_side(result, side)}" for side in (0, 1)]
    said = ("faces found", "is this one person?")  # of a side above; as a warning
    sides += [f"  note: {note}" for note in result.notes if not any(words in note for words in said)]
    rows = [("False accepts", rate_row(result.far))]
    if result.probability is not None:
        shown = probability_text(result.probability)
        rows.append(("Probability", f"{shown} that it is one person, at a prior of {result.prior:g} (--prior)"))
    rows += [("Threshold", result.threshold_source), ("Model", f"{result.model}, {detector_text(result.detector)}")]
    facts = [f"  {name:13}  {value}" for name, value in rows]
    return "\n".join([f"{head} {result.threshold:.4f}.", "", *sides, "", *facts])


def _short(label: str) -> str:
    return Path(label).name if len(label) > _LONGEST and not is_text_image(label) else brief(label)


def _side(result: Verification, side: int) -> str:
    """What stood for one side."""
    from spherecv.records import WHOLE, taken_text

    face, count = result.faces[side], result.templates[side]
    size = f"{face.face.width:.0f}x{face.face.height:.0f} pixels"
    size += "" if face.face.quality is None else f", quality {face.face.quality:.2f}"
    size += f", lies turned by {face.face.turn} degrees and was set upright" if face.face.turn else ""
    if result.detector == WHOLE:
        return "taken as a crop"
    if count > 1:
        return f"template of {count} faces, the best {size}"
    if (face.faces_found or 1) == 1:
        return f"1 face, {size}"
    return f"{face.faces_found} faces, {taken_text(result.face_taken)} taken: {size}"


def rate_row(far: float | None) -> str:
    """What is known of the false accept rate, and how to choose another."""
    from spherecv.records import rate_text

    if far is None:
        return "not known for this threshold: nobody measured it"
    return f"{rate_text(far)} (--far chooses another)"


def _matrix_text(matrix: VerificationMatrix) -> str:
    rows = [
        f"  face {i + 1} of A, face {j + 1} of B: {matrix.distances[i, j]:.4f}"
        f"  {'same person' if matrix.verified[i, j] else 'different people'}"
        for i in range(matrix.distances.shape[0])
        for j in range(matrix.distances.shape[1])
    ]
    return "\n".join([f"{matrix.metric} distances, threshold {matrix.threshold:.4f}:", *rows])


def _save_plot(result: Verification, path: Path) -> None:
    from spherecv.drawing import save_picture

    save_picture(result.plot(), path)
    typer.echo(f"wrote {path}", err=True)
