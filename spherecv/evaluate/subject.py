"""The subject of an evaluation: a pipeline, and what else decides its embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Unpack

from spherecv.config import ModelName, PipelineSettings, Stages, describe, open_pipeline
from spherecv.dataset.crops import NoFacePolicy, check_policy
from spherecv.errors import InvalidArgumentError
from spherecv.pipeline import FacePipeline, WhichFace
from spherecv.records import WHOLE
from spherecv.zoo import ModelSource, Recipe


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a pipeline, and what else decides its embeddings.

    Attributes
    ----------
    stages : PipelineConfig or FacePipeline
        A description is opened only where an image has to be embedded.
    face : {"largest", "center", "whole"}
    no_face : {"skip", "center", "fail"}
    """

    stages: Stages = field(repr=False)
    face: WhichFace
    no_face: NoFacePolicy

    @classmethod
    def of(
        cls,
        model: ModelName | ModelSource | Stages,
        *,
        face: WhichFace = "center",
        no_face: NoFacePolicy = "skip",
        **settings: Unpack[PipelineSettings],
    ) -> Subject:
        """Describe a pipeline as the SphereFace authors ran it, but for what is said otherwise.

        Parameters
        ----------
        model : str, path, (path, path), ModelSource, PipelineConfig or FacePipeline
        face : {"center", "largest", "whole"}
            The face nearest the middle, as the authors took; the largest; or the image as a ready-made crop.
        no_face : {"skip", "center", "fail"}
            What becomes of an image without a face: left out, its middle taken, or the work ended.
        **settings
            As for `PipelineConfig`. With MTCNN and a model by its name, `preset` is `"sphereface"` by default, as the
            authors ran it; None is MTCNN's own.

        Returns
        -------
        Subject

        Raises
        ------
        InvalidArgumentError
            An unknown face or policy.
        ModelNotFoundError, ModelFileError, DownloadError
            The model cannot be had.
        """
        if face not in ("center", "largest", "whole"):
            raise InvalidArgumentError(f"face must be center, largest or whole, to mean one person, but got {face!r}")
        named = isinstance(model, str | tuple | ModelSource) or hasattr(model, "__fspath__")
        if named and settings.get("detector", "mtcnn") == "mtcnn":
            settings.setdefault("preset", "sphereface")
        elif named:
            settings.pop("preset", None)
        subject = cls(describe(model, **settings), face, check_policy(no_face))
        _ = subject.source  # found, or refused, before any image is read
        return subject

    @property
    def source(self) -> ModelSource:
        """The model."""
        return self.stages.source

    @property
    def detector(self) -> str:
        """Name of the detector, or `"whole"` where images are ready-made crops."""
        return WHOLE if self.face == "whole" else self.stages.detector_name

    def pipeline(self, recipe: Recipe) -> FacePipeline:
        """Open the stages, with an embedder that is read by another recipe."""
        return open_pipeline(self.stages.with_recipe(recipe))

    def to_dict(self) -> dict[str, Any]:
        """What identifies it, as plain Python values."""
        return {
            "model": self.source.name,
            "model_key": self.source.key,
            "recipe": self.source.recipe.to_dict(),
            "detector": self.detector,
            "face": self.face,
            "no_face": self.no_face,
        }
