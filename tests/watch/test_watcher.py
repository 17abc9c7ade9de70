from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from spherecv.errors import GalleryMismatchError, InvalidArgumentError, SeveralFacesError
from spherecv.gallery import FaceGallery, Origin
from spherecv.templates import SetWarning
from spherecv.thresholds import Threshold
from spherecv.verify import FaceVerifier
from spherecv.video.live import Notice
from spherecv.watch import FaceWatcher, Seen

KNOWN = [Threshold(0.9, 1e-2, "told"), Threshold(0.5, 1e-3, "told"), Threshold(0.4, 1e-5, "told")]


@pytest.fixture
def knowing(told):
    """Makes a verifier that knows the thresholds above, and finds what it is told."""

    def make(faces):
        return SimpleNamespace(
            pipeline=told.pipeline(faces),
            metric="cosine",
            threshold=KNOWN[1],
            known_thresholds=KNOWN,
            threshold_at=lambda far: next(row for row in KNOWN if row.far == far),
        )

    return make


@pytest.fixture
def gallery(tmp_path):
    with FaceGallery.open(tmp_path / "people.db", model=Origin("knows", "k-r")) as opened:
        opened.enrol_embeddings(["Ann", "Cem"], np.eye(8, dtype=np.float32)[[1, 3]], images=["ann.jpg", "cem.jpg"])
        yield opened


def events_of(seen: list[Seen]) -> list[tuple]:
    return [
        (event.kind, event.frame, event.details["track"], event.details.get("state"), event.details.get("identity"))
        for one in seen
        for event in one.events
    ]


def test_people_are_announced_decided_about_and_seen_off(told, knowing, gallery) -> None:
    both = [told.face(100, who=1), told.face(400, who=2)]
    watcher = FaceWatcher(
        knowing([both]), gallery=gallery, far=1e-3, pace=2, every=2, patience=0.3, follower=told.Still()
    )
    seen = [watcher.update(frame) for frame in told.frames(12)] + [watcher.finish()]
    assert events_of(seen) == [
        ("appeared", 2, 1, None, None),
        ("decided", 2, 1, "same", "Ann"),
        ("appeared", 2, 2, None, None),
        ("decided", 6, 2, "different", None),
        ("ended", 11, 1, "same", "Ann"),
        ("ended", 11, 2, "different", None),
    ]
    first = seen[6].decisions[1]
    assert (first.state, first.identity, first.far, first.threshold) == ("same", "Ann", 1e-3, 0.4)
    told_of = next(event for one in seen for event in one.events if event.kind == "decided").to_dict()
    assert {"event", "frame", "time", "track", "identity", "distance", "threshold", "far", "best_frame"} <= set(told_of)
    assert not any("template" in name or "embedding" in name for name in told_of)
    assert watcher._evidence == {}
    assert watcher._announced == set()


def test_what_was_seen_once_is_nobody_unless_the_film_ends(told, knowing) -> None:
    flash = [[told.face(100, who=1)], [], [], [], []]
    watcher = FaceWatcher(knowing(flash), every=1, patience=0.05, follower=told.Still())
    seen = [watcher.update(frame) for frame in told.frames(4)]
    assert events_of([*seen, watcher.finish()]) == []
    watcher = FaceWatcher(knowing(flash), every=1, follower=told.Still())
    watcher.update(told.frames(1)[0])
    assert [event[0] for event in events_of([watcher.finish()])] == ["appeared", "ended"]
    assert watcher.rates is None


def test_a_gallery_of_nobody_knows_nobody(told, knowing, tmp_path) -> None:
    with FaceGallery.open(tmp_path / "empty.db", model=Origin("knows", "k-r")) as empty:
        watcher = FaceWatcher(knowing([[told.face(9, who=1)]]), gallery=empty, pace=1, every=1, follower=told.Still())
        for frame in told.frames(3):
            seen = watcher.update(frame)
    assert seen.decisions[1].state == "different"


