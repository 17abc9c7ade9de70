"""`spherecv convert`: a Caffe model to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    prototxt: Annotated[Path, typer.Argument(metavar="PROTOTXT", help="The net.")],
    caffemodel: Annotated[Path, typer.Argument(metavar="CAFFEMODEL", help="Its weights.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the ONNX file.")] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", help="Blob to end at, instead of the net's ends; may be repeated.")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print a table: layers, shapes, parameters, MACs.")
    ] = False,
) -> None:
    """Convert a Caffe model to ONNX, with no Caffe at hand; the numbers stay Caffe's.

    Examples:

      spherecv convert sphereface_deploy.prototxt sphereface_model.caffemodel -o sphereface.onnx

      spherecv convert det1.prototxt det1.caffemodel --summary
    """
    from spherecv import caffe
    from spherecv.errors import InvalidArgumentError
    from spherecv.files import write_bytes

    if out is None and not summary:
        raise InvalidArgumentError("say where to write with --out FILE.onnx, or ask for --summary")
    net = caffe.load(prototxt, caffemodel)
    if summary:
        typer.echo(str(net.summary()))
    if out is not None:
        data = net.to_onnx(outputs=output or None)
        write_bytes(out, data)
        typer.echo(f"wrote {out}: {len(data):,} bytes, outputs {', '.join(output or net.outputs)}")
