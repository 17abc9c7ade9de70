"""Options that several commands share, so that they are spelled and explained alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias, cast, get_args

import typer

from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.detect import FaceDetector
    from spherecv.embed import FaceEmbedder
    from spherecv.pipeline import WhichFace
    from spherecv.zoo import ModelSource

Source: TypeAlias = Annotated[
    str, typer.Argument(metavar="SRC", help="An image, a folder, or a list (.txt: a path a line).")
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A model's name (`spherecv models list`) or the path of an .onnx file."),
]
Prototxt: TypeAlias = Annotated[
    Path | None, typer.Option("--prototxt", help="A Caffe model of your own: its prototxt.", show_default=False)
]
Caffemodel: TypeAlias = Annotated[
    Path | None, typer.Option("--caffemodel", help="A Caffe model of your own: its weights.", show_default=False)
]
Recipe: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="How the model wants its input: a recipe's name, or a .toml file.", show_default=False
    ),
]
Detector: TypeAlias = Annotated[str, typer.Option("--detector", "-d", help="mtcnn, yunet or retinaface.")]
Preset: TypeAlias = Annotated[
    str | None, typer.Option("--preset", help="Settings of mtcnn: fast, or sphereface as the authors ran it.")
]
MinSize: TypeAlias = Annotated[
    int | None, typer.Option("--min-size", help="Smallest face looked for, in pixels.", show_default=False)
]
Face: TypeAlias = Annotated[
    str, typer.Option("--face", help="Which of several: largest, center, all; whole takes the image as a ready crop.")
]
Backend: TypeAlias = Annotated[str, typer.Option("--backend", help="opencv, onnxruntime, openvino or auto.")]
Device: TypeAlias = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
Threads: TypeAlias = Annotated[int | None, typer.Option("--threads", help="Threads to use; all cores by default.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


def model_source(
    model: str | None, prototxt: Path | None, caffemodel: Path | None, recipe: str | None
) -> ModelSource | None:
    """Find the model that the options name; None where they name none."""
    from spherecv.zoo import ModelSource, open_model

    check_model(model, prototxt, caffemodel)
    if prototxt is not None and caffemodel is not None:
        return ModelSource.from_caffe(prototxt, caffemodel, recipe=recipe)
    return None if model is None else open_model(model, recipe=recipe)


def check_model(model: str | None, prototxt: Path | None, caffemodel: Path | None) -> None:
    """Refuse half of a Caffe model, and two models."""
    if (prototxt is None) != (caffemodel is None):
        raise InvalidArgumentError("--prototxt and --caffemodel go together: give both")
    if prototxt is not None and model is not None:
        raise InvalidArgumentError("give --model, or --prototxt and --caffemodel, not both")


def chosen_model(
    model: str | None, prototxt: Path | None, caffemodel: Path | None, recipe: str | None
) -> ModelSource:
    """Find the model that the options name; the default where they name none."""
    from spherecv.zoo import DEFAULT_MODEL, open_model

    return model_source(model, prototxt, caffemodel, recipe) or open_model(DEFAULT_MODEL, recipe=recipe)


def make_embedder(
    model: str | None,
    prototxt: Path | None,
    caffemodel: Path | None,
    recipe: str | None,
    backend: str,
    device: str,
    threads: int | None,
) -> FaceEmbedder:
    """Open the model that the options name."""
    from spherecv.embed import FaceEmbedder

    source = chosen_model(model, prototxt, caffemodel, recipe)
    return FaceEmbedder(source, recipe=recipe, backend=backend, device=device, threads=threads)


def make_detector(
    kind: str, device: str, threads: int | None, preset: str | None = None, min_size: int | None = None
) -> FaceDetector:
    """Open the detector that the options name."""
    from spherecv.detect import FaceDetector

    return FaceDetector(kind, device=device, threads=threads, preset=preset, min_size=min_size)


def which_face(name: str) -> WhichFace:
    """Check the value of `--face`."""
    from spherecv.pipeline import WhichFace

    for known in get_args(WhichFace):
        if name == known:
            return cast("WhichFace", known)
    raise InvalidArgumentError(f"--face must be one of {', '.join(get_args(WhichFace))}, but got {name!r}")
