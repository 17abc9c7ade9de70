"""`spherecv convert`: a Caffe model to ONNX, with a proof that the numbers agree."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spherecv.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spherecv.caffe import CaffeNet
    from spherecv.cli.parity import Parity

DIFFERENT = 1


def convert(
    prototxt: Annotated[Path, typer.Argument(metavar="PROTOTXT", help="The net.")],
    caffemodel: Annotated[
        Path, typer.Argument(metavar="CAFFEMODEL", help="Its weights, a .caffemodel or Caffe's HDF5.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the ONNX file.")] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            help="Blob to end at, any of the net, instead of its ends; may be repeated. What lies behind "
            "it may be of types that nobody knows.",
        ),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            "--input-shape",
            metavar="NAME=N,C,H,W",
            help="Shape of an input, where the prototxt states none or another one; may be repeated.",
        ),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Stage for `include` and `exclude` rules, as deploy; may be repeated."),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print a table: layers, shapes, parameters, MACs.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Run the net on random inputs in every backend that is installed (and in OpenCV 4's "
            "importer and in Caffe, where they are) and print the largest differences; exit code 1 above --tolerance.",
        ),
    ] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Of --verify: a share of an output's largest value.")
    ] = 1e-4,
    precision: Annotated[
        str, typer.Option("--precision", help="Of the file: float32, or int8, of an embedder, with --calibrate.")
    ] = "float32",
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="SRC",
            help="Faces to measure ranges on for int8: photographs or aligned crops, some dozens.",
            show_default=False,
        ),
    ] = None,
    recipe: options.Recipe = None,
    as_json: options.Json = False,
) -> None:
    """Convert a Caffe model to ONNX without Caffe; the numbers stay Caffe's.

    Examples:

      spherecv convert sphereface_deploy.prototxt sphereface_model.caffemodel -o sphereface.onnx

      spherecv convert det1.prototxt det1.caffemodel --summary

      spherecv convert net.prototxt net.caffemodel --precision int8 --calibrate faces/ --recipe sphereface -o int8.onnx

      spherecv convert deploy.prototxt res10.caffemodel --output mbox_loc --output mbox_conf_flatten --verify
    """
    from spherecv import caffe
    from spherecv.errors import InvalidArgumentError
    from spherecv.files import write_bytes

    if out is None and not summary and not verify:
        raise InvalidArgumentError("say where to write with --out FILE.onnx, or ask for --summary or --verify")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InvalidArgumentError(f"--tolerance must be a number from 0, but got {tolerance}")
    if precision not in ("float32", "int8"):
        raise InvalidArgumentError(f"--precision must be float32 or int8, but got {precision}: bfloat16 needs no file")
    if (precision == "int8") != (calibrate is not None):
        raise InvalidArgumentError("--precision int8 and --calibrate IMAGES go together: give both")
    shapes = _shapes(input_shape or ())
    net = caffe.load(prototxt, caffemodel, input_shapes=shapes, outputs=output or None, stages=stage or ())
    answer: dict[str, Any] = {"inputs": net.inputs, "outputs": net.outputs}
    if summary:
        table = net.summary()
        answer["summary"] = [row.to_dict() for row in table.rows]
        _say(str(table), as_json)
    if out is not None:
        data = net.to_onnx() if calibrate is None else _int8((prototxt, caffemodel), calibrate, recipe)
        write_bytes(out, data)
        answer |= {"out": str(out), "bytes": len(data)}
        _say(f"wrote {out}: {len(data):,} bytes, outputs {', '.join(net.outputs)}", as_json)
        _say_tail(data, net.outputs, as_json)
    agrees = _verify(net, (prototxt, caffemodel), tolerance, answer, as_json) if verify else True
    if as_json:
        typer.echo(json.dumps(answer))
    if not agrees:
        raise typer.Exit(DIFFERENT)


def _say_tail(model: bytes, outputs: Sequence[str], as_json: bool) -> None:
    """Say which outputs are computed after the net, and what other software finds in the file instead."""
    from spherecv.runtime.signature import read_signature

    found = [port.name for port in read_signature(model, "the model").outputs]
    later = [name for name in outputs if name not in found]
    if later:
        _say(
            f"SphereCV computes {', '.join(later)} after the net; other software that reads the file gets "
            f"{', '.join(found)}",
            as_json,
        )


def _int8(files: tuple[Path, Path], images: str, recipe: str | None) -> bytes:
    from spherecv.images import find_images
    from spherecv.quantising import quantise_embedder
    from spherecv.zoo import ModelSource

    return quantise_embedder(ModelSource.from_caffe(*files, recipe=recipe), find_images(images))


def _verify(
    net: CaffeNet, files: tuple[Path, Path], tolerance: float, answer: dict[str, Any], as_json: bool
) -> bool:
    from spherecv.cli.parity import compare

    parity = compare(net, *files)
    agrees = parity.agrees(tolerance)
    answer["verify"] = {
        "reference": parity.reference,
        "tolerance": tolerance,
        "agrees": agrees,
        "differences": [difference.to_dict() for difference in parity.differences],
        "failures": parity.failures,
    }
    _say(_table(parity, tolerance), as_json)
    return agrees


def _table(parity: Parity, tolerance: float) -> str:
    rows = [("output", "runtime", "largest difference", "of the largest value", "")]
    for difference in parity.differences:
        verdict = "" if difference.relative <= tolerance else f"above {tolerance:g}"
        numbers = (f"{difference.largest:.3g}", f"{difference.relative:.3g}")
        rows.append((difference.output, difference.runtime, *numbers, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{name} cannot run it: {reason}" for name, reason in parity.failures.items()]
    return "\n".join([f"compared with {parity.reference}, on random inputs:", *lines])


def _shapes(texts: list[str] | tuple[()]) -> dict[str, tuple[int, ...]]:
    from spherecv.errors import InvalidArgumentError

    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        words = sizes.split(",")
        if not name or not all(word.strip().isdecimal() and len(word.strip()) < 10 for word in words):
            raise InvalidArgumentError(f"--input-shape must read like data=1,3,112,96, but got {text!r}")
        shapes[name] = tuple(int(word) for word in words)
    return shapes


def _say(text: str, as_json: bool) -> None:
    if not as_json:
        typer.echo(text)
