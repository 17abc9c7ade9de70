"""The lines that both commands of the face_recognition package print, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from spherecv.errors import ImageError, SphereCVError

Cpus: TypeAlias = Annotated[int, typer.Option("--cpus", help="Accepted: the nets use all cores.")]

_SUFFIXES = (".jpg", ".jpeg", ".png")


def images_at(place: Path) -> list[Path]:
    """The image of that name, or those in a folder, as that package takes them; raises `ImageError`."""
    if not place.is_dir():
        return [place]
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise ImageError(f"{place} holds no .jpg, .jpeg or .png")
    return found


def run(command: Callable[..., Any], name: str) -> None:
    """Run a command; what SphereCV refuses is one line on standard error, and exit code 2."""
    app = typer.Typer(add_completion=False)
    app.command(name=name)(command)
    try:
        app()
    except SphereCVError as error:
        typer.echo(f"{name}: {error}", err=True)
        sys.exit(2)
