"""`spherecv demo`: every step of the main job, drawn, on two images of the user's or on sample portraits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from spherecv.cli import options
from spherecv.cli.wording import numbered
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spherecv.verify import FaceVerifier


class _Pair(NamedTuple):
    """Two of the images by name, what the drawing of their comparison is called, and what is known of them."""

    goal: str
    first: str
    second: str
    note: str


def demo(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="A B", help="Two images of yours; without them, sample portraits.")
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
    from spherecv.verify import FaceVerifier
    from spherecv.zoo import DEFAULT_MODEL

    if images:
        if len(images) != 2:
            raise InvalidArgumentError(f"demo takes two images, or none for sample portraits, but got {len(images)}")
        first, second = (path.stem for path in images)
        names = (first, second) if first != second else (f"{first}-1", f"{second}-2")
        portraits = {name: load_image(path) for name, path in zip(names, images, strict=True)}
        pairs = [_Pair("answer", *names, f"{first} and {second}")]
    else:
        portraits, pairs = _samples()
    verifier = FaceVerifier(model or DEFAULT_MODEL)
    name = verifier.pipeline.embedder.name
    typer.echo("Do two photos show the same person?\n")
    typer.echo("1. Find the faces, and cut them out so that eyes, nose and mouth lie at the same places:")
    _detect_and_align(verifier, portraits, out)
    typer.echo(f"\n2. Compare what {name} makes of them by a distance (0: the same image):")
    _verify(verifier, portraits, pairs, out)
    typer.echo(f"\n{_meaning(verifier)}\nNext: spherecv verify A.jpg B.jpg, with photos of your own.")


def _samples() -> tuple[dict[str, NDArray[np.uint8]], list[_Pair]]:
    from spherecv.cli.samples import altered_copy, sample_portrait

    portraits = {who: sample_portrait(who) for who in ("grace-hopper", "eileen-collins")}
    portraits["grace-hopper-altered"] = altered_copy(portraits["grace-hopper"])
    return portraits, [
        _Pair("same", "grace-hopper", "grace-hopper-altered", "Grace Hopper and an altered copy, an easy pair"),
        _Pair("different", "grace-hopper", "eileen-collins", "Grace Hopper and Eileen Collins"),
    ]


def _detect_and_align(verifier: FaceVerifier, portraits: dict[str, NDArray[np.uint8]], out: Path) -> None:
    from spherecv.drawing import draw_aligned, save_picture

    pipeline = verifier.pipeline
    for who, image in portraits.items():
        faces = pipeline.detector.detect(image)
        goal = out / f"{who}.png"
        save_picture(draw_aligned(image, faces, pipeline.aligner.align(image, faces)), goal)
        count = numbered(len(faces), "face")
        score = f", score {max(face.score for face in faces):.3f}" if faces else ""
        typer.echo(f"   {who:22} {count}{score}    image: {goal}")


def _verify(
    verifier: FaceVerifier, portraits: dict[str, NDArray[np.uint8]], pairs: list[_Pair], out: Path
) -> None:
    from spherecv.drawing import save_picture
    from spherecv.images import LabelledImage

    for pair in pairs:
        result = verifier.verify(*(LabelledImage(portraits[who], who) for who in (pair.first, pair.second)))
        goal = out / f"{pair.goal}.png"
        save_picture(replace(result, labels=(pair.first, pair.second)).plot(), goal)
        verdict = "same person" if result.verified else "different people"
        typer.echo(f"   {pair.note:46} {result.distance:.3f}  {verdict:16}  image: {goal}")


def _meaning(verifier: FaceVerifier) -> str:
    """What the threshold is, and how often it errs."""
    from spherecv.cli.verify import rate_row
    from spherecv.zoo import is_known, model_info

    threshold, name = verifier.threshold, verifier.pipeline.embedder.name
    lines = [
        f"Up to the threshold {threshold.value:.3f} two faces count as the same person ({threshold.source}).",
        f"False accepts: {rate_row(threshold.rate)}.",
    ]
    if is_known(name):
        lines.append(f"Licence of {name}: {model_info(name).licence}; `spherecv models list` shows others.")
    return "\n".join(lines)
