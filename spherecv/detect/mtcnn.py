"""MTCNN: the detector that SphereFace's own crops were made with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice
from spherecv.detect.base import Detections, check_number, check_score, detector_name
from spherecv.detect.cascade import Cascade, Found, Nets
from spherecv.detect.nets import Net, NetPool
from spherecv.detect.proposals import PIXELS_AT_ONCE
from spherecv.detect.pyramid import CELL
from spherecv.detect.turns import CERTAIN, ByNets, with_turns
from spherecv.detect.workers import Workers
from spherecv.errors import InvalidArgumentError, ModelFileError

Image = NDArray[np.uint8]
Loader = Callable[[str], Net]
"""Opens a net of the cascade, `"pnet"`, `"rnet"` or `"onet"`, once more at every call."""

_SMALLEST = 10.0
"""Side of the smallest face that can be asked for: the authors' own least."""
_LARGEST_IMAGE = 12_000_000
"""Pixels beyond which an image, or its largest scale, is made smaller first: 144 MB each in floating point."""
_MOST_WORKERS = 8
_CLOSER = 4
"""How many times smaller faces are looked for in an image where the preset's smallest face finds nobody."""
_CLOSER_TURNED = 2
"""The same in the three turns of an image in which nobody stands upright: images without anybody are many."""


@dataclass(frozen=True)
class Preset:
    """Settings under one name.

    Attributes
    ----------
    min_size : float
        Side of the smallest face, in pixels.
    along_side : int
        How many of them fit along the image's shorter side at most: a large image has larger smallest faces. 0 for any
        number.
    keep_size : float
        Shrink the image by a whole number first, as long as the smallest face keeps this side; 0 for never.
    factor, thresholds, progressive
        See `Cascade`.
    """

    min_size: float
    along_side: int
    keep_size: float
    factor: float
    thresholds: tuple[float, float, float]
    progressive: bool


PRESETS = {
    "sphereface": Preset(20, 0, 0, 0.85, (0.6, 0.7, 0.9), progressive=False),
    "fast": Preset(20, 12, 32, 0.709, (0.7, 0.7, 0.9), progressive=True),
}
"""`sphereface`: what the SphereFace authors ran, `face_detect_demo.m` over MTCNNv1. `fast`: MTCNN's own factor, and a
smallest face that grows with the image, as MTCNN's `demo.m` recommends (to a tenth of it there). Its first threshold
spares the second net a quarter of its crops; of 639 faces in LFW and deepface's photographs it lost none."""


def check_preset(preset: object, min_size: Any) -> None:
    """Raise `InvalidArgumentError` for an unknown preset, or a smallest face that cannot be asked for."""
    if preset is not None:
        check_choice("preset", preset, PRESETS)
    if min_size is not None:
        check_number("min_size", min_size, _SMALLEST)


class _Plan(NamedTuple):
    """How one image goes through the cascade: made smaller by a whole number, with a smallest face to match."""

    shrink: int
    min_size: float


