"""RetinaFace, through the package retina-face."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice
from spherecv.detect.base import Detections, check_score
from spherecv.detect.nets import NetPool
from spherecv.detect.turns import ByCrop, with_turns
from spherecv.errors import (
    BackendError,
    DeviceError,
    DownloadError,
    InvalidArgumentError,
    ModelFileError,
)

Image = NDArray[np.uint8]

_THRESHOLD = 0.9
_LANDMARKS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
"""The package names sides as the person has them: the right eye is the left one in the image."""
_ENGINE = "DEEPFACE_BACKEND_ENGINE"
_ASKED_BELOW = 1.1
"""Of every face: how certain its scores are of upright ones was not measured, and MTCNN's nets cost next to nothing."""


class RetinaFace:
    """The package's detector on ONNX Runtime, one image at a time.

    Parameters
    ----------
    model : path, optional
        An ONNX file of the network; by default the package's own, downloaded when there is none.
    threshold : float, optional
        Least score, 0..1.
    backend : {None, "onnxruntime", "auto"}
    device : {"cpu", "cuda", "auto"}
    threads : int, optional

    Raises
    ------
    InvalidArgumentError
        A value out of its range, or another backend.
    DownloadError
        The weights are not there and cannot be downloaded, or `SPHERECV_OFFLINE` forbids it.
    ModelFileError
        The file is not the network.
    DeviceError
        ONNX Runtime cannot use the device.
    BackendError
        The package is broken, or runs on another engine in this process already.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        threshold: float | None = None,
        backend: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        if backend not in (None, "auto", "onnxruntime"):
            raise InvalidArgumentError(f"retinaface runs on ONNX Runtime only, not on {backend!r}")
        self._threshold = check_score("thresholds", _THRESHOLD if threshold is None else threshold)
        self.name = "retinaface" if threshold is None else f"retinaface thresholds={self._threshold:g}"
        providers = _providers(device)
        self._package = _import_package()
        path = _weights() if model is None else Path(model)
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file")
        self._net = _open(path, providers, threads)
        self._turns = ByCrop(*_judges(threads), _ASKED_BELOW)

    def find(self, images: Sequence[Image]) -> list[Detections]:
        """Find the faces of each image; see `Kind`."""
        return with_turns(self._turns, self._look, images, self._look(images))

    def _look(self, images: Sequence[Image]) -> list[Detections]:
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> Detections:
        try:
            found = self._package.detect_faces(image, threshold=self._threshold, model=self._net)
        except Exception as error:  # the package raises what OpenCV, NumPy and ONNX Runtime raise
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise BackendError(f"retina-face failed on an image of {size}: {_one_line(error)}") from None
        faces = list(found.values())
        boxes = np.array([face["facial_area"] for face in faces], np.float32).reshape(-1, 4)
        scores = np.array([face["score"] for face in faces], np.float32)
        points = [[face["landmarks"][name] for name in _LANDMARKS] for face in faces]
        # Its boxes include both corners, and are cut to whole pixels.
        boxes[:, 2:] += 1
        return Detections(boxes, scores, np.array(points, np.float32).reshape(-1, 5, 2)).valid()


def _judges(threads: int | None) -> tuple[NetPool, NetPool]:
    """MTCNN's second and third net, which tell how a face lies."""
    from spherecv import zoo
    from spherecv.runtime import Session

    nets = zoo.mtcnn_onnx()
    options: dict[str, Any] = {"backend": "onnxruntime", "threads": threads}
    second = NetPool(lambda: Session(nets["rnet"], **options), "second net", ("scores", "offsets"))
    third = NetPool(lambda: Session(nets["onet"], **options), "third net", ("scores", "offsets", "points"))
    return second, third


def _import_package() -> Any:
    before = os.environ.get(_ENGINE)
    # It would prefer TensorFlow or PyTorch, where they are installed, with other weights; it decides when imported.
    os.environ[_ENGINE] = "onnx"
    try:
        package = importlib.import_module("retinaface.RetinaFace")
        engine = importlib.import_module("retinaface.commons.backend_utils").get_backend_engine()
    except Exception as error:  # whatever the import of one of its dependencies raises
        raise BackendError(f"retina-face cannot be used ({_one_line(error)}): pip install -U retina-face") from None
    finally:
        if before is None:
            del os.environ[_ENGINE]
        else:
            os.environ[_ENGINE] = before
    if engine != "onnx":
        raise BackendError(f"retina-face runs on {engine} in this process: set {_ENGINE}=onnx before it is imported")
    return package


def _onnx_module() -> ModuleType:
    return importlib.import_module("retinaface.model.retinaface_onnx_model")


def _weights() -> Path:
    """The package's file, which it downloads; where it looks is its own affair, and so only repeated here."""
    from spherecv.zoo import is_offline

    home = os.environ.get("DEEPFACE_HOME") or str(Path.home())
    path = Path(home) / ".deepface" / "weights" / "retinaface.onnx"
    if path.is_file():
        return path
    module = _onnx_module()
    urls = getattr(module, "WEIGHTS_URLS", [])
    by_hand = f"put the file there by hand, from {' or '.join(urls) or 'the page of retina-face'}"
    if is_offline():
        raise DownloadError(
            f"retinaface: {path} is missing, and SPHERECV_OFFLINE forbids to download it: unset that, or {by_hand}"
        )
    try:
        # It prints what it tries, five lines for one failure; gdown's bar goes to stderr and stays.
        with contextlib.redirect_stdout(io.StringIO()):
            found = module.weight_utils.download_weights_if_necessary(file_name=path.name, source_urls=urls)
    except Exception as error:  # requests, gdown and the file system each have their own
        reason = _one_line(_innermost(error))
        raise DownloadError(
            f"retinaface: {path} is missing and could not be downloaded ({reason}): {by_hand}"
        ) from None
    return Path(found)


def _innermost(error: Exception) -> Exception | str:
    """What failed in the end: the package holds an error of requests, that one of urllib3, that the system's."""
    inner = getattr(error, "reason", None) or error.__cause__ or (error.args or ("",))[0]
    return _innermost(inner) if isinstance(inner, Exception) else getattr(error, "strerror", None) or error


def _providers(device: str) -> list[str]:
    from spherecv.runtime.devices import import_onnxruntime, onnxruntime_cuda_missing

    check_choice("device", device, ("cpu", "cuda", "auto"))
    missing = "" if device == "cpu" else onnxruntime_cuda_missing(import_onnxruntime())
    if device == "cuda" and missing:
        raise DeviceError(f"retinaface cannot use device 'cuda': {missing}")
    return ["CPUExecutionProvider"] if device == "cpu" or missing else ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _open(path: Path, providers: list[str], threads: int | None) -> Any:
    from spherecv.runtime.devices import import_onnxruntime

    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise ModelFileError(f"{path} is not RetinaFace, or is damaged, delete it: {_one_line(error)}") from None
    if session.get_providers()[0] != providers[0]:
        raise DeviceError("retinaface cannot use device 'cuda': ONNX Runtime's CUDA provider does not load")
    return _onnx_module().RetinaFace(session)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
