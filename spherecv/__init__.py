"""SphereCV: face verification with Caffe-era models on today's OpenCV, at a stated error rate."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. Loaded when first used: importing spherecv costs nothing.
_HOMES = {
    "Face": "records",
    "FaceAligner": "align",
    "FaceClassifier": "classify",
    "FaceDetector": "detect",
    "FaceEmbedder": "embed",
    "FaceGallery": "gallery",
    "DecisionRule": "decision",
    "FacePipeline": "pipeline",
    "FaceVerifier": "verify",
    "Match": "records",
    "PipelineConfig": "config",
    "Recipe": "zoo",
    "SphereCVError": "errors",
    "Verification": "records",
    "face_quality": "quality",
    "load_image": "images",
}

__all__ = [
    "DecisionRule",
    "Face",
    "FaceAligner",
    "FaceClassifier",
    "FaceDetector",
    "FaceEmbedder",
    "FaceGallery",
    "FacePipeline",
    "FaceVerifier",
    "Match",
    "PipelineConfig",
    "Recipe",
    "SphereCVError",
    "Verification",
    "__version__",
    "face_quality",
    "load_image",
]

if TYPE_CHECKING:
    from spherecv.align import FaceAligner
    from spherecv.classify import FaceClassifier
    from spherecv.config import PipelineConfig
    from spherecv.decision import DecisionRule
    from spherecv.detect import FaceDetector
    from spherecv.embed import FaceEmbedder
    from spherecv.errors import SphereCVError
    from spherecv.gallery import FaceGallery
    from spherecv.images import load_image
    from spherecv.pipeline import FacePipeline
    from spherecv.quality import face_quality
    from spherecv.records import Face, Match, Verification
    from spherecv.verify import FaceVerifier
    from spherecv.zoo import Recipe


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spherecv' has no attribute {name!r}")
    value = getattr(import_module(f"spherecv.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
