"""`spherecv verify`: two images, or sets of them, or clips: one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.records import Verification, VerificationMatrix

SAME, DIFFERENT = 0, 1


@options.grouped
def verify(
    a: Annotated[str, typer.Argument(metavar="A", help="An image; a folder or list of one person; or a clip.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other, likewise.")],
    pipeline: options.PipelineOptions,
    decision: options.ProbabilityOptions,
    face: options.Face = "largest",
    plot: Annotated[Path | None, typer.Option("--plot", help="Save an image of the answer here (.png, .jpg).")] = None,
    as_json: options.Json = False,
) -> None:
    """Tell whether two images show the same person. Exit code: 0 the same, 1 different people, 2 no answer.

    Either side may be several images of one person, as a folder or a list (.txt), or a clip.

    Examples:

      spherecv verify a.jpg b.jpg

      spherecv verify a.jpg b.jpg --far 0.001 --plot answer.png

      spherecv verify passport.jpg door.mp4

      spherecv verify a.jpg b.jpg --prototxt deploy.prototxt --caffemodel net.caffemodel --recipe sphereface
        --threshold 0.6
    """
    from spherecv.verify import FaceVerifier

    if plot is not None:
        if face == "all":
            raise InvalidArgumentError("--plot draws one comparison: it does not go with --face all")
        from spherecv.drawing import check_picture_path

        check_picture_path(plot)  # before the work, not after
    verifier = FaceVerifier(pipeline.pipeline_config(), **decision.settings())
    if face == "all":
        matrix = verifier.verify_all(a, b)
        typer.echo(json.dumps(matrix.to_dict()) if as_json else _matrix_text(matrix))
        raise typer.Exit(SAME if matrix.verified.any() else DIFFERENT)
    result = verifier.verify(a, b, face=options.which_face(face))
    typer.echo(json.dumps(result.to_dict()) if as_json else _text(result))
    if plot is not None:
        _save_plot(result, plot)
    raise typer.Exit(SAME if result.verified else DIFFERENT)


def _text(result: Verification) -> str:
    from spherecv.records import detector_text, probability_text

    relation = "at most" if result.verified else "above"
    rate = "" if result.far is None else f" (FAR {result.far:.2g})"
    lines = [
        "Same person." if result.verified else "Different people.",
        f"  {result.metric} distance {result.distance:.4f}, {relation} the threshold {result.threshold:.4f}{rate}",
        f"  threshold: {result.threshold_source or 'given on the command line'}",
        f"  model {result.model}, {detector_text(result.detector)}",
    ]
    if result.templates != (1, 1):
        lines.append(f"  templates of {result.templates[0]} and {result.templates[1]} faces")
    if result.probability is not None:
        shown = probability_text(result.probability)
        lines.insert(2, f"  probability of the same person {shown}, at a prior of {result.prior:g}")
    return "\n".join(lines)


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
