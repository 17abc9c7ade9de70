"""Sources of frames: a video file, a folder, a list, a camera, a stream, or images in memory."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Protocol, TypeAlias

from spherecv.addresses import brief, is_offline, is_web_address, without_password
from spherecv.errors import ImageError, InvalidArgumentError, SphereCVError, VideoError
from spherecv.images import IMAGE_SUFFIXES, LIST_SUFFIXES, ImageSource, find_images, load_image
from spherecv.video.capture import Capture, OpenedCapture
from spherecv.video.kinds import VIDEO_SUFFIXES
from spherecv.video.live import LiveFrames, Notice
from spherecv.video.tracks import RATE, Frame

_CAMERAS = {".mjpeg", ".mjpg"}
"""Suffixes of files too, but at an address of a camera's stream."""
Source: TypeAlias = str | os.PathLike[str] | int | Iterable[ImageSource | Frame]


class VideoWarning(UserWarning):
    """A video that is shorter than it says, or a frame of it that cannot be read."""


class FrameSource(Protocol):
    """What `open_frames` gives: an iterator over frames.

    Attributes
    ----------
    label : str
        What to call it in messages; without passwords.
    rate : float or None
        Frames a second, where the source says.
    live : bool
        Whether it goes on without us: then frames that nobody took are dropped.
    length : int or None
        About how many frames there are; None where nobody knows.
    """

    label: str
    rate: float | None
    live: bool
    length: int | None

    @property
    def closed(self) -> bool:
        """Whether it was let go of."""

    @property
    def dropped(self) -> int:
        """Frames that came and were not taken."""

    def __iter__(self) -> Iterator[Frame]: ...

    def __next__(self) -> Frame: ...

    def wait(self, seconds: float | None) -> Frame | None:
        """Take the next frame; None where none came in time, or there are no more."""

    def notices(self) -> list[Notice]:
        """Take what happened to the source since the last call."""

    def close(self) -> None:
        """Let go of the source."""


class StoredFrames:
    """Frames that wait for us: none is dropped.

    Parameters
    ----------
    frames : iterator of Frame
    label : str
    rate : float or None
    close : callable
        Lets go of what they come from.
    length : int, optional
    """

    live = False
    dropped = 0

    def __init__(
        self,
        frames: Iterator[Frame],
        label: str,
        rate: float | None = None,
        close: Callable[[], None] | None = None,
        length: int | None = None,
    ) -> None:
        self.label = label
        self.rate = rate
        self.length = length
        self.closed = False
        self._frames = frames
        self._close = close

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self.closed:
            raise StopIteration
        return next(self._frames)

    def wait(self, seconds: float | None) -> Frame | None:  # noqa: ARG002 - a stored frame is there or never comes
        """Take the next frame; None where there are no more."""
        return next(self, None)

    def notices(self) -> list[Notice]:
        """Nothing: stored frames are not lost."""
        return []

    def close(self) -> None:
        """Let go of the source."""
        self.closed = True
        if self._close is not None:
            self._close()
            self._close = None


