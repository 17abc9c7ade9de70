"""FaceWatcher: tracks through a video, and a decision about each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.checks import check_rate, shown
from spherecv.errors import GalleryMismatchError, InvalidArgumentError
from spherecv.metrics import distance
from spherecv.pipeline import WhichFace
from spherecv.records import Match
from spherecv.templates import SetWarning
from spherecv.verify import FaceVerifier
from spherecv.video.frames import FrameSource, Source, open_frames
from spherecv.video.kinds import SetSource
from spherecv.video.live import Notice
from spherecv.video.sets import embed_set
from spherecv.video.tracker import FaceTracker
from spherecv.video.tracks import Frame, Track, TrackedFrame
from spherecv.watch.events import Event
from spherecv.watch.evidence import PACE, Decision, Evidence, Rates
from spherecv.zoo import are_comparable

_CONFIRMED = 2
"""Faces from which a track is announced: what the detector saw once may be nobody."""
_LOOK_UP = 0.5


class Gallery(Protocol):
    """What is asked of a `FaceGallery`."""

    @property
    def store(self) -> Any:
        """What keeps it."""

    @property
    def metric(self) -> Any:
        """How it compares."""

    def identify_embeddings(self, embeddings: Any, k: int = 5, *, threshold: float, template: Any = ...) -> list[Match]:
        """Say who embeddings are of."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame with what is known of the people in it.

    Attributes
    ----------
    tracked : TrackedFrame or None
        None where there is no new frame: while a live source is lost, and at the end.
    decisions : dict of int to Decision
        By the track's id, for the tracks in the frame; empty where nobody is asked about.
    events : tuple of Event
        What happened at this frame.
    """

    tracked: TrackedFrame | None
    decisions: dict[int, Decision]
    events: tuple[Event, ...]

    __repr__ = brief


class FaceWatcher:
    """Tracks people through a video and decides about each.

    Parameters
    ----------
    verifier : FaceVerifier
        Finds, embeds and compares; knows the thresholds.
    references : mapping of str to images, optional
        People to look for: a name, and an image, several of them, or a clip (see `embed_set`).
    gallery : FaceGallery, optional
        People to look for. Give one of the two, or neither: then people are tracked only.
    far : float, optional
        False accept rate of the decision about one track and one identity, 0..1; by default 0.001, or the nearest rate
        that was measured.
    pace : int
        Faces after which half of it is spent; see `spherecv.watch.evidence`.
    template : {"best", "mean"}
        How a gallery's person of several images is compared.
    face : {"largest", "center", "only", "whole"}
        Which of several faces on a reference's image counts; with `"only"`, several are refused.
    **settings
        As for `FaceTracker`.

    Attributes
    ----------
    rates : Rates or None
        The thresholds of the decisions; None where nobody is asked about.
    names : tuple of str
        The references'.

    Warns
    -----
    SetWarning
        A reference's images show several faces, or faces unlike the others.

    Examples
    --------
    >>> watcher = FaceWatcher(verifier, references={"Ann": "ann.jpg"}, far=0.001)      # doctest: +SKIP
    >>> for seen in watcher.watch("door.mp4"):                                         # doctest: +SKIP
    ...     print([event.to_dict() for event in seen.events])
    """

    def __init__(
        self,
        verifier: FaceVerifier,
        *,
        references: Mapping[str, SetSource] | None = None,
        gallery: Gallery | None = None,
        far: float | None = None,
        pace: int = PACE,
        template: str = "best",
        face: WhichFace = "largest",
        **settings: Any,
    ) -> None:
        if references is not None and gallery is not None:
            raise InvalidArgumentError("give references or a gallery, not both")
        if references is not None and not isinstance(references, Mapping):
            raise InvalidArgumentError(
                f'references must be a mapping of names to images, as {{"Ann": "ann.jpg"}}, but got {shown(references)}'
            )
        if far is not None:
            check_rate("far", far)
        if template not in ("best", "mean"):
            raise InvalidArgumentError(f"template must be 'best' or 'mean', but got {template!r}")
        self._verifier = verifier
        self._gallery = gallery
        self._template = template
        self._pace = pace
        self._settings = {"metric": verifier.metric, **settings}
        self._tracker = FaceTracker(verifier.pipeline, **self._settings)
        asked = references is not None or gallery is not None
        self.rates = Rates.of(verifier, far) if asked else None
        if self.rates is not None:
            Evidence(self.rates, pace=pace)  # a wrong pace is refused now, not with the first face
        if gallery is not None:
            _check_gallery(gallery, verifier)
        self._references = [(name, self._embedded(name, source, face)) for name, source in (references or {}).items()]
        self.names = tuple(name for name, _ in self._references)
        self._evidence: dict[int, Evidence] = {}
        self._announced: set[int] = set()
        self._last: Frame | None = None

    def _embedded(self, name: str, source: SetSource, face: WhichFace) -> NDArray[np.float32]:
        """What stands for a person, with a warning of other faces on the images, and of faces unlike the others."""
        found = embed_set(self._verifier.pipeline, source, face=face, metric=self._verifier.metric)
        usual = self._verifier.decision.usual_distance
        for doubt in (*found.crowding(face), *found.doubts(usual, self._verifier.metric)):
            warnings.warn(f"{name}: {doubt}", SetWarning, stacklevel=4)
        return found.face.embedding

    def watch(
        self,
        source: Source | FrameSource,
        *,
        drop: bool | None = None,
        give_up: float | None = None,
        rate: float | None = None,
    ) -> Iterator[Seen]:
        """Go through a video.

        Parameters
        ----------
        source, drop, give_up, rate
            As for `open_frames`.

        Yields
        ------
        Seen
            For each frame; for what happens to a live source between frames; and one at the end, with the tracks that
            were there to the end.
        """
        frames = open_frames(source, drop=drop, give_up=give_up, rate=rate)
        try:
            while not frames.closed:
                frame = frames.wait(_LOOK_UP)
                if frame is None and not frames.live:
                    break
                happened = self.notice(frames.notices())
                if frame is not None:
                    seen = self.update(frame)
                    yield Seen(seen.tracked, seen.decisions, happened + seen.events)
                elif happened:
                    yield Seen(None, {}, happened)
            yield self.finish()
        finally:
            frames.close()

    def update(self, frame: Frame) -> Seen:
        """Take the next frame."""
        self._last = frame
        tracked = self._tracker.update(frame)
        events: list[Event] = []
        for track in tracked.tracks:
            events += self._look(track, frame)
        for track in tracked.ended:
            events += self._end(track, frame, over=False)
        asked = [track.id for track in tracked.tracks if track.id in self._evidence]
        decisions = {number: self._evidence[number].decision for number in asked}
        return Seen(tracked, decisions, tuple(events))

    def finish(self) -> Seen:
        """End the video: its last tracks are decided about as far as that goes, and the next frame begins another."""
        events: list[Event] = []
        for track in self._tracker.finish():
            events += self._end(track, self._last, over=True)
        self._tracker = FaceTracker(self._verifier.pipeline, **self._settings)
        self._last = None
        return Seen(None, {}, tuple(events))

    @staticmethod
    def notice(notices: Sequence[Notice]) -> tuple[Event, ...]:
        """Turn what happened to a live source into events."""
        return tuple(Event(kind, at=at, details={"text": text}) for kind, text, at in notices)

    def _look(self, track: Track, frame: Frame) -> list[Event]:
        events = []
        if track.faces >= _CONFIRMED and track.id not in self._announced:
            self._announced.add(track.id)
            events.append(_event("appeared", track, frame))
        if self.rates is None or track.id not in self._announced:
            return events
        evidence = self._evidence.setdefault(track.id, Evidence(self.rates, pace=self._pace))
        if evidence.due(track.faces):
            events += self._decide(evidence, track, frame, last=False)
        return events

    def _end(self, track: Track, frame: Frame | None, *, over: bool) -> list[Event]:
        events: list[Event] = []
        known = track.id in self._announced
        self._announced.discard(track.id)
        evidence = self._evidence.pop(track.id, None)
        if not known and not over:
            return events  # seen once and never again: nobody
        if not known:
            events.append(_event("appeared", track, frame))
            evidence = None if self.rates is None else Evidence(self.rates, pace=self._pace)
        if evidence is not None:
            events += self._decide(evidence, track, frame, last=True)
        details = {} if evidence is None else evidence.decision.to_dict()
        events.append(_event("ended", track, frame, details))
        return events

    def _decide(self, evidence: Evidence, track: Track, frame: Frame | None, *, last: bool) -> list[Event]:
        if track.template is None or evidence.decision.state == "same":
            return []
        before = evidence.decision.state
        decision = evidence.look(track.faces, self._nearest(track.template), last=last)
        return [_event("decided", track, frame, decision.to_dict())] if decision.state != before else []

    def _nearest(self, template: NDArray[np.float32]) -> list[tuple[str, float]]:
        if self._gallery is not None:
            (match,) = self._gallery.identify_embeddings(template, 1, threshold=0.0, template=self._template)
            return [(str(one.identity), one.distance) for one in match.candidates[:1]]
        if not self._references:
            return []
        rows = np.stack([row for _, row in self._references])
        distances = distance(template, rows, self._verifier.metric)
        nearest = int(np.argmin(distances))
        return [(self._references[nearest][0], float(distances[nearest]))]


def _event(kind: str, track: Track, frame: Frame | None, details: Mapping[str, Any] | None = None) -> Event:
    values = {**_of(track), **(details or {})}
    return Event(kind, details=values) if frame is None else Event(kind, frame.index, frame.time, frame.at, values)


def _of(track: Track) -> dict[str, Any]:
    values = track.to_dict()
    del values["detected"]
    return values


def _check_gallery(gallery: Gallery, verifier: FaceVerifier) -> None:
    if gallery.metric != verifier.metric:
        raise InvalidArgumentError(f"the gallery compares by {gallery.metric}, the verifier by {verifier.metric}")
    origin = gallery.store.origin
    source = verifier.pipeline.embedder.source
    if origin is not None and not are_comparable(origin.model, origin.key, source.key):
        raise GalleryMismatchError(f"{gallery.store.label} was made with {origin.model}, not with this {source.name}")
