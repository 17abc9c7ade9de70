"""PipelineConfig: the one description of a face pipeline, and the function that opens it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from spherecv.checks import check_path, plain_number
from spherecv.detect import FaceDetector
from spherecv.detect.base import detector_name, precision_in_name
from spherecv.detect.detector import ANY_BACKEND, check_kind
from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError
from spherecv.files import read_toml, write_toml
from spherecv.pipeline import FacePipeline
from spherecv.records import Fingerprint
from spherecv.runtime.devices import check_settings, usual_backend
from spherecv.zoo import DEFAULT_MODEL, ModelSource, Recipe, get_recipe, open_model

PathLike: TypeAlias = str | os.PathLike[str]
ModelName: TypeAlias = PathLike | tuple[PathLike, PathLike]
"""A model's name, the path of an `.onnx` file, or a prototxt and a caffemodel."""
AnyRecipe: TypeAlias = Recipe | str | os.PathLike[str] | Mapping[str, Any]
FORMAT = 1
"""Of files; a number that this version does not know is refused."""


class PipelineSettings(TypedDict, total=False):
    """The keywords of `PipelineConfig` in the calls that take a model and its settings; stages of your own also."""

    recipe: AnyRecipe | None
    detector: str | FaceDetector
    preset: str | None
    min_size: float | None
    backend: str | None
    detector_backend: str | None
    device: str
    threads: int | None
    precision: str
    detector_precision: str


