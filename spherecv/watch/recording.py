"""Video files written frame by frame, and finished whatever ends the writing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import InvalidArgumentError, StorageError, VideoError
from spherecv.files import Part, refused
from spherecv.video.capture import quiet_opencv
from spherecv.video.tracks import RATE

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
_LOOK_EVERY = 64
"""Frames between two looks at the room that is left."""
_LEAST_ROOM = 1 << 16


class VideoFile:
    """A video file in the making. A context manager that finishes it.

    It is written beside its goal. `close` puts it in its place with every frame written so far, when it has read back
    that they are all there: OpenCV says nothing of a disk that is full. What a killed process leaves, `.NAME.part.mkv`,
    can be played if it is a `.mkv` or `.avi`, an `.mp4` cannot; the next that writes to the same place takes it over.

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
        self._failed = False
        self._part: Part | None = Part(self.path)

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
        StorageError
            The disk is full; nothing is put in place then.
        """
        import cv2

        if self._part is None:
            raise VideoError(f"{self.path} was closed: open another")
        if self._writer is None:
            self._open(cv2, image, self._part.path)
        if (image.shape[1], image.shape[0]) != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        for _ in range(times):
            if self._frames % _LOOK_EVERY == 0:
                self._check_room(self._part.path)
            self._writer.write(image)
            self._frames += 1

    def close(self) -> None:
        """Finish the file and put it in its place; without a frame there is none.

        Raises
        ------
        StorageError
            Not all of it could be written. What was in its place before is still there.
        """
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        part, self._part = self._part, None
        if part is None:
            return
        if not self._frames or self._failed:
            part.drop()
            return
        try:
            if not _is_whole(part.path, self._frames):
                raise StorageError(
                    f"{self.path} cannot be written: read back, it does not hold its {self._frames:,} frames; "
                    "is the disk full?"
                )
        except BaseException:
            part.drop()
            raise
        part.put()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check_room(self, part: Path) -> None:
        with refused(self.path):
            if shutil.disk_usage(part.parent).free < _LEAST_ROOM:
                self._failed = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self, cv2: Any, image: NDArray[np.uint8], part: Path) -> None:
        height, width = image.shape[:2]
        self._size = (width + width % 2, height + height % 2)  # these codecs halve the colours' resolution
        with quiet_opencv(cv2):
            code = cv2.VideoWriter_fourcc(*self._codec)
            writer = cv2.VideoWriter(str(part), cv2.CAP_FFMPEG, code, self._rate, self._size)
        if not writer.isOpened():
            what = f"{self.path.suffix} of {width}x{height}"
            raise VideoError(f"{self.path} cannot be written: this OpenCV has no codec for {what}")
        self._writer = writer


def _is_whole(path: Path, frames: int) -> bool:
    """Whether a file can be read, says that it has so many frames, and has the last.

    What a full disk takes is the end: the index of .mp4, the head's count of .avi and .webm, the last frames of .mkv.
    """
    import cv2

    with quiet_opencv(cv2):
        read = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        try:
            if not read.isOpened() or round(read.get(cv2.CAP_PROP_FRAME_COUNT)) != frames:
                return False
            read.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
            return bool(read.grab())
        finally:
            read.release()
