"""What is evaluated: a model, and everything else that decides its embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from spherecv.dataset.crops import NoFacePolicy, check_policy
from spherecv.detect import FaceDetector
from spherecv.embed import FaceEmbedder
from spherecv.errors import InvalidArgumentError
from spherecv.pipeline import FacePipeline, WhichFace
from spherecv.records import WHOLE
from spherecv.zoo import ModelSource, Recipe, open_model


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, and everything else that decides its embeddings.

    Attributes
    ----------
    source : ModelSource
    detector : str
        Name of the detector, or `"whole"` where images are ready-made crops.
    face : {"largest", "center", "whole"}
    no_face : {"skip", "center", "fail"}
    pipeline : callable
        Opens the stages; called only where an image has to be embedded.
    """

    source: ModelSource
    detector: str
    face: WhichFace
    no_face: NoFacePolicy
    pipeline: Callable[[Recipe], FacePipeline] = field(repr=False)

    @classmethod
    def of(
        cls,
        model: str | os.PathLike[str] | ModelSource,
        *,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        detector: str = "mtcnn",
        preset: str | None = "sphereface",
        face: WhichFace = "center",
        no_face: NoFacePolicy = "skip",
        backend: str = "opencv",
        device: str = "cpu",
        threads: int | None = None,
    ) -> Subject:
        """Describe a model and its stages by their names; they are opened when an image has to be embedded.

        Parameters
        ----------
        model : str, path or ModelSource
            The name of a model, the path of an `.onnx` file, or an opened source.
        recipe : Recipe, str or path, optional
            How the model wants its input, where it is not known or not wanted.
        detector : str
            The kind of detector.
        preset : str, optional
            Of MTCNN; `"sphereface"` is how the SphereFace authors ran it, None is its default.
        face : {"center", "largest", "whole"}
            The face nearest the middle, as the authors took; the largest; or the image as a ready-made crop.
        no_face : {"skip", "center", "fail"}
            What becomes of an image without a face: left out, its middle taken, or the work ended.
        backend, device, threads
            As for `FaceEmbedder`.

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
        source = model if isinstance(model, ModelSource) else open_model(model, recipe=recipe)
        preset = preset if detector == "mtcnn" and preset != "fast" else None

        def pipeline(used: Recipe) -> FacePipeline:
            embedder = FaceEmbedder(replace(source, recipe=used), backend=backend, device=device, threads=threads)
            finder = FaceDetector(detector, preset=preset, device=device, threads=threads)
            return FacePipeline(embedder, detector=finder)

        name = detector if preset is None else f"{detector} preset={preset}"
        return cls(source, WHOLE if face == "whole" else name, face, check_policy(no_face), pipeline)

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
