"""What deepface's names of models, detectors and metrics stand for, and the pipelines behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv import metrics
from spherecv.checks import check_count, check_distance, shown
from spherecv.compat.deepface.errors import UnimplementedError, deepface_errors
from spherecv.config import PipelineConfig
from spherecv.decision import DecisionRule
from spherecv.errors import InvalidArgumentError
from spherecv.pipeline import FacePipeline
from spherecv.zoo import DEFAULT_MODEL, is_known, model_names

Metric: TypeAlias = str | Callable[..., Any]


class DefaultName(str):
    """deepface's default for an argument: equal to its name there, and told from the name when a caller writes it."""


DEEPFACE_MODEL = DefaultName("VGG-Face")
DEEPFACE_DETECTOR = DefaultName("opencv")

MODELS = {"SFace": "sface"}
"""Models of deepface that are the same files here."""
OTHER_MODELS = (
    "VGG-Face", "Facenet", "Facenet512", "OpenFace", "DeepFace", "DeepID", "Dlib", "ArcFace", "GhostFaceNet",
    "Buffalo_L",
)  # fmt: skip
DETECTORS = {"mtcnn": "mtcnn", "fastmtcnn": "mtcnn", "retinaface": "retinaface", "ssd": "ssd", "yunet": "yunet"}
"""Detectors of deepface that are the same nets here, run by other code."""
SKIP = "skip"
METRICS = ("cosine", "euclidean", "euclidean_l2", "angular")
_OPEN = 4


@dataclass(frozen=True)
class Stages:
    """An open pipeline, and what a caller of deepface calls its parts.

    Attributes
    ----------
    pipeline : FacePipeline
    model, detector : str
        The names for answers: the caller's, or SphereCV's where the default was meant.
    skip : bool
        Images are ready-made crops: nothing looks for faces.
    """

    pipeline: FacePipeline
    model: str
    detector: str
    skip: bool = False

    def threshold(self, metric: Metric, given: float | None) -> float:
        """Settle which distance counts as the same person: the caller's, or what SphereCV measured for the model.

        Raises
        ------
        ThresholdUnknown
            Neither is there.
        """
        if given is not None:
            return check_distance("threshold", given)
        if not isinstance(metric, str):
            raise InvalidArgumentError("threshold must be given with a distance_metric of your own")
        plain: metrics.Metric = "euclidean" if metric == "euclidean" else "cosine"
        with deepface_errors():
            rule = DecisionRule.of(self.pipeline, metric=plain)
            value = rule.threshold_at(None, face="whole" if self.skip else "largest").value
        return float(value if metric == plain else _of_cosine(np.float64(value), metric))


def open_stages(model_name: str, detector_backend: str, align: bool) -> Stages:
    """Open what deepface's names stand for, once.

    Raises
    ------
    UnimplementedError
        A model or detector that SphereCV does not have; the message names those it has.
    """
    model = _model(model_name)
    detector = _detector(detector_backend)
    skip = detector_backend == SKIP
    pipeline = _opened(model, detector, bool(align))
    shown_model = model if isinstance(model_name, DefaultName) else str(model_name)
    shown_detector = detector if isinstance(detector_backend, DefaultName) else str(detector_backend)
    return Stages(pipeline, shown_model, shown_detector, skip)


def check_options(*, normalization: str = "base", anti_spoofing: bool = False, expand_percentage: int = 0) -> None:
    """Raise `UnimplementedError` for options of deepface that would change what a model sees."""
    if normalization != "base":
        raise UnimplementedError(
            f"normalization must be 'base', but got {shown(normalization)}: a model's recipe says how its input is "
            "normalised"
        )
    if expand_percentage:
        raise UnimplementedError(
            f"expand_percentage must be 0, but got {shown(expand_percentage)}: a model's recipe says how much of a "
            "face it sees; extract_faces expands"
        )
    check_spoofing(anti_spoofing)


def check_spoofing(anti_spoofing: bool) -> None:
    """Raise `UnimplementedError` where photographs of faces shall be told from faces."""
    if anti_spoofing:
        raise UnimplementedError("anti_spoofing must be False: SphereCV does not tell a face from a photograph of one")


def check_metric(metric: Metric) -> None:
    """Raise `InvalidArgumentError` for what deepface knows no distance of."""
    if isinstance(metric, str) and metric not in METRICS:
        raise InvalidArgumentError(f"distance_metric must be one of {', '.join(METRICS)}, but got {shown(metric)}")
    if not isinstance(metric, str) and not callable(metric):
        raise InvalidArgumentError(f"distance_metric must be a name or a function, but got {shown(metric)}")


def check_most(name: str, value: int | None) -> int | None:
    """Return a number of things at most, or None for all."""
    return None if value is None else check_count(name, value)


def distances(known: ArrayLike, probe: ArrayLike, metric: Metric) -> NDArray[np.float64]:
    """Measure the distance of each of several embeddings (N, D) to one (D,); shape (N,)."""
    rows, one = np.asarray(known, np.float64), np.asarray(probe, np.float64)
    if not isinstance(metric, str):
        return np.array([float(metric(row, one)) for row in rows])
    if metric == "euclidean":
        return metrics.distance(rows, one, "euclidean")
    cosine = metrics.distance(rows, one, "cosine")
    return cosine if metric == "cosine" else _of_cosine(cosine, metric)


def confidence(distance: float, threshold: float, metric: Metric) -> float:
    """Say how far a distance is from its threshold: 51 there to 100 at 0 when verified, 49 there towards 0 when not.

    In deepface's ranges, but no probability: `FaceVerifier.verify(...).probability` is one.
    """
    verified = distance <= threshold
    if not isinstance(metric, str) or threshold <= 0:
        return 51.0 if verified else 49.0
    return round(100 - 49 * distance / threshold if verified else 49 * threshold / distance, 2)


def _of_cosine(cosine: Any, metric: str) -> Any:
    """The distances that follow from cosine distance: between vectors of length 1, and the angle over pi."""
    if metric == "euclidean_l2":
        return np.sqrt(2 * np.maximum(cosine, 0))
    return np.arccos(np.clip(1 - cosine, -1, 1)) / np.pi


def _model(name: str) -> str:
    if isinstance(name, DefaultName):
        return DEFAULT_MODEL
    if not isinstance(name, str):
        raise InvalidArgumentError(f"model_name must be a name, but got {shown(name)}")
    known = MODELS.get(name, name)
    if is_known(known) and _is_recogniser(known):
        return known
    mine = ", ".join(["SFace", *(model for model in model_names() if _is_recogniser(model))])
    reason = "of deepface is not in SphereCV" if name in OTHER_MODELS else "is unknown"
    raise UnimplementedError(f"model_name {shown(name)} {reason}: choose {mine}; `spherecv models add` adds your own")


def _is_recogniser(name: str) -> bool:
    from spherecv.zoo import model_info

    return model_info(name).kind == "embedder"


def _detector(name: str) -> str:
    if isinstance(name, DefaultName) or name == SKIP:
        return "mtcnn"
    if isinstance(name, str) and name in DETECTORS:
        return DETECTORS[name]
    known = ", ".join([*DETECTORS, SKIP])
    raise UnimplementedError(f"detector_backend {shown(name)} is not in SphereCV: choose {known}, or leave it out")


@lru_cache(maxsize=_OPEN)
def _opened(model: str, detector: str, align: bool) -> FacePipeline:
    pipeline = PipelineConfig(model, detector=detector).open()
    if align:
        return pipeline
    return pipeline.with_recipe(replace(pipeline.embedder.recipe, alignment="box"))
