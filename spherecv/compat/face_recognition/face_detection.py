"""`face_detection` of the face_recognition package: `python -m spherecv.compat.face_recognition.face_detection`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherecv.compat import face_recognition
from spherecv.compat.face_recognition.commands import Cpus, images_at, run


def face_detection(
    image_to_check: Annotated[Path, typer.Argument(help="An image, or a folder of them.")],
    cpus: Cpus = 1,
    model: Annotated[str, typer.Option("--model", help="hog or cnn: both stand for SphereCV's detector.")] = "hog",
) -> None:
    """Print a line for each face: the file, and top, right, bottom and left in pixels."""
    del cpus
    for path in images_at(image_to_check):
        image = face_recognition.load_image_file(str(path))
        for location in face_recognition.face_locations(image, number_of_times_to_upsample=0, model=model):
            typer.echo(",".join([str(path), *map(str, location)]))


if __name__ == "__main__":
    run(face_detection, "face_detection")
