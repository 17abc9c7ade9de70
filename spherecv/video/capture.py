"""OpenCV's reader of cameras, streams and video files, with errors in one line and without its messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import SphereCVError, VideoError
from spherecv.images import MAX_PIXELS, believed_shape, load_image, make_square, square_size
from spherecv.runtime.opencv_settings import silent_opencv

Image = NDArray[np.uint8]

TIMEOUT = 10.0
"""Seconds that a network source may take to open, and to send the next frame."""
_MOST_RATE = 1000.0
_MOST_CAMERAS = 9_999
_MOST_STAMP = 1e12
_PACKED = (b"\xff\xd8\xff", b"\x89PNG")
_PLANAR = frozenset({b"I420", b"Y42B", b"444P", b"Y800", b"NV12", b"YV12"})
_ALIKE = 250
"""Frames looked at, at most, for one that is another than the first."""
_FLAT, _FLAT_NEAR, _LIKENESS = 2.0, 60.0, 0.7


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
        It cannot be opened, its frames are too large, or OpenCV does not decode them.
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
        self._label, self._rows = label, height
        self._shape = self._pixel_shape(cv2)
        width, height = square_size(int(width), int(height), self._shape)
        if width * height > MAX_PIXELS:
            self.release()
            raise VideoError(f"{label} is {width}x{height}, larger than the limit of {MAX_PIXELS:,} pixels")
        if isinstance(source, str) and "://" not in source and _is_unconverted(cv2, source):
            self.release()
            raise VideoError(
                f"{label} cannot be decoded by this OpenCV, as interlaced recordings often cannot: "
                "convert it first, for example with `ffmpeg -i FILE -vf yadif OUT.mp4`"
            )
        rate, length = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate: float | None = float(rate) if 0 < rate <= _MOST_RATE else None
        self.length: int | None = int(length) if 0 < length < 1e9 else None

    def _pixel_shape(self, cv2: Any) -> float:
        """Width of a pixel over its height, of the frames as delivered: OpenCV may turn them."""
        shape = believed_shape(self._capture.get(cv2.CAP_PROP_SAR_NUM), self._capture.get(cv2.CAP_PROP_SAR_DEN))
        turned = self._capture.get(cv2.CAP_PROP_ORIENTATION_AUTO) > 0
        return 1 / shape if turned and self._capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90 else shape

    def read(self) -> Image | None:
        """Take the next frame, its pixels made square; None at the end.

        Raises
        ------
        VideoError
            The decoder delivers what is not an image.
        """
        good, image = self._capture.read()
        if not good or image is None or not image.size:
            return None
        return make_square(_as_picture(image, self._label, self._rows), self._shape)

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


def _as_picture(frame: NDArray[Any], label: str, rows: float) -> Image:
    """Grey, 16 bits, alpha and frames that are still packed as JPEG as BGR; what has no known meaning is refused."""
    packed = rows != 1 and frame.size == max(frame.shape)
    data = frame.tobytes() if packed else b""
    if packed and not data.startswith(_PACKED):
        raise VideoError(f"{label} delivers its frames as {data[:4].hex(' ')}..., {len(data):,} bytes not decoded")
    try:
        return load_image(data if packed else frame)
    except SphereCVError as error:
        raise VideoError(f"{label} delivers frames that are not images: {error}") from None


def _is_unconverted(cv2: Any, path: str) -> bool:
    """Whether frames are whatever lay in memory: some builds say nothing where FFmpeg refused to turn them into BGR.

    Then each is the same, and looks nothing like the brightness that was decoded.
    """
    with quiet_opencv(cv2), ExitStack() as opened:  # all open to the end, so that none is given another's memory

        def scout(*settings: Any) -> Any:
            capture = cv2.VideoCapture(path, *settings)
            opened.callback(capture.release)
            return capture

        capture = scout()
        form = int(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)).to_bytes(4, "little", signed=True)
        good, first = capture.read()
        if not good or form not in _PLANAR or first.ndim != 3:
            return False
        for _ in range(_ALIKE):
            good, other = capture.read()
            if good and not np.array_equal(first, other):
                return False
            if not good:
                break
        good, again = scout().read()
        if good and not np.array_equal(first, again):
            return True
        good, decoded = scout(cv2.CAP_FFMPEG, [cv2.CAP_PROP_CONVERT_RGB, 0]).read()
    if not good or decoded is None or decoded.dtype != np.uint8 or decoded.shape != first.shape[:2]:
        return False
    return not _is_brightness(decoded.astype(np.float64), cv2.cvtColor(first, cv2.COLOR_BGR2GRAY).astype(np.float64))


def _is_brightness(decoded: NDArray[np.float64], seen: NDArray[np.float64]) -> bool:
    """Whether a grey image can be what was decoded; flat ones by their value, all others by their likeness."""
    if not decoded.any() and not seen.any():  # fresh memory
        return False
    contrasts = [float(one.std()) for one in (decoded, seen)]
    if min(contrasts) < _FLAT:  # a wall: the conversion alone gives it some contrast
        return max(contrasts) < 3 * _FLAT and abs(float(seen.mean() - decoded.mean())) < _FLAT_NEAR
    return float(np.corrcoef(decoded.ravel(), seen.ravel())[0, 1]) > _LIKENESS


@contextmanager
def quiet_opencv(cv2: Any) -> Iterator[None]:
    """An error is reported in one line, by us."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET; read when OpenCV first opens a video
    with silent_opencv(cv2):
        yield
