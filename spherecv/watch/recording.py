"""Video files written frame by frame, and finished whatever ends the writing."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError, StorageError, VideoError
from spherecv.video.capture import quiet_opencv
from spherecv.video.tracks import RATE

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}


class VideoFile:
    """A video file in the making. A context manager that finishes it.

    It is written beside its goal and put in its place by `close`, which keeps every frame written so far. What a killed
    process leaves, `.NAME-....mkv`, can be played if it is a `.mkv` or `.avi`; an `.mp4` cannot.

    Parameters
    ----------
    path : path
        The suffix says the format: .mp4, .m4v, .mov, .mkv, .avi, .webm.
    rate : float, optional
        Frames a second; 25 by default.

    Raises
    ------
    InvalidArgumentError
        Another suffix.
    StorageError
        The folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, rate: float | None = None) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in CODECS:
            raise InvalidArgumentError(f"{self.path}: a video is written as one of {', '.join(CODECS)}")
        self._codec = CODECS[suffix]
        self._rate = rate or RATE
        self._writer: Any = None
        self._size = (0, 0)
        self._frames = 0
        self._part = self.path.with_name(f".{self.path.stem}-{secrets.token_hex(4)}{self.path.suffix}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part.touch(exist_ok=False)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def write(self, image: NDArray[np.uint8], times: int = 1) -> None:
        """Append a frame, several times over where the source dropped some.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
            BGR. The first one says how large the video is; others are scaled to it.
        times : int

        Raises
        ------
        VideoError
            This OpenCV cannot write such a file.
        """
        import cv2

        if self._writer is None:
            self._open(cv2, image)
        if (image.shape[1], image.shape[0]) != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        for _ in range(times):
            self._writer.write(image)
            self._frames += 1

    def close(self) -> None:
        """Finish the file and put it in its place; without a frame there is none."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        try:
            if self._frames:
                self._frames = 0
                self._part.replace(self.path)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error.strerror or error}") from None
        finally:
            with suppress(OSError):
                self._part.unlink()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self, cv2: Any, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        self._size = (width + width % 2, height + height % 2)  # these codecs halve the colours' resolution
        with quiet_opencv(cv2):
            code = cv2.VideoWriter_fourcc(*self._codec)
            writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, code, self._rate, self._size)
        if not writer.isOpened():
            what = f"{self.path.suffix} of {width}x{height}"
            raise VideoError(f"{self.path} cannot be written: this OpenCV has no codec for {what}")
        self._writer = writer
