"""`spherecv train list` and `unpack`: lists that Caffe trains from, and folders made of RecordIO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options
from spherecv.cli.wording import numbered


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
    mix: Annotated[
        list[Path] | None,
        typer.Option("--mix", help="Another folder of other people, whose labels follow; several times for more."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write the training list of a data set: labels from 0, in the order of the identities' names.

    Example:

      spherecv train list casia-112x96/ --out casia.txt --exclude casia-lfw

      spherecv train list casia-112x96/ --mix umd-frames-112x96/ --out both.txt
    """
    from spherecv.dataset import write_training_list

    made = write_training_list(
        folder, out, exclude=exclude or (), relative=not absolute, min_images=min_images, mix=mix or ()
    )
    if as_json:
        values = {"out": str(made.path), "images": made.images, "identities": made.identities}
        typer.echo(json.dumps({**values, "excluded": list(made.excluded), "not_there": list(made.not_there)}))
        return
    typer.echo(f"wrote {made.path}: {numbered(made.images, 'image')} of {numbered(made.identities, 'identity')}")
    if made.excluded or made.not_there:
        excluded, missing = ", ".join(made.excluded) or "nobody", ", ".join(made.not_there) or "none"
        typer.echo(f"left out: {excluded}; not there: {missing}")


def unpack(
    records: Annotated[Path, typer.Argument(metavar="REC", help="A .rec of InsightFace or MXNet.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the images, as LABEL/NUMBER.jpg.")],
    as_json: options.Json = False,
) -> None:
    """Write the images of a RecordIO file into a folder for each identity; training reads the .rec itself.

    An interrupted run resumes.

    Example:

      spherecv train unpack faces_emore/train.rec ms1m/
    """
    from spherecv.cli.counting import counted
    from spherecv.dataset.unpack import unpack_records

    with counted("unpacking") as progress:
        made = unpack_records(records, out, progress=progress)
    if as_json:
        values = {"out": str(made.folder), "images": made.images, "identities": made.identities}
        typer.echo(json.dumps({**values, "written": made.written}))
        return
    found = f"{numbered(made.images, 'image')} of {numbered(made.identities, 'identity')}"
    typer.echo(f"{made.folder}: {found}, {made.written:,} of them new")
