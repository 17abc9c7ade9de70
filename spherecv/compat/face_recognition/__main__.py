"""`face_recognition` of the package of that name: `python -m spherecv.compat.face_recognition KNOWN_FOLDER IMAGE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spherecv.checks import check_choice
from spherecv.compat import face_recognition
from spherecv.compat.face_recognition.commands import Cpus, images_at, run


def recognise(
    known_people_folder: Annotated[Path, typer.Argument(help="An image of each person, named after them.")],
    image_to_check: Annotated[Path, typer.Argument(help="An image, or a folder of them.")],
    cpus: Cpus = 1,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="The largest distance of one person: less is stricter.")
    ] = face_recognition.TOLERANCE,
    show_distance: Annotated[str, typer.Option("--show-distance", help="true: print distances too.")] = "false",
) -> None:
    """Print a line for each face: the file, and who it is or unknown_person; no_persons_found where there is none."""
    del cpus
    with_distance = check_choice("--show-distance", show_distance.lower(), ("true", "false")) == "true"
    names, known = [], []
    for path in images_at(known_people_folder):
        found = face_recognition.face_encodings(face_recognition.load_image_file(str(path)))
        if len(found) > 1:
            typer.echo(f"WARNING: several faces in {path}: only the first one counts", err=True)
        if found:
            names.append(path.stem)
            known.append(found[0])
        else:
            typer.echo(f"WARNING: no face in {path}, which is left out", err=True)
    for path in images_at(image_to_check):
        encodings = face_recognition.face_encodings(face_recognition.load_image_file(str(path)))
        for encoding in encodings:
            away = face_recognition.face_distance(known, encoding)
            near = [(names[i], away[i]) for i in range(len(names)) if away[i] <= tolerance]
            for name, distance in near or [("unknown_person", None)]:
                typer.echo(",".join([str(path), name, *([str(distance)] if with_distance else [])]))
        if not encodings:
            typer.echo(",".join([str(path), "no_persons_found", *(["None"] if with_distance else [])]))


if __name__ == "__main__":
    run(recognise, "face_recognition")
