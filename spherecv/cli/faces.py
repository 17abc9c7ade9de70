"""`spherecv detect`: faces of an image, a folder or a list."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options
from spherecv.cli.counting import counting
from spherecv.cli.wording import numbered
from spherecv.errors import SphereCVError
from spherecv.images import shown_source

if TYPE_CHECKING:
    from spherecv.records import Face

_LEGEND = (
    "\nbox: left, top, right, bottom in pixels; score: how sure the detector is of a face; quality: how well it suits\n"
    "recognition (size, sharpness, pose), both 0 to 1. --draw FILE shows them, --min-size looks for smaller ones."
)


@options.grouped
def detect(
    source: options.Source,
    *,
    detector: options.DetectorOptions,
    precision: options.Precision = None,
    draw: Annotated[
        Path | None,
        typer.Option("--draw", help="Save the image with boxes and landmarks here; a folder where SRC is many images."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Find faces: boxes, landmarks, scores, quality. With --json, a line for each image.

    An image that cannot be read is reported and the rest goes on; exit code 2 only where none could be read.

    Examples:

      spherecv detect group.jpg --draw found.png

      spherecv detect images/ --json > faces.jsonl
    """
    from spherecv.config import PipelineConfig
    from spherecv.detect import FaceDetector
    from spherecv.images import load_image

    paths = images_of(source)
    given = detector.settings()
    if precision is None:
        finder = PipelineConfig(**given).open_detector()
    else:
        finder = FaceDetector(given.pop("detector", "mtcnn"), **given, precision=precision)
    failures = Failures(len(paths), as_json)
    drawn: list[Path] = []
    found = 0
    for path in counting(paths, len(paths), "detecting"):
        try:
            image = load_image(path)
            faces = finder.detect(image)
            if draw is not None:
                from spherecv.drawing import draw_faces, save_picture

                goal = _goal(draw, path, paths)
                save_picture(draw_faces(image, faces), goal)
                drawn.append(goal)
        except SphereCVError as error:
            failures.add(path, error)
            continue
        if as_json:
            typer.echo(json.dumps({"image": shown_source(path), "faces": [face.to_dict() for face in faces]}))
        else:
            typer.echo(_faces_text(path, faces, image.shape))
            found += len(faces)
    if found:
        typer.echo(_LEGEND, err=True)
    if drawn:
        typer.echo(f"wrote {drawn[0]}" if len(paths) == 1 else f"wrote {len(drawn)} images to {draw}", err=True)
    failures.close()


def images_of(source: str) -> list[Path | str]:
    """The images of a source, an address among them; says which files of a folder were passed over."""
    from spherecv.addresses import is_text_image
    from spherecv.images import find_images, passed_over_text, survey_images

    if is_text_image(source):
        return [source]
    if not source:
        return [*find_images(source)]
    found = survey_images(Path(source))
    if found.passed_over:
        typer.echo(f"passed over {passed_over_text(found.passed_over)}", err=True)
    return [*found.images]


class Failures:
    """Images that could not be used: reported one by one; an error of the command where they are all there are."""

    def __init__(self, total: int, as_json: bool) -> None:
        self.count = 0
        self._total = total
        self._as_json = as_json
        self._last: SphereCVError | None = None

    def add(self, path: Path | str, error: SphereCVError) -> None:
        """Report an image."""
        self.count += 1
        self._last = error
        if self._as_json:
            typer.echo(json.dumps({"image": shown_source(path), "error": str(error), "kind": type(error).__name__}))
        if self._total > 1:
            text = str(error)
            typer.echo(text if str(path) in text else f"{path}: {text}", err=True)

    def close(self) -> None:
        """Raise where no image could be used."""
        if self._last is None or self.count < self._total:
            return
        if self._total == 1:
            raise self._last
        raise SphereCVError(f"none of the {self._total} images could be used")


def _goal(draw: Path, path: Path | str, paths: Sequence[Path | str]) -> Path:
    """Where the drawing of one of several images goes: the same tree under the folder asked for."""
    if len(paths) == 1:
        return draw
    shared = Path(os.path.commonpath([Path(other).resolve().parent for other in paths]))
    return (draw / Path(path).resolve().relative_to(shared)).with_suffix(".png")


def _faces_text(path: Path | str, faces: list[Face], shape: tuple[int, ...]) -> str:
    count = numbered(len(faces), "face") if faces else "no face"
    rows = [
        f"  box {' '.join(f'{value:.0f}' for value in face.box)}  {face.width:.0f}x{face.height:.0f} pixels"
        f"  score {face.score:.3f}" + ("" if face.quality is None else f"  quality {face.quality:.2f}")
        for face in faces
    ]
    return "\n".join([f"{shown_source(path)} ({shape[1]}x{shape[0]} pixels): {count}", *rows])
