"""Pipeline and decision rule of a gallery, opened when the first image needs them."""

from __future__ import annotations

import os
import warnings
from functools import cached_property
from typing import Any, TypeAlias

from spherecv.config import ModelName, describe, open_pipeline
from spherecv.config import Stages as AnyStages
from spherecv.decision import DecisionRule, open_calibration, stated_threshold
from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError, MissingThresholdError, ModelNotFoundError
from spherecv.gallery.rows import Origin
from spherecv.gallery.sqlite import check_origin
from spherecv.gallery.store import Store
from spherecv.metrics import Metric
from spherecv.pipeline import FacePipeline, WhichFace
from spherecv.thresholds import Calibration, Threshold, ThresholdWarning
from spherecv.zoo import DEFAULT_MODEL, KnownClustering, ModelSource, is_earlier, is_known
from spherecv.zoo.key import ModelKey

Model: TypeAlias = ModelName | ModelSource | FaceEmbedder | AnyStages | Origin


class Stages:
    """What turns images into embeddings for one store, and decides about them.

    Parameters
    ----------
    store : Store
        Says by which model it was made; images of another are refused.
    model : str, path, (path, path), ModelSource, FaceEmbedder, PipelineConfig, FacePipeline, Origin or None
        None takes the store's own model if the manifest knows it, and the default for an empty store. An `Origin`
        stands for embeddings made elsewhere: images are refused.
    metric : {"cosine", "euclidean"}
    calibration : Calibration or path, optional
    **settings
        As for `PipelineConfig`.
    """

    def __init__(
        self,
        store: Store,
        model: Model | None,
        *,
        metric: Metric = "cosine",
        calibration: Calibration | str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        self._store = store
        self._model = model
        self._settings = settings
        self._metric = metric
        self._calibration = open_calibration(calibration)
        if not (model is None or isinstance(model, str | os.PathLike)):
            check_origin(store.origin, self.origin, store.label)

    @cached_property
    def _stages(self) -> AnyStages:
        """A description of the pipeline, or the open one that was given."""
        if isinstance(self._model, Origin):
            raise InvalidArgumentError(
                f"{self._store.label} was opened for ready-made embeddings: open it with a model to use images"
            )
        if self._model is not None:
            return describe(self._model, **self._settings)
        precision = "float32" if self._store.origin is None else ModelKey.of(self._store.origin.key).precision
        settings = {"precision": precision, **self._settings}
        return describe(self._held_model(), **settings)

    def _held_model(self) -> str:
        held = self._store.origin
        if held is None:
            return DEFAULT_MODEL
        if not is_known(held.model):
            raise ModelNotFoundError(
                f"{self._store.label} was made with {held.model}, files of your own: give model=, or --prototxt, "
                "--caffemodel and --recipe"
            )
        return held.model

    @cached_property
    def pipeline(self) -> FacePipeline:
        """Detector, aligner and embedder; opened once."""
        held, asked = self._store.origin, self._stages.fingerprint
        check_origin(held, asked, self._store.label)
        if held is not None and held.detector and held.detector != asked.detector:
            warnings.warn(
                f"{self._store.label} was filled with the detector {held.detector}, and is used with {asked.detector}, "
                "which cuts faces otherwise: distances grow a little (--detector, --preset, --min-size)",
                ThresholdWarning,
                stacklevel=4,
            )
        return open_pipeline(self._stages)

    @property
    def origin(self) -> Origin:
        """What new embeddings are made by."""
        return self._model if isinstance(self._model, Origin) else self._stages.fingerprint

    def accepted(self, origin: Origin) -> Origin:
        """Say what made ready embeddings; raises `GalleryMismatchError` for those of another model than is wanted.

        Files of earlier versions name the model and the recipe, in place of the key: these have to be the gallery's,
        and of the same edition.
        """
        own = self._store.origin or self.origin
        key = ModelKey.of(own.key)
        alike = is_earlier(own.model, origin.key) == is_earlier(own.model, own.key)
        if alike and (origin.model, origin.key) == (own.model, f"-{key.recipe}") and key.precision == "float32":
            return own
        if self._model is not None or origin.key.startswith("-"):
            check_origin(own, origin, self._store.label)
        return origin

    @cached_property
    def _decision(self) -> DecisionRule:
        return DecisionRule.of(self._stages, metric=self._metric, calibration=self._calibration)

    @property
    def usual_distance(self) -> float | None:
        """As for `DecisionRule`; None for embeddings that were made elsewhere."""
        return None if isinstance(self._model, Origin) else self._decision.usual_distance

    @property
    def clustering(self) -> KnownClustering:
        """How faces of this model are grouped; raises `MissingThresholdError` where nobody measured that."""
        source = None if isinstance(self._model, Origin) else self._stages.source
        known = None if source is None else source.clustering(self._metric)
        if known is None:
            name = self.origin.model if source is None else f"{source.name} with the recipe {source.recipe.name!r}"
            raise MissingThresholdError(
                f"no {self._metric} distance is known for grouping faces of {name} into people: give one as threshold= "
                "(--threshold), smaller than the one of verification, where nearly everybody becomes one person; a "
                "labelled folder says what it is worth (`spherecv gallery cluster --labels-from-folders`)"
            )
        return known

    def threshold(
        self, value: float | Threshold | None, far: float | None, face: WhichFace = "largest"
    ) -> Threshold:
        """Settle which distance counts as the same person.

        Raises
        ------
        InvalidArgumentError
            Both a threshold and a rate were given, or a value out of its range.
        MissingThresholdError
            None is known for this model, recipe and metric.
        """
        if (stated := stated_threshold(value, far)) is not None:
            return stated  # needs no model
        if isinstance(self._model, Origin):
            raise MissingThresholdError(
                f"{self._store.label} was opened for ready-made embeddings, of which no threshold is known: pass "
                "threshold= (--threshold)"
            )
        return self._decision.threshold_at(far, face=face)
