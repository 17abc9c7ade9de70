"""`spherecv train list`: the list of images and labels that Caffe trains from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options


def write_list(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Aligned crops, as IDENTITY/IMAGE.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The list: `path label` a line.")],
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", help="An identity, a .txt of identities, or the preset casia-lfw; several times for more."
        ),
    ] = None,
    absolute: Annotated[bool, typer.Option("--absolute", help="Whole paths, not relative to the list.")] = False,
    min_images: Annotated[int, typer.Option("--min-images", help="Leave out identities with fewer images.")] = 1,
    as_json: options.Json = False,
) -> None:
    """Write the training list of a data set: labels from 0, in the order of the identities' names.

    Example:

      spherecv train list casia-112x96/ --out casia.txt --exclude casia-lfw
    """
    from spherecv.dataset import write_training_list

    made = write_training_list(folder, out, exclude=exclude or (), relative=not absolute, min_images=min_images)
    if as_json:
        values = {"out": str(made.path), "images": made.images, "identities": made.identities}
        typer.echo(json.dumps({**values, "excluded": list(made.excluded), "not_there": list(made.not_there)}))
        return
    typer.echo(f"wrote {made.path}: {made.images:,} images of {made.identities:,} identities")
    if made.excluded or made.not_there:
        excluded, missing = ", ".join(made.excluded) or "nobody", ", ".join(made.not_there) or "none"
        typer.echo(f"left out: {excluded}; not there: {missing}")
