"""Models: the manifest, files and recipes of the known models and of the user's own."""

from spherecv.files import cache_dir
from spherecv.zoo.files import expected_paths, fetch, is_offline, locate, require, state_of
from spherecv.zoo.learnt import Learnt
from spherecv.zoo.manifest import (
    DEFAULT_MODEL,
    Manifest,
    get_recipe,
    is_known,
    model_info,
    model_names,
    models_dir,
    own_dir,
    read_manifest,
)
from spherecv.zoo.mean_image import MeanImage
from spherecv.zoo.model import KnownClustering, KnownThreshold, ModelFile, ModelInfo
from spherecv.zoo.mtcnn import mtcnn_arrays, mtcnn_onnx, mtcnn_sessions
from spherecv.zoo.own import add_model, remove_model
from spherecv.zoo.recipe import Recipe
from spherecv.zoo.source import ModelSource, are_comparable, identify, is_earlier, open_model
from spherecv.zoo.terms import Terms

__all__ = [
    "DEFAULT_MODEL",
    "KnownClustering",
    "KnownThreshold",
    "Learnt",
    "Manifest",
    "MeanImage",
    "ModelFile",
    "ModelInfo",
    "ModelSource",
    "Recipe",
    "Terms",
    "add_model",
    "are_comparable",
    "cache_dir",
    "expected_paths",
    "fetch",
    "get_recipe",
    "identify",
    "is_earlier",
    "is_known",
    "is_offline",
    "locate",
    "model_info",
    "model_names",
    "models_dir",
    "mtcnn_arrays",
    "mtcnn_onnx",
    "mtcnn_sessions",
    "open_model",
    "own_dir",
    "read_manifest",
    "remove_model",
    "require",
    "state_of",
]
