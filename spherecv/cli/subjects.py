"""Options that say what is evaluated: models, and the stages before them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from spherecv.cli import options
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.evaluate import Subject
    from spherecv.evaluate.run import SavedAt

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
    str,
    typer.Option(
        "--face",
        help="Which of several: center, largest; whole takes images as ready crops.",
        autocompletion=options.one_of("center", "largest", "whole"),
    ),
]
NoFace: TypeAlias = Annotated[
    str,
    typer.Option(
        "--no-face",
        help="Images without a face: skip, center (take the middle) or fail.",
        autocompletion=options.one_of("skip", "center", "fail"),
    ),
]
Preset: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Settings of mtcnn: sphereface as the authors ran it, or fast.",
        autocompletion=options.PRESETS,
    ),
]
Embeddings: TypeAlias = Annotated[
    Path | None,
    typer.Option("--embeddings", help="Where to keep embeddings: .npz, or a folder.  [default: the cache]"),
]
Replicates: TypeAlias = Annotated[int, typer.Option("--bootstrap", help="Replicates of the intervals; 0 for none.")]
Report: TypeAlias = Annotated[
    Path | None, typer.Option("--report", help="Write a page with curves and the worst mistakes into this folder.")
]


@dataclass
class SubjectOptions(options.ImageOptions):
    """What is evaluated, as the SphereFace authors did by default."""

    model: Models = None
    prototxt: options.Prototxt = None
    caffemodel: options.Caffemodel = None
    recipe: Recipes = None
    detector: options.Detector = None
    preset: Preset = "sphereface"
    min_size: options.MinSize = None
    face: Face = "center"
    no_face: NoFace = "skip"
    backend: options.Backend = None
    device: options.AnyDevice = None
    threads: options.Threads = None
    precision: options.Precision = None

    def subjects(self) -> list[Subject]:
        """Describe what the options name; stages are opened only where an image must be embedded."""
        from spherecv.evaluate.subject import Subject
        from spherecv.zoo import DEFAULT_MODEL

        own = options.model_of(None, self.prototxt, self.caffemodel)
        named = [options.model_of(name, None, None) for name in self.model or ()]
        models = [model for model in (*named, own) if model is not None] or [DEFAULT_MODEL]
        if self.recipe and len(self.recipe) not in (1, len(models)):
            raise InvalidArgumentError(f"--recipe must be given once, or once for each of the {len(models)} models")
        given_recipes: list[str | None] = list(self.recipe or ()) or [None]
        recipes = given_recipes * len(models) if len(given_recipes) == 1 else given_recipes
        names = ("detector", "min_size", "backend", "device", "threads", "precision")
        asked = {name: getattr(self, name) for name in names}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        given |= {"preset": self.preset, "face": self.face, "no_face": self.no_face}
        return [Subject.of(model, recipe=recipe, **given) for model, recipe in zip(models, recipes, strict=True)]


@dataclass
class OwnSubjectOptions(SubjectOptions):
    """What is evaluated on images of one's own, as `verify` takes them by default."""

    preset: options.Preset = None
    face: Face = "largest"


@dataclass
class CropOptions:
    """What is evaluated on ready-made crops: a model, and where it runs."""

    model: Models = None
    prototxt: options.Prototxt = None
    caffemodel: options.Caffemodel = None
    recipe: Recipes = None
    backend: options.Backend = None
    device: options.AnyDevice = None
    threads: options.Threads = None
    precision: options.Precision = None

    def subjects(self) -> list[Subject]:
        """Describe what the options name; nothing is opened before a crop must be embedded."""
        return SubjectOptions(**vars(self), preset=None, face="whole").subjects()


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
