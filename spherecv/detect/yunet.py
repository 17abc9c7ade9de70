"""YuNet, the face detector inside OpenCV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice
from spherecv.detect.base import Detections, check_score
from spherecv.detect.turns import ByScore, with_turns
from spherecv.errors import DeviceError, InvalidArgumentError, ModelFileError
from spherecv.runtime.forks import ForkLock
from spherecv.runtime.opencv_settings import silent_opencv

Image = NDArray[np.uint8]

_THRESHOLD = 0.7
_CERTAIN, _UPRIGHT = 0.9, 0.906
"""Of 500 LFW images 99.4 % score 0.9 upright, none on its side, and 0.4 % on their head, none of them 0.91; none
scores more in a wrong turn than upright."""
_OVERLAP = 0.3
_MOST_BOXES = 5000
_LONGEST_SIDE = 640
"""What the net was trained on; in larger images it misses large faces."""
_SHORTEST_SIDE = 33
"""Padded to 64 by OpenCV. At 32 the coarsest maps are one row high, where OpenCV 4.14's depthwise convolution reads
memory that it did not write, and faces appear out of nothing."""


class YuNet:
    """`cv2.FaceDetectorYN`, one image at a time.

    Parameters
    ----------
    model : path, optional
        Another file than the one that the manifest knows as `yunet`.
    threshold : float, optional
        Least score, 0..1.
    backend : {None, "opencv", "auto"}
    device : {"cpu", "cuda", "auto"}

    Raises
    ------
    InvalidArgumentError
        A value out of its range, or another backend.
    ModelFileError
        The file is missing, or is not YuNet.
    DeviceError
        There is no such device, or this OpenCV cannot use it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        threshold: float | None = None,
        backend: str | None = None,
        device: str = "cpu",
    ) -> None:
        if backend not in (None, "auto", "opencv"):
            raise InvalidArgumentError(f"yunet runs on OpenCV only, not on {backend!r}")
        self._threshold = check_score("thresholds", _THRESHOLD if threshold is None else threshold)
        self.name = "yunet" if threshold is None else f"yunet thresholds={self._threshold:g}"
        self._lock = ForkLock()
        path = _known_file() if model is None else Path(model)
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file")
        self._net = _open(path, self._threshold, *_place(device))

    def find(self, images: Sequence[Image]) -> list[Detections]:
        """Find the faces of each image; see `Kind`."""
        return with_turns(ByScore(_CERTAIN, _UPRIGHT), self._look, images, self._look(images))

    def _look(self, images: Sequence[Image]) -> list[Detections]:
        return [self._find(image) for image in images]

    def _find(self, image: Image) -> Detections:
        import cv2

        height, width = image.shape[:2]
        scale = min(1.0, _LONGEST_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale < 1:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        right, below = (max(0, _SHORTEST_SIDE - side) for side in size)
        if right or below:
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT), np.uint8)
        with self._lock:
            self._net.setInputSize((image.shape[1], image.shape[0]))
            _, rows = self._net.detect(image)
        rows = np.empty((0, 15), np.float32) if rows is None else rows
        ratio = np.array((width / size[0], height / size[1]), np.float32)
        corner, extent = rows[:, :2] * ratio, rows[:, 2:4] * ratio
        # Its "right eye", which comes first, is the person's: the left one in the image.
        points = rows[:, 4:14].reshape(-1, 5, 2)
        # Squares of pixels grow around their middles, not around the middle of the first one.
        landmarks = points if scale == 1 else (points + np.float32(0.5)) * ratio - np.float32(0.5)
        return Detections(np.hstack([corner, corner + extent]), rows[:, 14], landmarks).valid()


def _known_file() -> Path:
    from spherecv import zoo

    return zoo.require("yunet")["onnx"]


def _place(device: str) -> tuple[int, int]:
    """OpenCV's numbers of backend and target."""
    import cv2

    from spherecv.runtime.devices import opencv_cuda_missing

    check_choice("device", device, ("cpu", "cuda", "auto"))
    missing = "" if device == "cpu" else opencv_cuda_missing(cv2)
    if device == "cuda" and missing:
        raise DeviceError(f"yunet cannot use device 'cuda': {missing}")
    if device == "cpu" or missing:
        return int(cv2.dnn.DNN_BACKEND_OPENCV), int(cv2.dnn.DNN_TARGET_CPU)
    return int(cv2.dnn.DNN_BACKEND_CUDA), int(cv2.dnn.DNN_TARGET_CUDA)


def _open(path: Path, threshold: float, backend: int, target: int) -> Any:
    import cv2

    try:
        # As bytes: OpenCV does not open every name that the file system knows.
        data = np.frombuffer(path.read_bytes(), np.uint8)
        with silent_opencv(cv2):  # 5.0 warns that its new engine knows no targets, whenever this net is opened
            size = (_LONGEST_SIDE, _LONGEST_SIDE)
            net = cv2.FaceDetectorYN.create(
                "onnx", data, np.empty(0, np.uint8), size, threshold, _OVERLAP, _MOST_BOXES, backend, target
            )
            net.detect(np.zeros((*size, 3), np.uint8))  # a file that is another net fails here, not at the first image
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except cv2.error as error:
        raise ModelFileError(f"{path} is not YuNet, or is damaged: {' '.join(str(error).split())}") from None
    return net
