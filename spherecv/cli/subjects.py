"""Options that say what is evaluated: models, and the stages before them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.evaluate import Subject
    from spherecv.evaluate.run import SavedAt
    from spherecv.zoo import ModelSource

Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="A model's name, an .onnx file, or PROTOTXT,CAFFEMODEL; several times to compare.",
        show_default=False,
    ),
]
Recipes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--recipe", help="One for all models, or one for each, in their order.", show_default=False),
]
Face: TypeAlias = Annotated[
    str, typer.Option("--face", help="Which of several: center, largest; whole takes images as ready crops.")
]
NoFace: TypeAlias = Annotated[
    str, typer.Option("--no-face", help="Images without a face: skip, center (take the middle) or fail.")
]
Preset: TypeAlias = Annotated[
    str | None, typer.Option("--preset", help="Settings of mtcnn: sphereface as the authors ran it, or fast.")
]
Embeddings: TypeAlias = Annotated[
    Path | None,
    typer.Option("--embeddings", help="Where to keep embeddings: .npz, or a folder.  [default: the cache]"),
]
Replicates: TypeAlias = Annotated[int, typer.Option("--bootstrap", help="Replicates of the intervals; 0 for none.")]
Report: TypeAlias = Annotated[
    Path | None, typer.Option("--report", help="Write a page with curves and the worst mistakes into this folder.")
]


def make_subjects(
    models: Sequence[str] | None,
    recipes: Sequence[str] | None,
    *,
    detector: str,
    preset: str | None,
    face: str,
    no_face: str,
    backend: str,
    device: str,
    threads: int | None,
) -> list[Subject]:
    """Describe what the options name; stages are opened only where an image must be embedded."""
    from spherecv.evaluate.subject import Subject
    from spherecv.zoo import DEFAULT_MODEL

    names = list(models or [DEFAULT_MODEL])
    if recipes and len(recipes) not in (1, len(names)):
        raise InvalidArgumentError(f"--recipe must be given once, or once for each of the {len(names)} models")
    given: list[str | None] = [*recipes] if recipes else [None]
    wanted = given * len(names) if len(given) == 1 else given
    return [
        Subject.of(
            _source(name, recipe),
            detector=detector,
            preset=preset,
            face=cast(Any, face),
            no_face=cast(Any, no_face),
            backend=backend,
            device=device,
            threads=threads,
        )
        for name, recipe in zip(names, wanted, strict=True)
    ]


def saved_at(path: Path | None, subject: Subject, several: bool) -> SavedAt:
    """Where embeddings are kept: where the option says, or in the cache."""
    from spherecv.evaluate.collection import saved_path
    from spherecv.zoo import cache_dir

    def where(folder: Any, mirror: bool) -> Path:
        default = saved_path(cache_dir(), folder, subject, mirror=mirror)
        if path is None:
            return default
        return path / default.name if several or path.is_dir() or path.suffix != ".npz" else path

    return where


def _source(name: str, recipe: str | None) -> ModelSource:
    from spherecv.zoo import ModelSource, open_model

    prototxt, comma, caffemodel = name.partition(",")
    if comma:
        return ModelSource.from_caffe(prototxt, caffemodel, recipe=recipe)
    return open_model(name, recipe=recipe)
