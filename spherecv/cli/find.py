"""`spherecv find`: images of the same person in a folder, which is indexed once."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spherecv.cli import options
from spherecv.cli.counting import counted
from spherecv.cli.verify import rate_row
from spherecv.cli.wording import numbered
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.pipeline import WhichFace
    from spherecv.records import Match


@options.grouped
def find(
    photo: Annotated[str | None, typer.Argument(metavar="PHOTO", help="Whom to look for.")] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to look: a folder or a list.")
    ] = None,
    *,
    pipeline: options.PipelineOptions,
    decision: options.DecisionOptions,
    k: Annotated[int, typer.Option("-k", help="Most images to name for each face.")] = 100,
    index: Annotated[
        Path | None, typer.Option("--index", help="Where to keep the index; by default in SphereCV's cache.")
    ] = None,
    face: options.AnyFaceOptions,
    forget: Annotated[
        Path | None, typer.Option("--forget", metavar="FOLDER", help="Delete the index of a folder, nothing else.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Find images of the person on PHOTO in FOLDER, the nearest first.

    The first call embeds every image of the folder and keeps an index; later calls read only new and changed images,
    and drop those that are gone. --forget deletes the index, also of a folder that is gone; the index of a folder that
    was moved or renamed is deleted when the folder is searched in its new place. `spherecv gallery caches` lists all
    indexes.

    Examples:

      spherecv find ann.jpg holiday/ --far 0.001

      spherecv find --forget holiday/
    """
    if forget is not None:
        _forget(forget, as_json)
        return
    if photo is None or folder is None:
        raise InvalidArgumentError("find needs PHOTO and FOLDER: whom to look for, and where")
    from spherecv.gallery import FaceGallery
    from spherecv.gallery.caches import forget_empty, forget_moved, index_of
    from spherecv.images import IMAGE_SUFFIXES

    which = face.which()
    if folder.is_file() and folder.suffix.lower() in IMAGE_SUFFIXES:
        raise InvalidArgumentError(
            f"{folder} is one image, and find looks through a folder or a list: `spherecv verify` compares two images"
        )
    config = pipeline.pipeline_config()
    place = index or index_of(folder, config.source.key, config.detector_name)
    made = index is None and not place.exists()
    try:
        with FaceGallery.open(place, model=config, **decision.of_gallery()) as opened:
            settled = opened.threshold(**decision.question())  # before an hour of indexing, not after
            with counted("indexing") as progress:
                done = opened.add_unknown(folder, prune=True, progress=progress)
            matches = opened.find(photo, k, threshold=settled, face=which)
    finally:
        if made:
            forget_empty(place)
    moved = forget_moved(place) if done.images and index is None else []
    for one in moved:
        typer.echo(f"forgot what was kept of {one.folder}, whose images are in {folder} now", err=True)
    if not folder.is_dir():
        matches = _listed(matches, folder)
    if as_json:
        failures = [{"image": image, "error": str(error)} for image, error in done.failures]
        answers = [match.to_dict() for match in matches]
        typer.echo(json.dumps({"faces": answers, "failures": failures, "index": str(place)}))
        return
    if done.images or done.replaced:
        for image, error in done.failures:
            typer.echo(f"{image}: {error}", err=True)
    typer.echo("\n\n".join(_found_text(match, photo, folder, which) for match in matches))
    typer.echo(f"\nFalse accepts: {rate_row(matches[0].far)}, threshold: {matches[0].threshold_source}")


def _found_text(match: Match, photo: str, folder: Path, which: WhichFace) -> str:
    from spherecv.images import shown_source
    from spherecv.records import taken_text

    several = ""
    if (match.faces_found or 0) > 1 and which != "all":
        several = f" ({match.faces_found} faces found, {taken_text(which)} taken)"
    where = "" if match.face is None else f" at {' '.join(f'{value:.0f}' for value in match.face.box)}"
    count = len(match.candidates)
    head = f"{count or 'No'} image{'s' * (count != 1)} in {folder} of the face{where} on {shown_source(photo)}{several}"
    limit = f"within the {match.metric} distance {match.threshold:.4f}" + ", the nearest first:" * bool(count)
    return "\n".join([f"{head}, {limit}", *(f"  {one.distance:.4f}  {one.image}" for one in match.candidates)])


def _listed(matches: list[Match], source: Path) -> list[Match]:
    """Leave out images that are in the index and on the list no more: only of a folder it is known what is gone."""
    from spherecv.images import find_images

    names = {os.path.abspath(path) for path in find_images(source)}  # noqa: PTH100 - as the images are named
    return [replace(match, candidates=tuple(c for c in match.candidates if c.image in names)) for match in matches]


def _forget(folder: Path, as_json: bool) -> None:
    from spherecv.gallery.caches import forget_folder

    gone = forget_folder(folder)
    if as_json:
        typer.echo(json.dumps({"forgotten": [one.to_dict() for one in gone]}))
        return
    for one in gone:
        typer.echo(f"forgot {numbered(one.images, 'image')} of {one.folder}")
    if not gone:
        typer.echo(f"nothing is kept of {folder}")
