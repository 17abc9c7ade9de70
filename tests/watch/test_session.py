from __future__ import annotations

import json
from pathlib import Path

import pytest

from spherecv.errors import StorageError
from spherecv.video import open_frames
from spherecv.watch import EventLog, FaceWatcher, VideoFile
from spherecv.watch.session import Session


@pytest.fixture
def watcher(told):
    from types import SimpleNamespace

    pipeline = told.pipeline([[told.face(100, who=1)]])
    return FaceWatcher(SimpleNamespace(pipeline=pipeline, metric="cosine"), every=2, follower=told.Still())


def kinds(path: Path) -> list[tuple]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["event"], row.get("reason")) for row in rows]


class Screen:
    """Somebody looks at so many pictures."""

    def __init__(self, patience: int) -> None:
        self.left = patience

    def show(self, image) -> bool:
        assert image.shape == (240, 640, 3)
        self.left -= 1
        return self.left > 0


def test_a_film_goes_to_the_log_the_video_and_the_window(told, watcher, tmp_path: Path) -> None:
    heard, counts = [], []
    with EventLog(tmp_path / "log.jsonl") as log, VideoFile(tmp_path / "film.avi") as video:
        session = Session(watcher, open_frames(told.frames(5)), log, video, Screen(99), heard.append)
        session.progress = lambda done, total: counts.append((done, total))
        assert session.run(about={"model": "told"})
    assert kinds(tmp_path / "log.jsonl") == [("start", None), ("appeared", None), ("ended", None), ("stop", "end")]
    assert [event.kind for event in heard] == ["start", "appeared", "ended", "stop"]
    assert heard[0].details["model"] == "told"
    assert counts == [(number, 0) for number in range(1, 6)]
    pictures = [frame.image for frame in open_frames(tmp_path / "film.avi")]
    assert len(pictures) == 5
    assert pictures[2].max() > 150  # the frames were black: a box is drawn in


@pytest.mark.parametrize(("limit", "patience", "reason", "frames"), [(3, 99, "limit", 3), (None, 2, "closed", 2)])
def test_it_ends_when_told_to(told, watcher, tmp_path: Path, limit, patience, reason, frames) -> None:
    with EventLog(tmp_path / "log.jsonl") as log:
        session = Session(watcher, open_frames(told.frames(9)), log, window=Screen(patience))
        assert session.run(limit=limit)
    assert kinds(tmp_path / "log.jsonl")[-1] == ("stop", reason)
    assert session.watched == frames


def test_whatever_ends_it_the_end_is_logged(told, watcher, tmp_path: Path) -> None:
    def until(error):
        yield from (frame.image for frame in told.frames(4))
        raise error

    for name, error, reason in (("a", KeyboardInterrupt(), "interrupted"), ("b", StorageError("full"), "failed")):
        with EventLog(tmp_path / name) as log, VideoFile(tmp_path / f"{name}.avi") as video:
            session = Session(watcher, open_frames(until(error)), log, video)
            if reason == "interrupted":
                assert not session.run()
            else:
                with pytest.raises(StorageError, match="full"):
                    session.run()
        assert kinds(tmp_path / name)[-2:] == [("ended", None), ("stop", reason)]
        assert len(list(open_frames(tmp_path / f"{name}.avi"))) == 4


@pytest.mark.parametrize("deaf", ["start", "appeared", "ended"])
def test_the_log_has_its_end_where_nobody_listens_any_more(told, watcher, tmp_path: Path, deaf) -> None:
    def listen(event) -> None:
        if gone or event.kind == deaf:
            gone.append(event)
            raise BrokenPipeError("whoever read this has gone")

    gone: list = []
    with EventLog(tmp_path / "log.jsonl") as log:
        session = Session(watcher, open_frames(told.frames(5)), log, listener=listen)
        with pytest.raises(BrokenPipeError):
            session.run()
    assert kinds(tmp_path / "log.jsonl")[-1] == ("stop", "end" if deaf == "ended" else "failed")
    assert kinds(tmp_path / "log.jsonl")[0] == ("start", None)


def test_stopped_in_the_middle_of_a_frame_it_finishes_that_frame(told, watcher, tmp_path: Path) -> None:
    with EventLog(tmp_path / "log.jsonl") as log, VideoFile(tmp_path / "film.avi") as video:
        session = Session(watcher, open_frames(told.frames(9)), log, video)
        session.listener = lambda event: session.stop() if event.kind == "appeared" else None
        assert not session.run()
    assert kinds(tmp_path / "log.jsonl")[-1] == ("stop", "interrupted")
    assert len(list(open_frames(tmp_path / "film.avi"))) == session.watched < 9


def test_dropped_frames_are_filled_in(told, watcher, tmp_path: Path) -> None:
    frames = told.frames(12)
    with VideoFile(tmp_path / "film.avi") as video:
        Session(watcher, open_frames([frames[0], frames[1], frames[5], frames[11]]), video=video).run()
    assert len(list(open_frames(tmp_path / "film.avi"))) == 12
