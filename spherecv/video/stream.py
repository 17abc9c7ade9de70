"""The tracked frames of a video, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

from spherecv.pipeline import FacePipeline
from spherecv.video.frames import FrameSource, Source, open_frames
from spherecv.video.tracker import FaceTracker
from spherecv.video.tracks import Track, TrackedFrame


class FaceStream:
    """The frames of a video, each with the tracks in it. A context manager that closes the source.

    Parameters
    ----------
    pipeline : FacePipeline
    source : str, path, int, iterable of images or FrameSource
        A video file, an address, a camera's number, a folder or list of frames, or images from anywhere; see
        `open_frames`, also for `drop`, `give_up` and `rate`.
    **settings
        `every` (frames from one detection to the next), `best` (faces that a template stands on), `patience` (seconds
        without their face that end a track), `metric`; see `FaceTracker`.

    Attributes
    ----------
    source : FrameSource
    ended : tuple of Track
        After the last frame: the tracks that were there to the end, in their last state.

    Raises
    ------
    VideoError, ImageError, InvalidArgumentError

    Examples
    --------
    >>> for seen in FaceStream(pipeline, "door.mp4"):                    # doctest: +SKIP
    ...     print(seen.frame.index, [track.id for track in seen.tracks])
    """

    def __init__(
        self,
        pipeline: FacePipeline,
        source: Source | FrameSource,
        *,
        drop: bool | None = None,
        give_up: float | None = None,
        rate: float | None = None,
        **settings: Any,
    ) -> None:
        self._tracker = FaceTracker(pipeline, **settings)
        self.source = open_frames(source, drop=drop, give_up=give_up, rate=rate)
        self.ended: tuple[Track, ...] = ()

    def __iter__(self) -> Iterator[TrackedFrame]:
        return self

    def __next__(self) -> TrackedFrame:
        try:
            return self._tracker.update(next(self.source))
        except StopIteration:
            self.ended += self._tracker.finish()
            self.source.close()
            raise

    def close(self) -> None:
        """Let go of the source; the iteration ends."""
        self.source.close()

    def __enter__(self) -> FaceStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
