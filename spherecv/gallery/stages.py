"""The model behind a gallery, opened when the first photo needs it and not before."""

from __future__ import annotations

import os
from typing import Any

from spherecv.checks import check_distance, check_rate
from spherecv.detect import FaceDetector
from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError, MissingThresholdError, ModelNotFoundError
from spherecv.gallery.rows import Origin
from spherecv.gallery.sqlite import check_origin
from spherecv.gallery.store import Store
from spherecv.metrics import Metric
from spherecv.pipeline import FacePipeline, WhichFace
from spherecv.rates import check_calibration, open_calibration, threshold_at
from spherecv.thresholds import Calibration, Threshold
from spherecv.zoo import DEFAULT_MODEL, ModelSource, Recipe, model_names, open_model

Model = str | os.PathLike[str] | ModelSource | FaceEmbedder | FacePipeline | Origin


class Stages:
    """What turns photos into embeddings for one store.

    Parameters
    ----------
    store : Store
        Says by which model it was made; photos of another are refused.
    model : str, path, ModelSource, FaceEmbedder, FacePipeline, Origin or None
        None takes the store's own model if the manifest knows it, and the default for an empty store. An `Origin`
        stands for embeddings made elsewhere: photos are refused.
    recipe, detector, calibration, backend, device, threads
        As for `FaceVerifier`.
    """

    def __init__(
        self,
        store: Store,
        model: Model | None,
        *,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        detector: str | FaceDetector = "mtcnn",
        calibration: Calibration | str | os.PathLike[str] | None = None,
        backend: str = "opencv",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        self._store = store
        self._model = model
        self._recipe = recipe
        self._detector = detector
        self._calibration = open_calibration(calibration)
        self._settings: dict[str, Any] = {"backend": backend, "device": device, "threads": threads}
        self._pipeline: FacePipeline | None = model if isinstance(model, FacePipeline) else None
        self._origin = model if isinstance(model, Origin) else None
        if self._origin or isinstance(model, ModelSource | FaceEmbedder | FacePipeline):
            check_origin(store.origin, self.origin, store.label)

    @property
    def pipeline(self) -> FacePipeline:
        """Detector, aligner and embedder; opened once."""
        if self._pipeline is None:
            if self._origin is not None:
                raise InvalidArgumentError(
                    f"{self._store.label} was opened for ready-made embeddings: open it with a model to use photos"
                )
            embedder = self._model if isinstance(self._model, FaceEmbedder) else self._open()
            check_origin(self._store.origin, _origin_of(embedder.source, ""), self._store.label)
            detector = self._detector
            if isinstance(detector, str):
                detector = FaceDetector(detector, device=self._settings["device"], threads=self._settings["threads"])
            self._pipeline = FacePipeline(embedder, detector=detector)
        return self._pipeline

    def _open(self) -> FaceEmbedder:
        return FaceEmbedder(self._source(), **self._settings)

    def _source(self) -> ModelSource:
        if isinstance(self._model, ModelSource):
            return self._model
        if isinstance(self._model, str | os.PathLike):
            return open_model(self._model, recipe=self._recipe)
        held = self._store.origin
        if held is None:
            return open_model(DEFAULT_MODEL, recipe=self._recipe)
        if held.model not in model_names("embedder"):
            raise ModelNotFoundError(
                f"{self._store.label} was made with {held.model}, files of your own: give model=, or --prototxt, "
                "--caffemodel and --recipe"
            )
        return open_model(held.model, recipe=self._recipe)

    @property
    def origin(self) -> Origin:
        """What new embeddings are made by."""
        if self._origin is not None:
            return self._origin
        if isinstance(self._model, ModelSource):
            return _origin_of(self._model, str(self._detector))
        embedder = self._model if isinstance(self._model, FaceEmbedder) else self.pipeline.embedder
        detector = self._detector if self._pipeline is None else self._pipeline.detector
        return _origin_of(embedder.source, detector if isinstance(detector, str) else detector.name)

    def threshold(
        self, metric: Metric, value: float | Threshold | None, far: float | None, face: WhichFace = "largest"
    ) -> Threshold:
        """Settle which distance counts as the same person.

        Raises
        ------
        InvalidArgumentError
            Both a threshold and a rate were given, or what is none.
        MissingThresholdError
            None is known for this model, recipe and metric.
        """
        if value is not None:
            if far is not None:
                raise InvalidArgumentError("give threshold (--threshold) or far (--far), not both")
            return value if isinstance(value, Threshold) else Threshold(check_distance("threshold", value))
        if far is not None:
            check_rate("far", far)
        if self._origin is not None:
            raise MissingThresholdError(
                f"{self._store.label} was opened for ready-made embeddings, of which no threshold is known: pass "
                "threshold= (--threshold)"
            )
        if self._calibration is not None:
            check_calibration(self._calibration, self.pipeline, metric)
        return threshold_at(self.pipeline, metric, far, self._calibration, face=face)


def _origin_of(source: ModelSource, detector: str) -> Origin:
    return Origin(source.name, source.key, detector)


