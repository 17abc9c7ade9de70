"""`spherecv demo`: the main job on two public-domain portraits that lie in the wheels of other packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def demo(
    model: options.Model = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images.")] = Path("demo-output"),
) -> None:
    """Run the main job on sample portraits and draw what happened.

    It detects and aligns, then verifies a pair of the same person (one portrait and an altered copy of it) and a pair
    of different people.
    """
    from spherecv.cli.samples import altered_copy, sample_portrait
    from spherecv.zoo import DEFAULT_MODEL

    portraits = {who: sample_portrait(who) for who in ("grace-hopper", "eileen-collins")}
    portraits["grace-hopper-altered"] = altered_copy(portraits["grace-hopper"])
    _detect_and_align(portraits, out)
    _verify(portraits, model or DEFAULT_MODEL, out)


def _detect_and_align(portraits: dict[str, NDArray[np.uint8]], out: Path) -> None:
    from spherecv.align import FaceAligner
    from spherecv.detect import FaceDetector
    from spherecv.drawing import draw_aligned, save_picture

    detector, aligner = FaceDetector("mtcnn"), FaceAligner()
    for who, image in portraits.items():
        faces = detector.detect(image)
        goal = out / f"{who}.png"
        save_picture(draw_aligned(image, faces, aligner.align(image, faces)), goal)
        scores = ", ".join(f"{face.score:.3f}" for face in faces)
        typer.echo(f"{who}: {len(faces)} face(s), score {scores}; drawn in {goal}")


def _verify(portraits: dict[str, NDArray[np.uint8]], model: str, out: Path) -> None:
    from spherecv.drawing import save_picture
    from spherecv.verify import FaceVerifier

    verifier = FaceVerifier(model)
    for name, first, second, note in (
        ("same", "grace-hopper", "grace-hopper-altered", "an altered copy of the same portrait, so an easy pair"),
        ("different", "grace-hopper", "eileen-collins", "two people"),
    ):
        result = verifier.verify(portraits[first], portraits[second])
        goal = out / f"{name}.png"
        save_picture(result.plot(), goal)
        verdict = "same person" if result.verified else "different people"
        typer.echo(
            f"{first} and {second} ({note}): {verdict}, {result.metric} distance {result.distance:.3f}, "
            f"threshold {result.threshold:.3f}; drawn in {goal}"
        )
