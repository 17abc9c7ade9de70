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
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("demo-output"),
) -> None:
    """Run the main job on sample portraits and draw what happened.

    Without a model at hand it detects and aligns, and says how to get one; with one it verifies a pair of the same
    person (one portrait and an altered copy of it) and a pair of different people.
    """
    from spherecv.samples import altered_copy, sample_portrait

    portraits = {who: sample_portrait(who) for who in ("grace-hopper", "eileen-collins")}
    portraits["grace-hopper-altered"] = altered_copy(portraits["grace-hopper"])
    _detect_and_align(portraits, out)
    chosen = model or _model_at_hand()
    if chosen is None:
        _say_how_to_get_a_model()
        return
    _verify(portraits, chosen, out)


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


def _model_at_hand() -> str | None:
    from spherecv.errors import SphereCVError
    from spherecv.zoo import model_names, open_model, state_of

    for name in model_names("embedder"):
        if state_of(name) == "ready":
            try:
                if open_model(name).thresholds:
                    return name
            except SphereCVError:
                continue
    return None


def _say_how_to_get_a_model() -> None:
    typer.echo(
        "No face recogniser is on this machine yet, so nothing was verified. Get one, then run the demo again:\n"
        "  spherecv models list                 what there is, and on which terms\n"
        "  spherecv models download sface       38 MB, Apache-2.0, with a published threshold\n"
        "  spherecv demo --model sface\n"
        "or verify with your own Caffe files:\n"
        "  spherecv verify A.jpg B.jpg --prototxt net.prototxt --caffemodel net.caffemodel --recipe sphereface "
        "--threshold 0.6"
    )
