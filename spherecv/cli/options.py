"""Options that several commands share: declared once, in groups that a command takes as one parameter."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast, get_args, get_type_hints

import typer

from spherecv.checks import METRICS, check_choice
from spherecv.errors import InvalidArgumentError

if TYPE_CHECKING:
    from spherecv.config import PipelineConfig
    from spherecv.pipeline import WhichFace


def _models() -> list[str]:
    from spherecv.zoo.manifest import model_names

    return model_names("embedder")


def one_of(*values: str) -> Callable[[], list[str]]:
    """What the shell completes."""
    return lambda: list(values)


def _backends() -> list[str]:
    from spherecv.runtime.devices import BACKENDS

    return [*BACKENDS, "auto"]


def _devices() -> list[str]:
    from spherecv.runtime.devices import DEVICES

    return list(DEVICES)


def _precisions() -> list[str]:
    from spherecv.runtime.devices import PRECISIONS

    return list(PRECISIONS)


# Written out, since their modules load NumPy, for which a completion should not wait; a test holds them to these.
DETECTORS = one_of("mtcnn", "yunet", "retinaface", "ssd")
PRESETS = one_of("fast", "sphereface")
FACES = ("largest", "center", "only", "whole")

Source: TypeAlias = Annotated[
    str, typer.Argument(metavar="SRC", help="An image, a folder, or a list (.txt: a path a line).")
]
Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A model's name (`spherecv models list`), an .onnx file, or PROTOTXT,CAFFEMODEL.",
        show_default=False,
        autocompletion=_models,
    ),
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
Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config", help="A pipeline from a .toml file; other options replace what it says.", show_default=False
    ),
]
Detector: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--detector",
        "-d",
        help="mtcnn, yunet, retinaface or ssd.  [default: mtcnn]",
        show_default=False,
        autocompletion=DETECTORS,
    ),
]
Preset: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Settings of mtcnn: fast, or sphereface as the authors ran it.  [default: fast]",
        show_default=False,
        autocompletion=PRESETS,
    ),
]
MinSize: TypeAlias = Annotated[
    int | None, typer.Option("--min-size", help="Smallest face looked for, in pixels.", show_default=False)
]
_WHICH = "Which of several faces: largest, center, only (several are an error){}; whole: the image is a crop."
Face: TypeAlias = Annotated[str, typer.Option("--face", help=_WHICH.format(""), autocompletion=one_of(*FACES))]
AnyFace: TypeAlias = Annotated[
    str, typer.Option("--face", help=_WHICH.format(", all"), autocompletion=one_of(*FACES, "all"))
]
OneFace: TypeAlias = Annotated[
    bool, typer.Option("--one-face", help="Refuse images that show several faces: the same as --face only.")
]
Backend: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="opencv, onnxruntime, openvino or auto.  [default: the fastest of what is always installed, onnxruntime]",
        show_default=False,
        autocompletion=_backends,
    ),
]
DetectorBackend: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--detector-backend",
        help="Another backend for the detector.  [default: that of --backend]",
        show_default=False,
        autocompletion=_backends,
    ),
]
Device: TypeAlias = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.", autocompletion=_devices)]
AnyDevice: TypeAlias = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or auto.  [default: cpu]", show_default=False, autocompletion=_devices),
]
Threads: TypeAlias = Annotated[int | None, typer.Option("--threads", help="Threads to use; all cores by default.")]
Precision: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="What nets are computed in: float32, bfloat16, int8, or auto for the fastest whose loss was measured and "
        "is small. Any but float32 makes --backend auto.  [default: float32]",
        show_default=False,
        autocompletion=_precisions,
    ),
]
DetectorPrecision: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--detector-precision",
        help="What the nets of mtcnn or ssd are computed in; thresholds were measured in float32.  [default: float32]",
        show_default=False,
        autocompletion=_precisions,
    ),
]
Metric: TypeAlias = Annotated[
    str, typer.Option("--metric", help="cosine or euclidean.", autocompletion=one_of(*METRICS))
]
Threshold: TypeAlias = Annotated[
    float | None,
    typer.Option("--threshold", help="Largest distance of the same person; measured ones are known by model."),
]
Far: TypeAlias = Annotated[
    float | None, typer.Option("--far", help="Take the threshold measured at this false accept rate, as 0.001.")
]
Calibration: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--calibration", help="What `spherecv calibrate` wrote: thresholds and a probability.", show_default=False
    ),
]
Prior: TypeAlias = Annotated[
    float, typer.Option("--prior", help="Share of genuine pairs among all compared, for the probability.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]


@dataclass
class ImageOptions:
    """Which images are taken that would be refused otherwise."""

    max_pixels: Annotated[
        float | None,
        typer.Option("--max-pixels", help="Largest image, in megapixels.  [default: 89]", show_default=False),
    ] = None
    truncated: Annotated[
        bool, typer.Option("--truncated", help="Take JPEGs that break off, grey where pixels are missing.")
    ] = False

    def environment(self) -> dict[str, str]:
        """What holds while the command runs, in its worker processes too."""
        from spherecv.images import PIXELS_VARIABLE, TRUNCATED_VARIABLE

        values = {TRUNCATED_VARIABLE: "1"} if self.truncated else {}
        if self.max_pixels is not None:
            if not 0 < self.max_pixels < float("inf"):
                raise InvalidArgumentError(f"--max-pixels must be above 0, in megapixels, but got {self.max_pixels:g}")
            values[PIXELS_VARIABLE] = str(max(1, round(self.max_pixels * 1_000_000)))
        return values


@dataclass
class FaceOptions:
    """Which of several faces counts."""

    face: Face = "largest"
    one_face: OneFace = False

    def which(self) -> WhichFace:
        """Check what was given."""
        from spherecv.pipeline import WhichFace

        named = cast("WhichFace", check_choice("--face", self.face, get_args(WhichFace)))
        return "only" if self.one_face else named


@dataclass
class AnyFaceOptions(FaceOptions):
    """Which of several faces counts, where all may."""

    face: AnyFace = "largest"


@dataclass
class EveryFaceOptions(FaceOptions):
    """Which of several faces counts: all, where nothing is said."""

    face: AnyFace = "all"


@dataclass
class DetectorOptions(ImageOptions):
    """What finds faces."""

    detector: Detector = None
    preset: Preset = None
    min_size: MinSize = None
    backend: Backend = None
    device: AnyDevice = None
    threads: Threads = None

    def settings(self) -> dict[str, Any]:
        """The settings of a `PipelineConfig` that were given."""
        names = ("detector", "preset", "min_size", "backend", "device", "threads")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}


@dataclass
class PipelineOptions(ImageOptions):
    """What finds and embeds faces."""

    config: Config = None
    model: Model = None
    prototxt: Prototxt = None
    caffemodel: Caffemodel = None
    recipe: Recipe = None
    detector: Detector = None
    preset: Preset = None
    min_size: MinSize = None
    backend: Backend = None
    detector_backend: DetectorBackend = None
    device: AnyDevice = None
    threads: Threads = None
    precision: Precision = None
    detector_precision: DetectorPrecision = None

    def settings(self) -> dict[str, Any]:
        """The settings of a `PipelineConfig` that were given, but for the model."""
        detection = ("detector", "preset", "min_size", "detector_backend", "detector_precision")
        names = ("recipe", *detection, "backend", "device", "threads", "precision")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def given_config(self) -> PipelineConfig | None:
        """The pipeline, if the options name its model."""
        from dataclasses import replace

        from spherecv.config import PipelineConfig

        model = model_of(self.model, self.prototxt, self.caffemodel)
        if self.config is not None:
            more = self.settings() if model is None else {"model": model, **self.settings()}
            return replace(PipelineConfig.load(self.config), **more)
        return None if model is None else PipelineConfig(model, **self.settings())

    def pipeline_config(self) -> PipelineConfig:
        """The pipeline, around the default model where the options name none."""
        from spherecv.config import PipelineConfig

        return self.given_config() or PipelineConfig(**self.settings())


@dataclass
class DecisionOptions:
    """What counts as the same person."""

    metric: Metric = "cosine"
    threshold: Threshold = None
    far: Far = None
    calibration: Calibration = None

    def settings(self) -> dict[str, Any]:
        """The settings of a `DecisionRule`."""
        return dict(vars(self))

    def question(self) -> dict[str, Any]:
        """What one question to a gallery may state."""
        return {"threshold": self.threshold, "far": self.far}

    def of_gallery(self) -> dict[str, Any]:
        """What a gallery is opened with."""
        return {"metric": self.metric, "calibration": self.calibration}


@dataclass
class ProbabilityOptions(DecisionOptions):
    """What counts as the same person, and how probable it is."""

    prior: Prior = 0.5


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its groups: each parameter whose type is one of the groups becomes the group's own.

    Parameters
    ----------
    command : callable
        Its parameters of a dataclass' type are groups; all others are taken as they are.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if not is_dataclass(parameter.annotation):
            parameters.append(parameter)
            continue
        groups[parameter.name] = parameter.annotation
        hints = get_type_hints(parameter.annotation, include_extras=True)
        parameters += [
            inspect.Parameter(one.name, parameter.kind, default=one.default, annotation=hints[one.name])
            for one in sorted(fields(parameter.annotation), key=lambda one: one.name in ImageOptions.__annotations__)
        ]

    @wraps(command)
    def run(**values: Any) -> None:
        set_here: dict[str, str] = {}
        for name, group in groups.items():
            values[name] = made = group(**{one.name: values.pop(one.name) for one in fields(group)})
            set_here |= made.environment() if isinstance(made, ImageOptions) else {}
        before = {name: os.environ.get(name) for name in set_here}
        os.environ.update(set_here)
        try:
            command(**values)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    ordered = sorted(parameters, key=lambda one: one.default is not inspect.Parameter.empty)
    keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in ordered]
    run.__annotations__ = {one.name: one.annotation for one in keyword}
    vars(run)["__signature__"] = inspect.Signature(keyword)
    return run


def model_of(model: str | None, prototxt: Path | None, caffemodel: Path | None) -> str | tuple[str, str] | None:
    """Find the model that the options name; None where they name none.

    Raises
    ------
    InvalidArgumentError
        Half of a Caffe model, or two models.
    """
    if (prototxt is None) != (caffemodel is None):
        raise InvalidArgumentError("--prototxt and --caffemodel go together: give both")
    if prototxt is not None and model is not None:
        raise InvalidArgumentError("give --model, or --prototxt and --caffemodel, not both")
    if prototxt is not None:
        return str(prototxt), str(caffemodel)
    pair = None if model is None else re.fullmatch(r"(.+\.prototxt),(.+)", model, re.IGNORECASE)
    return model if pair is None else (pair[1], pair[2])
