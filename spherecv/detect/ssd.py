"""SSD face detectors in Caffe's files, with OpenCV's res10 first, and landmarks from MTCNN's third net.

Liu et al., "SSD: Single Shot MultiBox Detector", 2016. The net squeezes the whole image into its input, whatever the
shape of that, and ends in a DetectionOutput layer, whose boxes are fractions of the image. It knows no landmarks, which
alignment needs: the third net of MTCNN finds them in the boxes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.detect.base import Detections, check_score, detector_name
from spherecv.detect.cascade import landmarks_in
from spherecv.detect.nets import NetPool
from spherecv.detect.turns import ByCrop, with_turns
from spherecv.embed import blob_of
from spherecv.errors import InvalidArgumentError, ModelFileError
from spherecv.zoo import Recipe, get_recipe
from spherecv.zoo.cache import digests_of, reading

Image = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
Files = Sequence[str | os.PathLike[str]]

_THRESHOLD = 0.5
_CERTAIN = 0.9998
"""Of 900 lying LFW images the most certain scored 0.9996."""
_FACE = 1
"""The label of faces; 0 is the background."""
_BATCH = 8
_COLUMNS = 7
_MEAN = (104.0, 177.0, 123.0)


class Ssd:
    """An SSD net, and MTCNN's third net on its boxes.

    Parameters
    ----------
    model : sequence of two paths, optional
        Prototxt and caffemodel of another net than the one that the manifest knows as `ssd-res10`.
    recipe : Recipe, str, path or mapping, optional
        How it wants its images: `size`, `color`, `mean` and `scale` count. By default BGR less (104, 177, 123), of the
        size that the prototxt declares.
    threshold : float, optional
        Least score, 0..1; 0.5 by default.
    backend : {"opencv", "onnxruntime", "openvino", "auto"}, optional
    device : {"cpu", "cuda", "auto"}
    threads : int, optional

    Raises
    ------
    InvalidArgumentError
        A value out of its range, or a recipe of grey images.
    ModelFileError
        The files are missing or damaged, or are no SSD net.
    BackendError, DeviceError, MissingDependencyError
        As for `Session`.
    """

    def __init__(
        self,
        model: Files | None = None,
        *,
        recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        threshold: float | None = None,
        backend: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "float32",
    ) -> None:
        from spherecv import caffe, zoo
        from spherecv.runtime import Session

        self._threshold = check_score("thresholds", _THRESHOLD if threshold is None else threshold)
        prototxt, caffemodel = _known_files() if model is None else _two(model)
        options: dict[str, Any] = {"backend": backend or ("opencv" if device == "cpu" else "auto")}
        options |= {"device": device, "threads": threads, "precision": precision}
        onnx = caffe.onnx_of(prototxt, caffemodel, cache_dir=zoo.cache_dir() / "onnx")
        self._where = str(caffemodel)
        self._session = Session(onnx, **options)
        self._input, size = _image_input(self._session.inputs, self._where)
        self._recipe = Recipe(size=size, mean=_MEAN) if recipe is None else get_recipe(recipe)
        if self._recipe.channels != 3:
            raise InvalidArgumentError(f"an ssd net takes three channels, but the recipe says {self._recipe.color}")
        if self._recipe.size != size:
            raise InvalidArgumentError(f"the recipe says {self._recipe.size}, but {self._where} takes images of {size}")
        other = None if model is None or _is_known(caffemodel) else caffemodel.stem
        given = None if threshold is None else f"{self._threshold:g}"
        fingerprint = None if recipe is None else self._recipe.fingerprint
        self.name = detector_name("ssd", model=other, recipe=fingerprint, thresholds=given)
        nets = zoo.mtcnn_onnx()
        self._onet = NetPool(lambda: Session(nets["onet"], **options), "third net", ("scores", "offsets", "points"))
        self._rnet = NetPool(lambda: Session(nets["rnet"], **options), "second net", ("scores", "offsets"))
        self._rows([np.zeros((2, 2, 3), np.uint8)])  # another net fails here, not at the first image

    def find(self, images: Sequence[Image]) -> list[Detections]:
        """Find the faces of each image; see `Kind`."""
        return with_turns(ByCrop(self._rnet, self._onet, _CERTAIN), self._look, images, self._look(images))

    def _look(self, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = []
        for start in range(0, len(images), _BATCH):
            found += self._found(images[start : start + _BATCH])
        return found

    def _found(self, images: Sequence[Image]) -> list[Detections]:
        rows = self._rows(images)
        rows = rows[(rows[:, 1] == _FACE) & (rows[:, 2] >= self._threshold)]
        owners = rows[:, 0].astype(np.intp)
        sizes = np.array([image.shape[1::-1] * 2 for image in images], np.float32)
        boxes = rows[:, 3:] * sizes[owners]
        unknown = np.zeros((len(boxes), 5, 2), np.float32)
        mine = [owners == image for image in range(len(images))]
        good = [Detections(boxes[which], rows[which, 2], unknown[which]).valid() for which in mine]
        boxes = np.concatenate([one.boxes for one in good])
        counts = [len(one.boxes) for one in good]
        landmarks = landmarks_in(self._onet, images, boxes, np.repeat(np.arange(len(images)), counts))
        parts = np.split(landmarks, np.cumsum(counts)[:-1])
        return [one._replace(landmarks=part).valid() for one, part in zip(good, parts, strict=True)]

    def _rows(self, images: Sequence[Image]) -> FloatArray:
        """What the net finds: a row (image, label, score, x1, y1, x2, y2) each, boxes in fractions of the image."""
        rows = next(iter(self._session.run({self._input: self._blob(images)}).values()))
        if len(self._session.outputs) != 1 or rows.shape[:2] != (1, 1) or rows.shape[-1] != _COLUMNS:
            raise ModelFileError(f"{self._where} is no SSD net: it must end in one DetectionOutput layer")
        found = rows.reshape(-1, _COLUMNS)
        return found[np.isfinite(found).all(axis=1) & (found[:, 1] >= 0)]

    def _blob(self, images: Sequence[Image]) -> FloatArray:
        import cv2

        height, width = self._recipe.size
        return blob_of(np.stack([cv2.resize(image, (width, height)) for image in images]), self._recipe)


def _known_files() -> tuple[Path, Path]:
    from spherecv import zoo

    files = zoo.require("ssd-res10")
    return files["prototxt"], files["caffemodel"]


def _is_known(caffemodel: Path) -> bool:
    from spherecv import zoo

    file = zoo.model_info("ssd-res10").file("caffemodel")
    with reading(caffemodel):
        if caffemodel.stat().st_size != file.size:
            return False
        return digests_of(caffemodel, ["sha256"])["sha256"] == dict(file.digests)["sha256"]


def _two(model: Files) -> tuple[Path, Path]:
    if isinstance(model, str | os.PathLike) or len(model) != 2:
        raise InvalidArgumentError(f"model must be (prototxt, caffemodel) for ssd, but got {model!r}")
    return Path(model[0]), Path(model[1])


def _image_input(inputs: Mapping[str, tuple[int | None, ...]], where: str) -> tuple[str, tuple[int, int]]:
    """Name and size of the one input, an image of three channels."""
    ((name, shape), *others) = inputs.items()
    if others or len(shape) != 4 or shape[1] != 3 or shape[2] is None or shape[3] is None:
        raise ModelFileError(f"{where} is no SSD net for images: its inputs are {dict(inputs)}")
    return name, (shape[2], shape[3])
