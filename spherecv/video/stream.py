"""A film to its tracked frames: what `FacePipeline.stream` gives."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

from spherecv.pipeline import FacePipeline
from spherecv.video.frames import FrameSource, Source, open_frames
from spherecv.video.tracker import FaceTracker
from spherecv.video.tracks import Track, TrackedFrame


class FaceStream:
    """Iterate over the frames of a film, each with the tracks in it. A context manager that closes the source.

    Parameters
    ----------
    pipeline : FacePipeline
    source
        As for `open_frames`.
    drop, give_up, rate
        As for `open_frames`.
    **settings
        As for `FaceTracker`.

    Attributes
    ----------
    source : FrameSource
    ended : tuple of Track
        After the last frame: the tracks that were there to the end, in their last state.
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