def open_frames(
    source: Source | FrameSource, *, drop: bool | None = None, give_up: float | None = None, rate: float | None = None
) -> FrameSource:
    """Open a source of frames.

    Parameters
    ----------
    source : str, path, int or iterable of images
        The number of a camera; an address (`rtsp://...`, `http://.../stream.mjpg`); a video file; a folder or a list of
        frames; or images (arrays, paths, ...), which may come from a generator.
    drop : bool, optional
        Whether frames that come too fast are dropped, and a lost source is looked for again. By default for cameras and
        addresses, but for the address of a video file; never for what is stored here.
    give_up : float, optional
        Seconds that a lost live source is looked for; no limit by default.
    rate : float, optional
        Frames a second of a folder, a list or images, which do not say: 25 by default.

    Returns
    -------
    FrameSource
        To be closed when done.

    Raises
    ------
    VideoError
        It cannot be opened. Passwords in addresses are not repeated.
    ImageError
        A folder or list without images.
    InvalidArgumentError
    """
    if rate is not None and not 0 < rate <= 1000:
        raise InvalidArgumentError(f"rate must be within 0..1000 frames a second, but got {rate!r}")
    if give_up is not None and not give_up >= 0:
        raise InvalidArgumentError(f"give_up must be 0 seconds or more, but got {give_up!r}")
    if isinstance(source, bool | bytes | bytearray | memoryview):
        raise InvalidArgumentError(f"a video must be a path, an address, a camera or images, but got {source!r:.40}")
    if hasattr(source, "notices") and hasattr(source, "wait"):
        return source  # type: ignore[return-value]
    if isinstance(source, int) or (isinstance(source, str) and source.isdecimal()):
        return _captured(int(source), f"camera {int(source)}", True if drop is None else drop, give_up)
    if isinstance(source, str) and source.lower().startswith("file:"):
        raise VideoError(f"{brief(source)}: name the file by its path")
    if is_web_address(source) and is_offline():
        raise VideoError(f"{brief(source)} is not fetched: SPHERECV_OFFLINE forbids the network")
    if isinstance(source, str) and "://" in source:
        suffix = Path(re.split(r"[?#]", source)[0]).suffix.lower()
        stored = suffix in VIDEO_SUFFIXES - _CAMERAS and not source.startswith("rtsp")
        return _captured(source, without_password(source), not stored if drop is None else drop, give_up)
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), rate)
    if isinstance(source, Iterable):
        return StoredFrames(_from_images(source, rate or RATE), "the frames given", rate)
    raise InvalidArgumentError(f"a video must be a path, an address, a camera or images, but got {source!r:.40}")


def _captured(source: str | int, label: str, live: bool, give_up: float | None) -> FrameSource:
    def reopen() -> Capture:
        return OpenedCapture(source, label)

    if live:
        return LiveFrames(reopen, label, give_up=give_up)
    capture = reopen()
    return StoredFrames(_read_on(capture, label), label, capture.rate, capture.release, capture.length)


def _from_path(path: Path, rate: float | None) -> FrameSource:
    suffix = path.suffix.lower()
    try:
        folder, missing = path.is_dir(), not path.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds what no name may
        raise VideoError(f"{str(path)[:80]!r} cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if folder:
        images = sorted(find_images(path), key=in_order)
    elif missing:
        raise VideoError(f"{path}: no such file or folder")
    elif suffix in LIST_SUFFIXES | IMAGE_SUFFIXES:
        images = find_images(path)
    else:
        return _captured(str(path), str(path), False, None)
    return StoredFrames(_from_files(images, rate or RATE, str(path)), str(path), rate, length=len(images))


def in_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by the numbers in a path: frame 2 before frame 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part.isdigit()), int(part) if part.isdigit() else 0, part) for part in parts]


def _from_files(paths: list[Path], rate: float, label: str) -> Iterator[Frame]:
    good = 0
    error: SphereCVError = ImageError(f"{label} holds no frames")
    for index, path in enumerate(paths):
        try:
            image = load_image(path)
        except SphereCVError as fault:
            error = fault
            warnings.warn(f"passed over: {fault}", VideoWarning, stacklevel=2)
            continue
        good += 1
        yield Frame(index, index / rate, image)
    if not good:
        raise error


def _from_images(images: Iterable[ImageSource | Frame], rate: float) -> Iterator[Frame]:
    for index, image in enumerate(images):
        yield image if isinstance(image, Frame) else Frame(index, index / rate, load_image(image))


def _read_on(capture: Capture, label: str) -> Iterator[Frame]:
    step = 1 / (capture.rate or RATE)
    start, time = 0.0, 0.0
    for index in count():
        image = capture.read()
        if image is None:
            break
        moment = capture.moment
        if index == 0:
            start = moment or 0.0
        else:  # phones video at a varying rate; where stamps are missing or go back, the rate says when it was
            time = moment - start if moment is not None and moment - start > time else time + step
        yield Frame(index, time, image)
    if not index:
        raise VideoError(f"{label} holds no frames that this OpenCV can read")
    # The number of frames is what the length in seconds makes at an even rate: there may be fewer, each for longer.
    if capture.length is not None and max(index, time / step) < 0.9 * capture.length - 1:
        text = f"{label} ended at frame {index:,} of about {capture.length:,}: it is cut off or damaged"
        warnings.warn(text, VideoWarning, stacklevel=2)
