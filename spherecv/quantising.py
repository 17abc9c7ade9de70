"""int8 forms of embedders, calibrated on images of faces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.align import FaceAligner
from spherecv.checks import check_count
from spherecv.detect import FaceDetector
from spherecv.embed import blob_of
from spherecv.errors import ImageError, NoFaceError
from spherecv.images import load_image
from spherecv.runtime.normalise import normalise
from spherecv.runtime.quantise import quantise
from spherecv.zoo import ModelSource

_MOST_IMAGES = 128
"""More than some dozens of faces move the ranges little, and each costs a run that keeps every activation."""


def quantise_embedder(
    source: ModelSource, images: Sequence[Path], *, detector: FaceDetector | None = None, most: int = _MOST_IMAGES
) -> bytes:
    """Quantise an embedder to int8, by ranges that are measured on faces.

    Parameters
    ----------
    source : ModelSource
        With the recipe that says how crops are cut and fed.
    images : sequence of Path
        Photographs, of whose faces the most certain is taken, or ready-made crops of the recipe's size.
    detector : FaceDetector, optional
        The default one for photographs, opened where there is one.
    most : int
        Images that are used, evenly out of those given.

    Returns
    -------
    bytes
        QDQ ONNX; its metadata say how many images were used, and their SHA-256 together.

    Raises
    ------
    NoFaceError
        None of the images has a face.
    ModelFileError
        The model cannot be quantised.
    """
    check_count("most", most)
    chosen = [images[place] for place in np.linspace(0, len(images) - 1, min(most, len(images))).astype(int)]
    recipe = source.recipe
    aligner = FaceAligner(recipe.template, size=recipe.size, alignment=recipe.alignment, margin=recipe.margin)
    digest, crops = hashlib.sha256(), []
    for path in chosen:
        try:
            image = load_image(path)
        except ImageError:
            continue
        if image.shape[:2] != recipe.size:
            detector = detector or FaceDetector()
            faces = detector.detect(image)
            if not faces:
                continue
            image = aligner.align(image, faces[:1])[0]
        digest.update(np.ascontiguousarray(image).tobytes())
        crops.append(image)
    if not crops:
        raise NoFaceError(f"none of the {len(chosen)} images to calibrate on has a face that could be found")
    told: dict[str, Any] = {"images": len(crops), "sha256": digest.hexdigest(), "model": source.key}
    told |= {"recipe": recipe.name}
    onnx = source.onnx()
    plain = onnx if source.format == "caffe" else normalise(onnx, source.name)
    return quantise(plain, feeds=_feeds(crops, source), calibration=told)


def _feeds(crops: Sequence[NDArray[np.uint8]], source: ModelSource) -> list[NDArray[np.float32]]:
    """One face at a time, as nets of a fixed batch want it."""
    feeds = []
    for crop in crops:
        blob = blob_of(crop[None], source.recipe)
        feeds.append(blob)
        if source.recipe.mirror:
            feeds.append(np.ascontiguousarray(blob[..., ::-1]))
    return feeds
