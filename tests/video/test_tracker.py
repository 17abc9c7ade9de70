from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from spherecv.errors import InvalidArgumentError
from spherecv.video import FaceTracker, Frame
from spherecv.video.association import box_overlaps


@pytest.mark.runtime
def test_identities_do_not_switch_in_films_of_photographs(scenes, people, pipeline) -> None:
    """Two people cross, the camera pans, zooms, loses focus, is held by hand: at most 2 % of tracks may switch."""
    names = list(people)[:12]
    cast = [(name, [scenes.read(people[name][0])]) for name in names]
    tracks, switches, seen, shown = set(), 0, 0, 0
    for scene in scenes.scenes(cast, length=40):
        tracker, whose = FaceTracker(pipeline), {}
        for number, image in enumerate(scene):
            found = tracker.update(Frame(number, number / 25, image)).tracks
            truth = scene.truth(number)
            shown += len(truth)
            if not found or not truth:
                continue
            overlaps = box_overlaps(np.stack([track.face.box for track in found]), np.stack(list(truth.values())))
            for row, column in zip(*linear_sum_assignment(-overlaps), strict=True):
                if overlaps[row, column] >= 0.3:
                    name, number_of = list(truth)[column], found[row].id
                    switches += whose.get(name, number_of) != number_of
                    whose[name] = number_of
                    tracks.add((scene.seed, number_of))
                    seen += 1
    assert len(tracks) >= len(names)
    assert switches <= 0.02 * len(tracks)
    assert seen > 0.95 * shown


def test_faces_are_found_every_few_frames_and_followed_between(told) -> None:
    pipeline = told.pipeline([[told.face(100, who=1)]])
    tracker = FaceTracker(pipeline, every=4, follower=told.Still())
    seen = [tracker.update(frame) for frame in told.frames(9)]
    assert pipeline.detector.calls == 3
    assert [one.tracks[0].detected for one in seen] == [True, False, False, False] * 2 + [True]
    last = seen[-1].tracks[0]
    assert (last.id, last.faces, last.first, last.last) == (1, 3, (0, 0.0), (8, 0.32))
    assert last.template.tolist() == np.eye(8, dtype=np.float32)[1].tolist()
    assert not last.template.flags.writeable
    assert last.best.crop.shape == (112, 96, 3)
    assert seen[0].tracks[0].faces == 1  # a snapshot does not change
    assert last.to_dict()["best_frame"] == 0
    (ended,) = tracker.finish()
    assert ended.id == 1
    assert tracker.finish() == ()


def test_somebody_else_in_the_same_place_is_another_track_when_that_goes_on(told) -> None:
    tracker = FaceTracker(
        told.pipeline([[told.face(100, who=who)] for who in (1, 2, 1, 2, 2, 2, 1)]), every=1, follower=told.Still()
    )
    seen = [tracker.update(frame).tracks for frame in told.frames(7)]
    assert [[track.id for track in tracks] for tracks in seen] == [[1], [1], [1], [1], [1], [2], [1]]
    # A moment's likeness to somebody else changes no template.
    assert seen[4][0].template.tolist() == np.eye(8, dtype=np.float32)[1].tolist()
    assert seen[4][0].faces == 2


def test_who_comes_back_in_time_is_the_same_and_who_does_not_is_new(told) -> None:
    there, away = [told.face(100, who=1)], []
    tracker = FaceTracker(told.pipeline([there, away, there]), every=1, patience=1.0, follower=told.Still())
    frames = [Frame(number, time, told.frames(1)[0].image) for number, time in enumerate((0.0, 0.9, 0.95))]
    assert [len(tracker.update(frame).tracks) for frame in frames] == [1, 0, 1]
    assert tracker.finish()[0].faces == 2
    tracker = FaceTracker(told.pipeline([there, away, there]), every=1, patience=0.5, follower=told.Still())
    seen = [tracker.update(frame) for frame in frames]
    assert [track.id for track in seen[1].ended] == [1]
    assert [track.id for track in seen[2].tracks] == [2]


def test_a_missed_face_is_followed_on_but_not_behind_somebody(told) -> None:
    ann, ben = told.face(100, who=1), told.face(130, who=2)
    alone = FaceTracker(told.pipeline([[ann], []]), every=1, follower=told.Still())
    before = told.face(190, who=2)
    behind = FaceTracker(told.pipeline([[ann, before], [ben]]), every=1, follower=told.Still())
    frames = told.frames(2)
    assert [[track.id for track in alone.update(frame).tracks] for frame in frames] == [[1], [1]]
    assert [[track.id for track in behind.update(frame).tracks] for frame in frames] == [[1, 2], [2]]


def test_time_that_goes_back_ends_tracks_as_any_other(told) -> None:
    """A camera whose clock was set, or films one after the other."""
    pipeline = told.pipeline([[told.face(100, who=1)], [], [], []])
    tracker = FaceTracker(pipeline, every=1, patience=0.5, follower=told.Still())
    image = told.frames(1)[0].image
    seen = [tracker.update(Frame(number, time, image)) for number, time in enumerate((3600.0, 0.0, 0.4, 0.6))]
    assert [len(one.ended) for one in seen] == [0, 0, 0, 1]
    assert [one.frame.time for one in seen] == [3600.0, 0.0, 0.4, 0.6]
    (gone,) = seen[-1].ended
    assert gone.first == gone.last == (0, 3600.0)


def test_who_comes_out_from_behind_somebody_is_nobody_new(told) -> None:
    """Half hidden, with an embedding like nobody's, and then themselves again."""
    ann, half = told.face(100, who=1), told.face(200, who=3, quality=0.5)
    tracker = FaceTracker(told.pipeline([[ann], [], [half], [half], [told.face(200, who=1)]]), every=1, patience=9)
    seen = [tracker.update(frame).tracks for frame in told.frames(5, rate=5)]
    assert [[track.id for track in tracks] for tracks in seen] == [[1], [], [], [], [1]]
    stranger = FaceTracker(told.pipeline([[ann], [], *[[half]] * 8]), every=1, patience=9)
    seen = [stranger.update(frame).tracks for frame in told.frames(8, rate=5)]
    assert [[track.id for track in tracks] for tracks in seen[2:]] == [[], [], [], [], [2], [2]]


def test_a_crowd_is_embedded_in_part(told) -> None:
    crowd = [told.face(20 + 25 * place, side=20 + place) for place in range(24)]
    pipeline = told.pipeline([crowd])
    tracker = FaceTracker(pipeline, every=1, follower=told.Still())
    tracks = tracker.update(told.frames(1)[0]).tracks
    assert pipeline.embedder.batches == [16]
    assert sum(track.template is None for track in tracks) == 8
    assert min(track.face.width for track in tracks if track.template is not None) == 28


@pytest.mark.parametrize(
    ("name", "value"), [("every", 0), ("every", True), ("best", 0), ("patience", -1.0), ("metric", "manhattan")]
)
def test_wrong_settings_are_refused(told, name, value) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        FaceTracker(told.pipeline([[]]), **{name: value})
