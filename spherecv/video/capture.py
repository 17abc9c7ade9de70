"""OpenCV's reader of cameras, streams and video files, with errors in one line and without its messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import VideoError
from spherecv.images import MAX_PIXELS, believed_shape, make_square, square_size
from spherecv.runtime.opencv_settings import silent_opencv

Image = NDArray[np.uint8]

TIMEOUT = 10.0
"""Seconds that a network source may take to open, and to send the next frame."""
_MOST_RATE = 1000.0
_MOST_CAMERAS = 9_999
_MOST_STAMP = 1e12


class Capture(Protocol):
    """What frames are read from.

    Attributes
    ----------
    rate : float or None
        Frames a second, as the source says.
    length : int or None
        About how many frames there are; None where nobody knows.
    moment : float or None
        Seconds at which the last frame read stands in the source; None where nobody knows.
    """

    rate: float | None
    length: int | None

    @property
    def moment(self) -> float | None:
        """When the last frame was."""

    def read(self) -> Image | None:
        """Take the next frame; None at the end, or where the source was lost."""

    def release(self) -> None:
        """Close the source."""


class OpenedCapture:
    """A `cv2.VideoCapture` that delivers.

    Parameters
    ----------
    source : str or int
        Path or address, or the number of a camera.
    label : str
        What to call it in messages.

    Raises
    ------
    VideoError
        It cannot be opened, or its frames are too large.
    """

    def __init__(self, source: str | int, label: str) -> None:
        import cv2

        if isinstance(source, int) and not 0 <= source <= _MOST_CAMERAS:
            raise VideoError(f"{label} {_why_closed(source)}")
        with quiet_opencv(cv2):
            if isinstance(source, int):
                self._capture: Any = cv2.VideoCapture(source)
            elif "://" in source:
                limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
                settings = [value for limit in limits for value in (limit, int(1000 * TIMEOUT))]
                self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, settings)
            else:
                self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            raise VideoError(f"{label} {_why_closed(source)}")
        width, height = (self._capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self._shape = self._pixel_shape(cv2)
        width, height = square_size(int(width), int(height), self._shape)
        if width * height > MAX_PIXELS:
            self.release()
            raise VideoError(f"{label} is {width}x{height}, larger than the limit of {MAX_PIXELS:,} pixels")
        rate, length = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate: float | None = float(rate) if 0 < rate <= _MOST_RATE else None
        self.length: int | None = int(length) if 0 < length < 1e9 else None

    def _pixel_shape(self, cv2: Any) -> float:
        """Width of a pixel over its height, as frames are handed over: OpenCV may turn them."""
        shape = believed_shape(self._capture.get(cv2.CAP_PROP_SAR_NUM), self._capture.get(cv2.CAP_PROP_SAR_DEN))
        turned = self._capture.get(cv2.CAP_PROP_ORIENTATION_AUTO) > 0
        return 1 / shape if turned and self._capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90 else shape

    def read(self) -> Image | None:
        """Take the next frame, its pixels made square; None at the end."""
        good, image = self._capture.read()
        if not good or image is None:
            return None
        if image.ndim == 2:
            image = np.repeat(image[:, :, None], 3, axis=2)
        return make_square(np.asarray(image, np.uint8), self._shape)

    @property
    def moment(self) -> float | None:
        """When the last frame was, as its stamp in the source says."""
        import cv2

        stamp = float(self._capture.get(cv2.CAP_PROP_POS_MSEC))
        return stamp / 1000 if 0 <= stamp < _MOST_STAMP else None

    def release(self) -> None:
        """Close the source."""
        self._capture.release()


def _why_closed(source: str | int) -> str:
    if isinstance(source, int):
        return "cannot be opened: no such camera, no permission, or another program has it"
    if "://" in source:
        return f"cannot be reached, or sends no video (waited up to {TIMEOUT:g} s)"
    return "is not a video that this OpenCV can read, or it is damaged"


@contextmanager
def quiet_opencv(cv2: Any) -> Iterator[None]:
    """What goes wrong is said in one line, by us."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when OpenCV first opens a video
    with silent_opencv(cv2):
        yield