@dataclass(frozen=True)
class PipelineConfig:
    """What a face pipeline consists of: equal, hashable and picklable, to and from TOML.

    Parameters
    ----------
    model : str, path, or (path, path)
        The name of a model (`spherecv models list`), the path of an `.onnx` file, or a prototxt and a caffemodel.
    recipe : Recipe, str, path or mapping, optional
        How the model wants its input; by default what the manifest says.
    detector : {"mtcnn", "yunet", "retinaface", "ssd"}
    preset : {"fast", "sphereface"}, optional
        Settings of `mtcnn`; `fast` is its default.
    min_size : float, optional
        Side of the smallest face to look for, in pixels, from 10; of `mtcnn` only.
    backend : {"opencv", "onnxruntime", "openvino", "auto"}, optional
        What runs the nets: the embedder, and `mtcnn` and `ssd` too. (`yunet` and `retinaface` have but one.) By default
        what each is fastest on of what is always installed: ONNX Runtime for the embedder and `mtcnn`, OpenCV for
        `ssd`; and "auto" for an embedder in another precision than float32, or on another device than the CPU.
    detector_backend : {"opencv", "onnxruntime", "openvino", "auto"}, optional
        What runs the detector, where that is to be another.
    device : {"cpu", "cuda", "auto"}
    threads : int, optional
        Threads that one call may use; all cores by default.
    precision : {"float32", "bfloat16", "int8", "auto"}
        What the embedder is computed in. "auto" takes the fastest whose loss was measured for the model and is small,
        of those that the backend computes.
    detector_precision : {"float32", "bfloat16", "int8", "auto"}
        The same for the nets of `mtcnn` and `ssd`, whose loss was measured for none: "auto" is float32. Boxes and
        landmarks are other ones, so that thresholds measured in float32 warn.

    Raises
    ------
    InvalidArgumentError
        A value of the wrong type or out of its range.

    Examples
    --------
    >>> config = PipelineConfig("sphereface-mini", detector="mtcnn", preset="sphereface")
    >>> PipelineConfig.from_dict(config.to_dict()) == config
    True
    >>> pipeline = config.open()                                       # doctest: +SKIP
    """

    model: ModelName = DEFAULT_MODEL
    _: KW_ONLY
    recipe: AnyRecipe | None = None
    detector: str = "mtcnn"
    preset: str | None = None
    min_size: float | None = None
    backend: str | None = None
    detector_backend: str | None = None
    device: str = "cpu"
    threads: int | None = None
    precision: str = "float32"
    detector_precision: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", _model_name(self.model))
        if self.recipe is not None:
            object.__setattr__(self, "recipe", get_recipe(self.recipe))
        object.__setattr__(self, "preset", None if self.preset == "fast" else self.preset)
        check_kind(self.detector, preset=self.preset, min_size=self.min_size)
        for name in ("min_size", "threads"):  # TOML and JSON hold plain numbers only
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        check_settings(self.backend or "auto", self.device, self.threads, self.precision)
        check_settings(self.detector_backend or "auto", self.device, self.threads, self.detector_precision)

    @classmethod
    def of(cls, model: ModelName | ModelSource, **settings: Any) -> PipelineConfig:
        """Describe a pipeline around a model that may have been found already.

        Parameters
        ----------
        model : str, path, (path, path) or ModelSource
            A source is taken as it is, its recipe too, without looking at its files again.
        **settings
            As for the class.
        """
        if not isinstance(model, ModelSource):
            return cls(model, **settings)
        settings.setdefault("precision", model.precision)
        files = [str(path) for path in model.files.values()]
        recipe = settings.pop("recipe", None)
        source = model if recipe is None else replace(model, recipe=get_recipe(recipe))
        made = cls(files[0] if len(files) == 1 else (files[0], files[1]), recipe=source.recipe, **settings)
        made.__dict__["source"] = made._settled(source)
        return made

    @cached_property
    def source(self) -> ModelSource:
        """The model: its files, which are downloaded if they are missing, and its recipe; raises as `open_model`."""
        if isinstance(self.model, tuple):
            return self._settled(ModelSource.from_caffe(*self.model, recipe=self.recipe))
        return self._settled(open_model(self.model, recipe=self.recipe))

    def _settled(self, source: ModelSource) -> ModelSource:
        return source.computed_in(self.precision, backend=self.embedder_backend, device=self.device)

    @property
    def embedder_backend(self) -> str:
        """What the embedder is asked to run on."""
        return self.backend or usual_backend(self.device, self.precision)

    @property
    def detector_name(self) -> str:
        """What `FaceDetector.name` will be."""
        precision = precision_in_name(self.detector_precision)
        return detector_name(self.detector, preset=self.preset, min_size=self.min_size, precision=precision)

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides the embeddings: what galleries, calibrations, bulk jobs and evaluations are kept under."""
        return Fingerprint(self.source.name, self.source.key, self.detector_name)

    def with_recipe(self, recipe: Recipe) -> PipelineConfig:
        """Describe the same pipeline with another recipe; a model that was found already is not looked for again."""
        other = replace(self, recipe=recipe)
        if "source" in self.__dict__:
            other.__dict__["source"] = replace(self.source, recipe=recipe)
        return other

    def open(self) -> FacePipeline:
        """Open the detector and the embedder.

        Returns
        -------
        FacePipeline

        Raises
        ------
        SphereCVError
            As for `FaceEmbedder` and `FaceDetector`.
        """
        return FacePipeline(self.open_embedder(), detector=self.open_detector())

    def open_embedder(self) -> FaceEmbedder:
        """Open the embedder alone."""
        return FaceEmbedder(self.source, backend=self.embedder_backend, device=self.device, threads=self.threads)

    def open_detector(self) -> FaceDetector:
        """Open the detector alone."""
        shared = self.backend if self.detector in ANY_BACKEND else None  # the others have but one
        return FaceDetector(
            self.detector,
            preset=self.preset,
            min_size=self.min_size,
            backend=self.detector_backend or shared,
            device=self.device,
            threads=self.threads,
            precision=self.detector_precision,
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain Python values, without those that are not given."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {name: value for name, value in given.items() if value is not None}
        if isinstance(self.model, tuple):
            values["model"] = [os.fspath(path) for path in self.model]
        if isinstance(self.recipe, Recipe):
            values["recipe"] = self.recipe.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PipelineConfig:
        """Read what `to_dict` wrote.

        Raises
        ------
        InvalidArgumentError
            A name or value that a pipeline cannot have.
        """
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidArgumentError(f"a pipeline has no setting {name!r}: choose {', '.join(sorted(known))}")
        model = values.get("model", DEFAULT_MODEL)
        return cls(**{**values, "model": tuple(model) if isinstance(model, list) else model})

    def save(self, path: PathLike) -> None:
        """Write the settings as TOML, whole or not at all, files by their absolute paths; raises `StorageError`."""
        values = self.to_dict()
        if isinstance(self.model, tuple) or _is_path(str(self.model)):
            files = [self.model] if isinstance(self.model, str) else list(values["model"])
            absolute = [str(Path(file).absolute()) for file in files]
            values["model"] = absolute if len(absolute) > 1 else absolute[0]
        write_toml(path, {"format": FORMAT, **values})

    @classmethod
    def load(cls, path: PathLike) -> PipelineConfig:
        """Read settings from TOML; paths of a model or recipe in it are taken from its folder, `~` is the user's.

        Raises
        ------
        InvalidArgumentError
            The file cannot be read, is not TOML, or holds what a pipeline cannot have; the message names it.
        """
        file = Path(path)
        values = read_toml(file, InvalidArgumentError)
        stated = values.pop("format", FORMAT)
        if isinstance(stated, bool) or stated != FORMAT:  # true == 1
            raise InvalidArgumentError(f"{file} must be of format {FORMAT}, the one that this version reads")
        model = values.get("model")
        if isinstance(model, list):
            values["model"] = [_beside(file, one) if isinstance(one, str) else one for one in model]
        elif isinstance(model, str) and _is_path(model):
            values["model"] = _beside(file, model)
        recipe = values.get("recipe")
        if isinstance(recipe, str) and recipe.endswith(".toml"):
            values["recipe"] = _beside(file, recipe)
        try:
            return cls.from_dict(values)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{file}: {error}") from None


Stages: TypeAlias = PipelineConfig | FacePipeline
"""What everybody who needs faces takes: a description, or an open pipeline."""


def describe(model: ModelName | ModelSource | FaceEmbedder | Stages = DEFAULT_MODEL, **settings: Any) -> Stages:
    """Take what a caller gives: keywords, a description, stages of their own, or an open pipeline.

    Parameters
    ----------
    model : str, path, (path, path), ModelSource, FaceEmbedder, PipelineConfig or FacePipeline
    **settings
        `PipelineSettings`; none of them with an open pipeline.

    Returns
    -------
    PipelineConfig or FacePipeline
        Open where it is open already, or holds stages of the caller's own.

    Raises
    ------
    InvalidArgumentError
        Settings beside an open pipeline; or what `PipelineConfig` refuses.
    """
    if isinstance(model, FacePipeline):
        if settings:
            raise InvalidArgumentError(f"an open pipeline is taken as it is: leave out {', '.join(settings)}")
        return model
    given = settings.get("detector")
    detector = None if isinstance(given, str | None) else settings.pop("detector")
    if isinstance(model, PipelineConfig):
        config = replace(model, **settings) if settings else model
    else:
        config = PipelineConfig.of(DEFAULT_MODEL if isinstance(model, FaceEmbedder) else model, **settings)
    if detector is None and not isinstance(model, FaceEmbedder):
        return config
    embedder = model if isinstance(model, FaceEmbedder) else config.open_embedder()
    return FacePipeline(embedder, detector=config.open_detector() if detector is None else detector)


def open_pipeline(stages: Stages) -> FacePipeline:
    """Open what is described, once: an open pipeline is given back."""
    return stages.open() if isinstance(stages, PipelineConfig) else stages


def _model_name(model: Any) -> str | tuple[str, str]:
    if isinstance(model, tuple | list):
        if len(model) != 2:
            raise InvalidArgumentError(f"a Caffe model must be (prototxt, caffemodel), but got {len(model)} files")
        for path in model:
            check_path("a Caffe model must be two paths", path)
        return os.fspath(model[0]), os.fspath(model[1])
    check_path("a model must be a name, the path of an .onnx file, or (prototxt, caffemodel)", model)
    return str(os.fspath(model))


def _beside(file: Path, path: str) -> str:
    """A path as the file that names it means it."""
    return str(file.parent / Path(path).expanduser())


def _is_path(model: str) -> bool:
    return Path(model).suffix.lower() in (".onnx", ".prototxt", ".caffemodel")
