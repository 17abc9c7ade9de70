"""Options and answers of the commands on galleries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from spherecv.cli import options
from spherecv.cli.wording import numbered

if TYPE_CHECKING:
    from spherecv.gallery import Enrolment, FaceGallery
    from spherecv.records import Match

Location: TypeAlias = Annotated[
    str, typer.Argument(metavar="GALLERY", help="The gallery's file, or milvus://host:port/collection.")
]
Index: TypeAlias = Annotated[
    str,
    typer.Option(
        "--index",
        help="How to search: auto, exact, hnsw or ivf.",
        autocompletion=options.one_of("auto", "exact", "hnsw", "ivf"),
    ),
]
Template: TypeAlias = Annotated[
    str,
    typer.Option(
        "--template",
        help="A gallery's person of several images: best or mean.",
        autocompletion=options.one_of("best", "mean"),
    ),
]


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
        parts = [f"{numbered(done.faces, 'face')} of {numbered(done.images + done.replaced, 'image')} enrolled"]
        parts += [f"{done.unchanged} unchanged"] if done.unchanged else []
        parts += [f"{done.removed} removed"] if done.removed else []
        parts += [f"{len(done.failures)} failed"] if done.failures else []
        if not quiet:
            typer.echo(", ".join(parts))
        if done.crowded:
            names = ", ".join(Path(image).name for image in done.crowded[:3]) + ", ..." * (len(done.crowded) > 3)
            typer.echo(
                f"note: several faces on {len(done.crowded)} of them ({names}), one of which was taken: --face says "
                "which, --one-face refuses such images",
                err=True,
            )
        for doubt in done.doubts:
            typer.echo(f"warning: {doubt}", err=True)
        if done.passed_over:
            typer.echo(f"passed over {passed_over_text(done.passed_over)}", err=True)
    if done.failures and not (done.images or done.replaced or done.unchanged):
        raise done.failures[0][1]


def identified_text(photo: str, matches: Sequence[Match]) -> str:
    """Show who is on an image, a line for each face, and what the gallery's size does to the error rate."""
    from spherecv.images import shown_source
    from spherecv.records import rate_text

    first = matches[0]
    known = sum(match.identity is not None for match in matches)
    others = "" if (first.faces_found or 0) <= len(matches) else f" of {first.faces_found} found"
    head = f"{shown_source(photo)}: {numbered(len(matches), 'face')}{others}, {known} of them known to the gallery"
    rows = [f"  {number}  {_who(match)}" for number, match in enumerate(matches, 1)]
    limit = f"Known: within the {first.metric} distance {first.threshold:.4f}, {first.threshold_source}."
    if first.far is None:
        rate = "How often a stranger is given a name was not measured for this threshold."
    elif first.people is None:
        rate = f"False accepts: {rate_text(first.far)} (--far chooses another)."
    else:
        rate = (
            f"False accepts: {rate_text(first.far)}; with the {numbered(first.people, 'person')} enrolled, "
            f"about {100 * (first.fpir or 0.0):.2g} % of strangers are given a name (--far chooses another rate)."
        )
    return "\n".join([head, "", *rows, "", limit, rate])


def _who(match: Match) -> str:
    where = "" if match.face is None else f"  [face at {' '.join(f'{value:.0f}' for value in match.face.box)}]"
    sure = "" if match.probability is None else f", probability {match.probability:.3f}"
    near = [f"{one.identity or one.image} {one.distance:.4f}" for one in match.candidates]
    if match.identity is None:
        nearest = f"nearest: {', '.join(near[:3])}" if near else "the gallery is empty"
        return f"nobody known ({nearest}{sure}){where}"
    image = match.candidates[0].image
    of = "" if image is None else f", by {Path(image).name}"
    then = f"; then {', '.join(near[1:3])}" if near[1:] else ""
    return f"{match.identity}: distance {match.candidates[0].distance:.4f}{sure}{of}{then}{where}"
