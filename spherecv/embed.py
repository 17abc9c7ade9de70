"""Aligned crops to embeddings, by the model's recipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError, ModelFileError
from spherecv.zoo import MeanImage, ModelSource, Recipe, open_model

_BATCH = 32
"""Crops per call of the net: where every backend has reached its full speed, and 10,000 crops need no more memory
than 32 (measured by benchmarks/session.py)."""


class FaceEmbedder:
    """Turn aligned crops into embeddings.

    Parameters
    ----------
    model : str, path or ModelSource
        The name of a model (`spherecv models list`), the path of an `.onnx` file, or an opened source.
    recipe : Recipe, str or path, optional
        How the model wants its input. A named model knows its own; an `.onnx` by path needs one.
    backend : {"opencv", "onnxruntime", "openvino", "auto"}, optional
        What runs the net: by default ONNX Runtime in float32 on the CPU, the fastest of what is always installed, and
        "auto" otherwise. Embeddings agree to about 1e-6 between backends.
    device : {"cpu", "cuda", "auto"}
    threads : int, optional
        Threads that one call may use; all cores by default.
    precision : {"float32", "bfloat16", "int8", "auto"}, optional
        What the net is computed in, by default what the source says, float32. "auto" takes the fastest whose loss was
        measured for the model (`spherecv models info`) and is small, of those that the backend computes.

    Attributes
    ----------
    source : ModelSource
        Where the model came from, with the hashes of its files.
    recipe : Recipe
        In use.

    Examples
    --------
    >>> embedder = FaceEmbedder("sphereface-20")                      # doctest: +SKIP
    >>> embedder.embed(crops).shape                                   # doctest: +SKIP
    (7, 512)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelSource,
        *,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        backend: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        precision: str | None = None,
    ) -> None:
        source = model if isinstance(model, ModelSource) else open_model(model, recipe=recipe)
        if precision is not None:
            source = source.computed_in(precision, backend=backend, device=device)
        self.source = source
        self.recipe = self.source.recipe
        self._settings: dict[str, Any] = {"backend": backend, "device": device, "threads": threads}
        self._session = self.source.session(**self._settings)
        self._input, self._output = self._blobs()

    def __reduce__(self) -> tuple[Callable[[], FaceEmbedder], tuple[()]]:
        """Travel as the model's files and the settings: another process, or a copy, opens a session of its own."""
        return partial(FaceEmbedder, self.source, **self._settings), ()

    def with_recipe(self, recipe: Recipe) -> FaceEmbedder:
        """Make an embedder of the same net, already open, that is fed and read by another recipe.

        Raises
        ------
        ModelFileError
            The net does not take such crops, or has no such output.
        """
        other = object.__new__(FaceEmbedder)
        other.__dict__.update(self.__dict__, source=replace(self.source, recipe=recipe), recipe=recipe)
        if recipe.output != self.recipe.output:
            other._session = other.source.session(**self._settings)
        other._input, other._output = other._blobs()
        return other

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.source.name

    @property
    def precision(self) -> str:
        """What the net is computed in."""
        return self._session.precision

    @property
    def backend(self) -> str:
        """What runs the net."""
        return self._session.backend

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed aligned crops.

        Parameters
        ----------
        crops : ndarray of uint8, shape (N, H, W, 3)
            BGR, of the recipe's size, as `FaceAligner` cuts them. N may be 0. A recipe of color GRAY makes them
            grey, and takes grey ones of shape (N, H, W, 1) too.

        Returns
        -------
        ndarray of float32, shape (N, D)
            With a mirroring recipe D is twice the net's.

        Raises
        ------
        InvalidArgumentError
            Another shape or dtype.
        BackendError
            The net failed.
        """
        height, width = self.recipe.size
        wanted = f"crops must be uint8 of shape (N, {height}, {width}, 3)"
        if not isinstance(crops, np.ndarray):
            raise InvalidArgumentError(f"{wanted}, as FaceAligner.align gives them, but got {type(crops).__name__}")
        fits = crops.ndim == 4 and crops.shape[1:3] == (height, width) and crops.shape[3] in (3, self.recipe.channels)
        if crops.dtype != np.uint8 or not fits:
            raise InvalidArgumentError(f"{wanted}, but got {crops.dtype} {crops.shape}")
        embeddings = np.concatenate(list(self._chunks(crops)))
        if self.recipe.normalize:
            norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
            np.divide(embeddings, norms, out=embeddings, where=norms > 0)
        return embeddings

    def _chunks(self, crops: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, max(len(crops), 1), _BATCH):
            blob = blob_of(crops[start : start + _BATCH], self.recipe)
            embeddings = self._forward(blob)
            if self.recipe.mirror:
                # After the mean was subtracted, as in Caffe: a mean image is mirrored too.
                embeddings = np.hstack([embeddings, self._forward(blob[..., ::-1])])
            yield embeddings

    def _forward(self, blob: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = self._session.run({self._input: blob})[self._output]
        return answer.reshape(len(blob), -1) if len(blob) else answer.reshape(0, int(np.prod(answer.shape[1:])))

    def _blobs(self) -> tuple[str, str]:
        """Names of the input and of the output that the recipe means."""
        inputs, outputs = self._session.inputs, self._session.outputs
        if len(inputs) != 1:
            raise ModelFileError(f"{self.name} has {len(inputs)} inputs ({', '.join(inputs)}); an embedder has one")
        ((name, shape),) = inputs.items()
        crop = (self.recipe.channels, *self.recipe.size)
        fixed = dict(zip(shape[1:], crop, strict=True)) if len(shape) == 4 else {None: 0}
        if len(shape) != 4 or any(side not in (None, want) for side, want in fixed.items()):
            raise ModelFileError(f"{self.name} wants input of shape {shape}, which the recipe's crops do not have")
        wanted = self.recipe.output or (outputs[0] if len(outputs) == 1 else None)
        if wanted not in outputs:
            raise ModelFileError(f"{self.name} has the outputs {', '.join(outputs)}: say in the recipe which one it is")
        return name, wanted


def blob_of(crops: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.float32]:
    """Make net input of crops, by a recipe.

    Parameters
    ----------
    crops : ndarray of uint8, shape (N, H, W, 3)
        BGR, of the recipe's size; for a recipe of color GRAY also of shape (N, H, W, 1).
    recipe : Recipe

    Returns
    -------
    ndarray of float32, shape (N, C, H, W)
        (pixel - mean) * scale, in the recipe's order of channels.
    """
    import cv2

    height, width = recipe.size
    if not len(crops):
        return np.empty((0, recipe.channels, height, width), np.float32)
    if recipe.channels == 1 and crops.shape[3] == 3:
        crops = np.stack([cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY) for crop in crops])
    scale = recipe.scale
    swap = recipe.color == "RGB"
    if recipe.standardize:
        return _standardized(crops[..., ::-1] if swap else crops)
    if isinstance(recipe.mean, MeanImage):
        blob = np.asarray(cv2.dnn.blobFromImages(list(crops), 1.0, swapRB=swap)) - recipe.mean.array
        blob *= np.float32(scale[0])
    else:
        # OpenCV subtracts before it scales, and takes the mean in the order after the swap.
        blob = np.asarray(cv2.dnn.blobFromImages(list(crops), scale[0], mean=recipe.mean, swapRB=swap))
    if len(set(scale)) > 1:
        blob *= (np.array(scale) / scale[0]).astype(np.float32).reshape(1, -1, 1, 1)
    return blob


def _standardized(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each crop less its mean, over its deviation, which is at least 1 / root of the number of values."""
    shaped = crops.reshape(*crops.shape[:3], -1)  # grey crops have no axis of channels
    values = np.ascontiguousarray(shaped.transpose(0, 3, 1, 2), dtype=np.float32)
    flat = values.reshape(len(values), -1)
    mean = flat.mean(axis=1, keepdims=True, dtype=np.float64)
    deviation = np.sqrt(np.square(flat - mean).mean(axis=1, keepdims=True))
    flat -= mean.astype(np.float32)
    flat /= np.maximum(deviation, 1.0 / np.sqrt(flat.shape[1])).astype(np.float32)
    return values
