"""`spherecv train export`: a trained net for use, without what only training needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from spherecv.cli import options
from spherecv.errors import InvalidArgumentError


def export(
    prototxt: Annotated[Path, typer.Argument(metavar="PROTOTXT", help="The net that was trained.")],
    caffemodel: Annotated[Path, typer.Argument(metavar="CAFFEMODEL", help="Weights of a snapshot.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; .prototxt and .caffemodel are added.")],
    size: Annotated[
        str | None, typer.Option("--size", help="Height x width of the input, as in 112x96.", show_default=False)
    ] = None,
    channels: Annotated[int, typer.Option("--channels", help="Of the input.")] = 3,
    as_json: options.Json = False,
) -> None:
    """Write a trained net for use: without data and loss, under the same names.

    Example:

      spherecv train export sphereface_model.prototxt iter_28000.caffemodel --size 112x96 -o mine
    """
    from spherecv.train.deploy import export as write_deployed

    shape = None if size is None else (1, channels, *_size(size))
    written = out.with_name(f"{out.name}.prototxt"), out.with_name(f"{out.name}.caffemodel")
    outputs = write_deployed(prototxt, caffemodel, *written, shape=shape)
    if as_json:
        typer.echo(json.dumps({"prototxt": str(written[0]), "caffemodel": str(written[1]), "outputs": outputs}))
    else:
        typer.echo(f"wrote {written[0]} and {written[1]}: outputs {', '.join(outputs)}")


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise InvalidArgumentError(f"--size must be HEIGHTxWIDTH, as in 112x96, but got {text!r}")
    return int(height), int(width)
