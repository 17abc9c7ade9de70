"""Tracker: detection every few frames, optical flow between, identity by embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_count
from spherecv.detect.base import check_number
from spherecv.metrics import Metric, check_metric
from spherecv.pipeline import FacePipeline
from spherecv.records import EmbeddedFace, Face
from spherecv.templates import BEST, SetTemplate
from spherecv.video.association import Expected, Pair, Rules, associate, box_overlaps, may_be_lost_one
from spherecv.video.flow import Flow
from spherecv.video.tracks import Frame, Track, TrackedFrame

EVERY = 3
"""Frames from one detection to the next."""
PATIENCE = 2.0
"""Seconds that a track waits for its face to be found again: somebody passes behind somebody else."""
_MOST_EMBEDDED = 16
"""Faces embedded of one frame, the largest: a crowd must not take seconds."""
_HOLD = 0.5
"""Seconds that a face which the detector misses is followed on by the flow."""
_COVERED = 0.2
"""Overlap with a found face from which a missed one counts as hidden behind it."""
_INERTIA = 0.5


class Follower(Protocol):
    """Moves faces along from one frame to the next."""

    def start(self, image: NDArray[np.uint8]) -> None:
        """Take a frame to follow from."""

    def follow(self, image: NDArray[np.uint8], faces: Sequence[Face]) -> list[Face | None]:
        """Say where the faces of the last frame are in this one; None for those lost."""


class FaceTracker:
    """Tracks of faces through the frames of one video.

    Parameters
    ----------
    pipeline : FacePipeline
    every : int
        Faces are looked for in every so many frames that come in, and followed between.
    best : int
        Faces that a track's template stands on.
    patience : float
        Seconds after which a face that is not found again ends its track.
    metric : {"cosine", "euclidean"}
        That templates will be compared by.
    rules : Rules, optional
        When a face may belong to a track. By default they know the model's own distances, where those were measured.
    follower : Follower, optional
        Sparse optical flow by default.

    Raises
    ------
    InvalidArgumentError
        A value out of its range.
    """

    def __init__(
        self,
        pipeline: FacePipeline,
        *,
        every: int = EVERY,
        best: int = BEST,
        patience: float = PATIENCE,
        metric: Metric = "cosine",
        rules: Rules | None = None,
        follower: Follower | None = None,
    ) -> None:
        check_count("every", every)
        self._pipeline = pipeline
        self._every = every
        self._best = best
        self._patience = check_number("patience", patience, 0.0)
        self._metric = check_metric(metric)
        SetTemplate(best=best)  # a wrong number is refused now, not with the first face
        self._rules = rules or Rules(same=_loosest(pipeline))
        self._follower = follower or Flow()
        self._trails: list[_Trail] = []
        self._count = 0
        self._ids = 0
        self._given = -math.inf
        self._set_back = 0.0

    def update(self, frame: Frame) -> TrackedFrame:
        """Take the next frame, and say who is in it.

        Parameters
        ----------
        frame : Frame
            Later than the one before. Where its time goes back nonetheless, the tracks' goes on from where it was.

        Returns
        -------
        TrackedFrame
        """
        given = frame
        frame = self._onward(frame)
        self._follow(frame)
        if self._count % self._every == 0:
            self._detect(frame)
        self._count += 1
        ended = [trail for trail in self._trails if frame.time - trail.last[1] > self._patience]
        self._trails = [trail for trail in self._trails if frame.time - trail.last[1] <= self._patience]
        return TrackedFrame(
            given,
            tuple(trail.snapshot() for trail in self._trails if trail.visible),
            tuple(trail.snapshot() for trail in ended),
        )

    def finish(self) -> tuple[Track, ...]:
        """End all tracks: the video is over."""
        ended = tuple(trail.snapshot() for trail in self._trails)
        self._trails = []
        return ended

    def _onward(self, frame: Frame) -> Frame:
        """Keep time from going back: tracks would wait for faces until it is where it was."""
        self._set_back += max(0.0, self._given - frame.time)
        self._given = frame.time
        return replace(frame, time=frame.time + self._set_back) if self._set_back else frame

    def _follow(self, frame: Frame) -> None:
        visible = [trail for trail in self._trails if trail.visible]
        moved = self._follower.follow(frame.image, [trail.face for trail in visible])
        for trail, face in zip(visible, moved, strict=True):
            trail.follow(face)

    def _detect(self, frame: Frame) -> None:
        (faces,) = self._pipeline.detector.detect_batch([frame.image])
        embedded = self._embedded(frame, faces)
        expected = [trail.expected(frame.time) for trail in self._trails]
        embeddings = [None if item is None else item.embedding for item in embedded]
        pairs = associate(expected, faces, embeddings, self._rules)
        for pair in pairs:
            self._found(self._trails[pair.track], frame, faces, embedded, pair)
        known, taken = {pair.track for pair in pairs}, {pair.face for pair in pairs}
        self._missed([trail for number, trail in enumerate(self._trails) if number not in known], faces, frame.time)
        lost = [number for number in range(len(expected)) if number not in known]
        for number, face in enumerate(faces):
            if number not in taken:
                waiting = [place for place in lost if may_be_lost_one(expected[place], face, self._rules)]
                if waiting:  # the next detections decide better
                    self._trails[waiting[0]].doubts += 1
                    continue
                self._ids += 1
                trail = _Trail(self._ids, face, frame, SetTemplate(best=self._best, metric=self._metric))
                trail.learn(embedded[number], frame)
                self._trails.append(trail)

    def _embedded(self, frame: Frame, faces: Sequence[Face]) -> list[EmbeddedFace | None]:
        order = sorted(range(len(faces)), key=lambda place: -faces[place].width * faces[place].height)
        chosen = sorted(order[:_MOST_EMBEDDED])
        answer: list[EmbeddedFace | None] = [None] * len(faces)
        if chosen:
            crops = self._pipeline.aligner.align(frame.image, [faces[place] for place in chosen])
            for place, crop, row in zip(chosen, crops, self._pipeline.embedder.embed(crops), strict=True):
                answer[place] = EmbeddedFace(faces[place], crop, row)
        return answer

    @staticmethod
    def _found(
        trail: _Trail, frame: Frame, faces: Sequence[Face], embedded: Sequence[EmbeddedFace | None], pair: Pair
    ) -> None:
        trail.find(faces[pair.face], frame)
        item = embedded[pair.face]
        if pair.sure or not len(trail.template):
            trail.learn(item, frame)
        elif item is not None:
            trail.doubts += 1

    @staticmethod
    def _missed(trails: Sequence[_Trail], faces: Sequence[Face], time: float) -> None:
        """Faces that the detector missed are followed on for a while, but not where they are behind somebody."""
        boxes = np.stack([face.box for face in faces]) if faces else np.empty((0, 4))
        for trail in trails:
            hidden = len(faces) > 0 and float(box_overlaps(trail.face.box[None], boxes).max()) > _COVERED
            if hidden or time - trail.last[1] > _HOLD:
                trail.visible = False


class _Trail:
    """A track in the making."""

    def __init__(self, number: int, face: Face, frame: Frame, template: SetTemplate) -> None:
        self.id = number
        self.face = face
        self.template = template
        self.best: EmbeddedFace | None = None
        self.first = self.last = (frame.index, frame.time)
        self.visible = self.detected = True
        self.doubts = 0
        self._place = np.array(face.center)
        self._velocity = np.zeros(2)

    def expected(self, time: float) -> Expected:
        """Where it should be: where it was followed to, or on the way it was going when it was last found."""
        box = self.face.box.astype(np.float64)
        if not self.visible:
            moved = self._place + self._velocity * (time - self.last[1]) - np.array(self.face.center)
            box = box + np.concatenate([moved, moved])
        return Expected(box, self.template.vector if len(self.template) else None, time - self.last[1], self.doubts)

    def follow(self, face: Face | None) -> None:
        """Move on by the flow."""
        self.detected = False
        if face is None:
            self.visible = False
        else:
            self.face = face

    def find(self, face: Face, frame: Frame) -> None:
        """Be found by the detector."""
        place, passed = np.array(face.center), frame.time - self.last[1]
        if passed > 0:
            self._velocity = _INERTIA * self._velocity + (1 - _INERTIA) * (place - self._place) / passed
        self.face, self._place = face, place
        self.last = (frame.index, frame.time)
        self.visible = self.detected = True

    def learn(self, embedded: EmbeddedFace | None, frame: Frame) -> None:
        """Take a face into the template."""
        if embedded is None:
            return
        self.doubts = 0
        self.template.add(embedded.embedding, embedded.face.quality, frame.index)
        if self.best is None or (embedded.face.quality or 0.0) > (self.best.face.quality or 0.0):
            self.best = embedded

    def snapshot(self) -> Track:
        return Track(
            id=self.id,
            face=self.face,
            detected=self.detected,
            first=self.first,
            last=self.last,
            faces=self.template.seen,
            template=self.template.vector if len(self.template) else None,
            frames=self.template.frames,
            best=self.best,
        )


def _loosest(pipeline: FacePipeline) -> float:
    """The loosest cosine threshold that was measured for the model: tracks should rather hold together than break."""
    source = getattr(pipeline.embedder, "source", None)
    fingerprint = pipeline.embedder.recipe.fingerprint
    known = [
        row.threshold
        for row in (source.thresholds if source is not None else ())
        if row.metric == "cosine" and row.far is not None and row.fingerprint == fingerprint
    ]
    return max(known, default=Rules.same)
