"""`spherecv demo`: every step of the main job, drawn, on two images of the user's or on sample portraits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from spherecv.cli import options
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _Pair(NamedTuple):
    """Two of the images by name, what the drawing of their comparison is called, and what is known of them."""

    goal: str
    first: str
    second: str
    note: str


def demo(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[A B]", help="Two images of yours; without them, sample portraits.")
    ] = None,
    model: options.Model = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images.")] = Path("demo-output"),
) -> None:
    """Detect, align and verify, and draw every step into a folder.

    On two images of yours, or without any on sample portraits (extra `demo`): a pair of the same person (one portrait
    and an altered copy of it) and a pair of different people.

    Examples:

      spherecv demo a.jpg b.jpg

      spherecv demo --out drawn/
    """
    from spherecv.images import load_image
    from spherecv.zoo import DEFAULT_MODEL

    if images:
        if len(images) != 2:
            raise InvalidArgumentError(f"demo takes two images, or none for sample portraits, but got {len(images)}")
        first, second = (path.stem for path in images)
        names = (first, second) if first != second else (f"{first}-1", f"{second}-2")
        portraits = {name: load_image(path) for name, path in zip(names, images, strict=True)}
        pairs = [_Pair("answer", *names, "your images")]
    else:
        portraits, pairs = _samples()
    _detect_and_align(portraits, out)
    _verify(portraits, pairs, model or DEFAULT_MODEL, out)


def _samples() -> tuple[dict[str, NDArray[np.uint8]], list[_Pair]]:
    from spherecv.cli.samples import altered_copy, sample_portrait

    portraits = {who: sample_portrait(who) for who in ("grace-hopper", "eileen-collins")}
    portraits["grace-hopper-altered"] = altered_copy(portraits["grace-hopper"])
    same = "an altered copy of the same portrait, so an easy pair"
    return portraits, [
        _Pair("same", "grace-hopper", "grace-hopper-altered", same),
        _Pair("different", "grace-hopper", "eileen-collins", "two people"),
    ]


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


def _verify(portraits: dict[str, NDArray[np.uint8]], pairs: list[_Pair], model: str, out: Path) -> None:
    from spherecv.drawing import save_picture
    from spherecv.verify import FaceVerifier

    verifier = FaceVerifier(model)
    for pair in pairs:
        result = verifier.verify(portraits[pair.first], portraits[pair.second])
        goal = out / f"{pair.goal}.png"
        save_picture(result.plot(), goal)
        verdict = "same person" if result.verified else "different people"
        typer.echo(
            f"{pair.first} and {pair.second} ({pair.note}): {verdict}, {result.metric} distance {result.distance:.3f}, "
            f"threshold {result.threshold:.3f}; drawn in {goal}"
        )
