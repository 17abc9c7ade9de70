"""Options and answers of the commands on galleries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from spherecv.cli import options

if TYPE_CHECKING:
    from spherecv.gallery import Enrolment, FaceGallery
    from spherecv.records import Match

Location: TypeAlias = Annotated[
    str, typer.Argument(metavar="GALLERY", help="The gallery's file, or milvus://host:port/collection.")
]
Index: TypeAlias = Annotated[str, typer.Option("--index", help="How to search: auto, exact, hnsw or ivf.")]


def open_gallery(location: str | Path, pipeline: options.PipelineOptions, **settings: Any) -> FaceGallery:
    """Open the gallery, with the model that the options name; without any, with its own."""
    from spherecv.gallery import FaceGallery

    config = pipeline.given_config()
    more = pipeline.settings() if config is None else {}
    return FaceGallery.open(location, model=config, **more, **settings)


def open_plainly(location: str) -> FaceGallery:
    """Open the gallery for what needs no model."""
    from spherecv.gallery import FaceGallery

    return FaceGallery.open(location, create=False)


def report(done: Enrolment, as_json: bool, *, quiet: bool = False) -> None:
    """Print what came of enrolling (quiet: failures only); an error where nothing at all could be used."""
    from spherecv.images import passed_over_text

    if as_json:
        if not quiet:
            typer.echo(json.dumps(done.to_dict()))
    else:
        for image, error in done.failures:
            typer.echo(f"{image}: {error}", err=True)
        parts = [f"{done.faces} faces of {done.images + done.replaced} images enrolled"]
        parts += [f"{done.unchanged} unchanged"] if done.unchanged else []
        parts += [f"{done.removed} removed"] if done.removed else []
        parts += [f"{len(done.failures)} failed"] if done.failures else []
        if not quiet:
            typer.echo(", ".join(parts))
        if done.passed_over:
            typer.echo(f"passed over {passed_over_text(done.passed_over)}", err=True)
    if done.failures and not (done.images or done.replaced or done.unchanged):
        raise done.failures[0][1]


def match_text(match: Match) -> str:
    """Show the answer for one face in lines."""
    where = "" if match.face is None else f"face at {' '.join(f'{value:.0f}' for value in match.face.box)}: "
    sure = "" if match.probability is None else f", probability {match.probability:.3f}"
    head = f"{where}{match.identity or 'nobody known'} (threshold {match.threshold:.4f}{sure})"
    rows = [
        f"  {candidate.distance:.4f}  {candidate.identity or candidate.image}"
        + (f"  {candidate.image}" if candidate.identity and candidate.image else "")
        for candidate in match.candidates
    ]
    return "\n".join([head, *rows])