class Mtcnn:
    """The cascade of three nets.

    Parameters
    ----------
    load : callable
        Opens a net by its name.
    preset : {"fast", "sphereface"}
    min_size, factor, thresholds
        Instead of the preset's; a `min_size` of one's own does not grow with the image.
    workers : int
        Threads to run copies of the nets in.

    Raises
    ------
    InvalidArgumentError
        A value out of its range; the message says which and what the range is.
    """

    def __init__(
        self,
        load: Loader,
        *,
        preset: str = "fast",
        min_size: float | None = None,
        factor: float | None = None,
        thresholds: Sequence[float] | float | None = None,
        workers: int = 1,
    ) -> None:
        check_preset(preset, min_size)
        self._preset = PRESETS[preset]
        self._min_size = min_size
        self._factor = self._preset.factor if factor is None else check_number("factor", factor, 0.1, 0.95)
        self._thresholds = self._preset.thresholds if thresholds is None else _three(thresholds)
        self._workers = Workers(min(workers, _MOST_WORKERS))
        given = {"preset": None if preset == "fast" else preset, "min_size": min_size, "factor": factor}
        given["thresholds"] = None if thresholds is None else "/".join(f"{value:g}" for value in self._thresholds)
        self.name = detector_name("mtcnn", **given)
        self._nets = Nets(
            NetPool(lambda: load("pnet"), "first net", ("scores", "offsets")),
            NetPool(lambda: load("rnet"), "second net", ("scores", "offsets")),
            NetPool(lambda: load("onet"), "third net", ("scores", "offsets", "points")),
        )
        # With more scales a lying face scores more, up to 0.9997 of 900, and the look at how it lies costs less.
        self._turns = ByNets(self._nets.rnet, self._nets.onet, 0.9999 if preset == "sphereface" else CERTAIN)

    def find(self, images: Sequence[Image]) -> list[Detections]:
        """Find the faces of each image; see `Kind`."""
        answers = self._in_all_turns(images, 1, 1)
        # Where there is nobody large, smaller faces are worth several times the work.
        again = [place for place, found in enumerate(answers) if not len(found.scores) and self._grows(images[place])]
        closer = self._in_all_turns([images[place] for place in again], _CLOSER, _CLOSER_TURNED)
        for place, found in zip(again, closer, strict=True):
            answers[place] = found
        return answers

    def _in_all_turns(self, images: Sequence[Image], closer: int, closer_turned: int) -> list[Detections]:
        def look(some: Sequence[Image], closer: int = closer) -> list[Detections]:
            return self._look(some, [self._plan(image.shape[0], image.shape[1], closer) for image in some])

        return with_turns(self._turns, look, images, look(images), partial(look, closer=closer_turned))

    def _grows(self, image: Image) -> bool:
        """Whether the smallest face was raised for the size of the image, rather than asked for."""
        preset = self._preset
        return self._min_size is None and 0 < preset.along_side * preset.min_size < min(image.shape[:2])

    def _look(self, images: Sequence[Image], plans: Sequence[_Plan]) -> list[Detections]:
        if not images:
            return []
        shrunk = [_shrunk(image, plan.shrink) for image, plan in zip(images, plans, strict=True)]
        found = self._cascaded(shrunk, [plan.min_size for plan in plans])
        return [_detections(faces, plan.shrink) for faces, plan in zip(found, plans, strict=True)]

    def _cascaded(self, images: Sequence[Image], min_sizes: Sequence[float]) -> list[Found]:
        """Run the cascade over images side by side where there are several: one image alone keeps few cores busy."""
        small = sum(image.shape[0] * image.shape[1] for image in images) <= PIXELS_AT_ONCE
        shares = min(self._workers.count, len(images)) if small else 1
        workers = self._workers.count // shares
        # Shares that fill all threads leave none to share their own work with.
        inner = self._workers.map if workers > 1 else map
        cascade = Cascade(self._nets, self._thresholds, self._factor, self._preset.progressive, workers, inner)

        def run(share: slice) -> list[Found]:
            return cascade.run(images[share], min_sizes[share])

        found: dict[int, Found] = {}
        parts = [slice(first, None, shares) for first in range(shares)]
        outer = self._workers.map if shares > 1 else map
        for part, some in zip(parts, outer(run, parts), strict=True):
            found.update(zip(range(len(images))[part], some, strict=True))
        return [found[place] for place in range(len(images))]

    def _plan(self, height: int, width: int, closer: int = 1) -> _Plan:
        preset = self._preset
        least = self._min_size or preset.min_size
        if self._min_size is None and preset.along_side:
            # A whole number, as in `demo.m`: the size of a scale must not hang on the last digit of a quotient.
            least = max(least, min(height, width) // (closer * preset.along_side))
        # The largest scale has (12 / least)^2 of the image's pixels.
        pixels = height * width * max(1.0, (CELL / least) ** 2)
        shrink = ceil(sqrt(pixels / _LARGEST_IMAGE))
        if preset.keep_size:
            shrink = max(shrink, int(least / preset.keep_size))
        shrink = min(shrink, height, width)  # of an image smaller than the smallest face a pixel must be left
        # With a smallest face of under 12 pixels the first net would see the shrunk image blown up again.
        return _Plan(shrink, max(least / shrink, CELL) if shrink > 1 else least)


def open_mtcnn(
    model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    *,
    preset: str | None = None,
    min_size: float | None = None,
    factor: float | None = None,
    thresholds: Sequence[float] | float | None = None,
    backend: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    precision: str = "float32",
) -> Mtcnn:
    """Open the nets, and set the cascade up on them.

    Parameters
    ----------
    model : path, sequence of three or six paths, or None
        A folder of `det1` to `det3`, as `.prototxt` and `.caffemodel`; those six files, net by net; three `.onnx`
        files; or None for the nets that the manifest knows as `mtcnn`.
    preset, min_size, factor, thresholds
        As for `Mtcnn`.
    backend, device, threads, precision
        As for `FaceDetector`.

    Raises
    ------
    InvalidArgumentError
        As for `Mtcnn` and `Session`.
    ModelFileError, ModelNotFoundError
        Files that are missing, or are not such nets.
    BackendError, DeviceError, MissingDependencyError
        As for `Session`.
    """
    from spherecv.runtime import Session
    from spherecv.runtime.devices import usable_cores, usual_backend

    models = _models(model)
    if backend in (None, "auto"):  # "auto" too: OpenVINO is slow where images change in size
        backend = usual_backend(device, "float32" if precision == "auto" else precision)
    options: dict[str, Any] = {"backend": backend, "device": device, "threads": threads, "precision": precision}

    def load(net: str) -> Net:
        return Session(models[net], **options)

    if options["backend"] == "onnxruntime" and device == "cpu":
        # Two threads get less out of one small net than out of two nets side by side.
        workers, options["threads"] = threads or usable_cores(), 1
        load = cache(load)  # one Session runs in any number of threads side by side
    else:
        first = Session(models["pnet"], **options)
        workers = first.threads if (first.backend, first.device) == ("opencv", "cpu") else 1
    return Mtcnn(
        load,
        preset=preset or "fast",
        min_size=min_size,
        factor=factor,
        thresholds=thresholds,
        workers=workers,
    )


def _models(model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None) -> Mapping[str, bytes]:
    from spherecv import zoo

    if model is None:
        return zoo.mtcnn_onnx()
    names = ("pnet", "rnet", "onet")
    if isinstance(model, str | os.PathLike):
        folder = Path(model)
        if not folder.is_dir():
            raise ModelFileError(f"{folder} is not a folder: give the one with det1, det2 and det3")
        model = [folder / f"det{i}.{suffix}" for i in (1, 2, 3) for suffix in ("prototxt", "caffemodel")]
    paths = [Path(path) for path in model]
    if len(paths) == len(names):
        return {name: _read(path) for name, path in zip(names, paths, strict=True)}
    if len(paths) != 2 * len(names):
        raise InvalidArgumentError(f"model must be a folder, or three .onnx files, or six files, but got {len(paths)}")
    from spherecv import caffe

    cache = zoo.cache_dir() / "onnx"
    pairs = zip(names, paths[::2], paths[1::2], strict=True)
    return {name: caffe.onnx_of(prototxt, caffemodel, cache_dir=cache) for name, prototxt, caffemodel in pairs}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None


def _shrunk(image: Image, by: int) -> Image:
    import cv2

    if by == 1:
        return image
    height, width = image.shape[0] // by, image.shape[1] // by
    # Whole squares of pixels only: OpenCV averages those several times faster, and coordinates stay exact.
    whole = image[: height * by, : width * by]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _detections(found: Found, shrink: int) -> Detections:
    """From MATLAB's coordinates, corners included and counted from 1, to ours, and to the image as it came."""
    boxes = (found.boxes - np.array((1, 1, 0, 0), np.float32)) * shrink
    # MATLAB's 1 is the middle of the first pixel, which is 0 here.
    landmarks = (found.landmarks - 1 + 0.5) * shrink - 0.5
    return Detections(boxes.astype(np.float32), found.scores, landmarks.astype(np.float32)).valid()


def _three(thresholds: Sequence[float] | float) -> tuple[float, float, float]:
    if isinstance(thresholds, int | float) or len(thresholds) != 3:
        raise InvalidArgumentError(f"thresholds must be three numbers for mtcnn, but got {thresholds!r}")
    first, second, third = (check_score("each of thresholds", value) for value in thresholds)
    return first, second, third