def test_galleries_of_another_model_or_metric_are_refused(told, knowing, tmp_path) -> None:
    with FaceGallery.open(tmp_path / "other.db", model=Origin("other", "o-r")) as other:
        other.enrol_embeddings(["Ann"], np.eye(8, dtype=np.float32)[:1], images=["ann.jpg"])
        with pytest.raises(GalleryMismatchError, match="was made with other"):
            FaceWatcher(knowing([[]]), gallery=other)
    with (
        FaceGallery.open(tmp_path / "euclid.db", model=Origin("knows", "k-r"), metric="euclidean") as other,
        pytest.raises(InvalidArgumentError, match="euclidean"),
    ):
        FaceWatcher(knowing([[]]), gallery=other)


def test_wrong_settings_are_refused(told, knowing, gallery) -> None:
    for settings, words in (
        ({"references": {}, "gallery": gallery}, "not both"),
        ({"template": "median"}, "template"),
        ({"gallery": gallery, "pace": 0}, "pace"),
        ({"gallery": gallery, "far": 2.0}, "far"),
        ({"every": 0}, "every"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            FaceWatcher(knowing([[]]), **settings)


def test_a_live_source_tells_what_happened_between_frames(told, knowing) -> None:
    frames, notices = told.frames(2), [Notice("lost", "camera 0 was lost", "now"), Notice("back", "it is back", "now")]
    script = iter([(frames[0], []), (None, notices[:1]), (frames[1], notices[1:])])

    class Live:
        live, closed, label, rate, length, dropped = True, False, "camera 0", None, None, 0
        told = ()

        def wait(self, seconds):
            frame, self.told = next(script, (None, []))
            self.closed = not self.told and frame is None
            return frame

        def notices(self):
            return self.told

        def close(self):
            self.closed = True

    seen = list(FaceWatcher(knowing([[]])).watch(Live()))
    assert [(one.tracked is not None, [event.kind for event in one.events]) for one in seen] == [
        (True, []),
        (False, ["lost"]),
        (True, ["back"]),
        (False, []),
    ]


@pytest.mark.runtime
def test_references_are_found_in_a_film_of_photographs(source, pipeline, scenes, people) -> None:
    names = list(people)[:2]
    cast = [scenes.Actor(name, [scenes.read(people[name][0])], lambda t: (0, 0, 1, 0)) for name in names]
    film = scenes.crossing(*cast, length=50)
    verifier = FaceVerifier(pipeline.embedder, detector=pipeline.detector, threshold=0.6)
    watcher = FaceWatcher(verifier, references={"Ann": people[names[0]][1:]})
    ended = [event.details for seen in watcher.watch(film) for event in seen.events if event.kind == "ended"]
    assert watcher.names == ("Ann",)
    assert sorted((told["state"], told["identity"]) for told in ended) == [("different", None), ("same", "Ann")]
    assert all(told["far"] is None and told["threshold"] == 0.6 for told in ended)


def test_several_faces_on_a_reference_are_told_or_refused(scenes, verifier, people) -> None:
    first, second = (scenes.read(people[name][0]) for name in list(people)[:2])
    group = np.hstack([first, second])
    with pytest.warns(SetWarning, match="Ann: the image given: 2 faces"):
        FaceWatcher(verifier, references={"Ann": group})
    with pytest.warns(SetWarning, match="1 of 2 images with several faces"):
        FaceWatcher(verifier, references={"Ann": [first, group]})
    with pytest.raises(SeveralFacesError):
        FaceWatcher(verifier, references={"Ann": group}, face="only")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SetWarning)
        FaceWatcher(verifier, references={"Ann": first})


@pytest.mark.parametrize("references", [["ann.jpg"], "ann.jpg"])
def test_references_need_names(told, knowing, references: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r'as \{"Ann": "ann.jpg"\}, but got'):
        FaceWatcher(knowing([]), references=references)
    with pytest.raises(InvalidArgumentError, match="far must be a number"):
        FaceWatcher(knowing([]), far=float("nan"))
