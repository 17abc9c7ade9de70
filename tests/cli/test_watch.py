"""spherecv watch as a user meets it: events, files that are finished, one line for every failure."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
_spec = importlib.util.spec_from_file_location("cli_video_scenes", HERE.parent / "video" / "scenes.py")
scenes = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = scenes
_spec.loader.exec_module(scenes)


@pytest.fixture(scope="module")
def people(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("people")
    with tarfile.open(data_dir / "lfw-view1.tar") as archive:
        chosen = [member for member in archive if member.isfile() and "/images/Da" in member.name]
        archive.extractall(folder, members=chosen, filter="data")
    return scenes.people_of(folder / "lfw-view1" / "images", 2)


@pytest.fixture(scope="module")
def clip(people: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people side by side, for a second."""
    from spherecv.watch import VideoFile

    first, second = (scenes.read(people[name][0]) for name in list(people)[:2])
    actors = (
        scenes.Actor("first", [first], scenes.sway((110, 150), 20, size=0.8)),
        scenes.Actor("second", [second], scenes.sway((320, 150), 20, size=0.8)),
    )
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with VideoFile(path) as video:
        for frame in scenes.Scene(actors, 28, size=(300, 440)):
            video.write(frame)
    return path


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.runtime
def test_a_clip_with_references_a_log_and_a_video(run, clip: Path, people, model, tmp_path: Path) -> None:
    from spherecv.video import open_frames

    log, out = tmp_path / "log.jsonl", tmp_path / "out.mp4"
    ann, ben = (people[name] for name in list(people)[:2])
    asked = ("--reference", f"Ann={ann[1]}", "--reference", f"Ann={ann[0]}", "--threshold", 0.6, "--pace", 2)
    result = run("watch", clip, *model, *asked, "--log", log, "--out", out)
    assert result.exit_code == 0, result.output
    assert ": Ann (distance 0." in result.stdout
    assert "nobody asked about" in result.stdout
    assert "28 frames in" in result.stderr
    logged = events(log.read_text())
    assert logged[0]["event"] == "start"
    assert (logged[0]["references"], logged[0]["model"]) == (["Ann"], "mobilefacenet")
    decided = {row["state"]: row for row in logged if row["event"] == "ended"}
    assert decided["same"]["identity"] == "Ann"
    assert decided["different"]["nearest"] == "Ann"
    assert (logged[-1]["event"], logged[-1]["reason"], logged[-1]["frames"]) == ("stop", "end", 28)
    assert len(list(open_frames(out))) == 28
    known = tmp_path / "people.db"
    assert run("gallery", "enrol", known, ann[0].parent, "-i", "Ann", *model).exit_code == 0
    answer = run("watch", clip, "-g", known, *model, "--threshold", 0.6, "--pace", 2, "--frames", 12, "--json")
    assert answer.exit_code == 0, answer.output
    assert {row.get("identity") for row in events(answer.stdout) if row["event"] == "decided"} == {"Ann", None}
    assert events(answer.stdout)[-1]["reason"] == "limit"
    same = run("verify", clip, ann[0].parent, *model, "--threshold", 0.99, "--json")
    assert json.loads(same.stdout)["faces_used"]["img2"] == len(ann)
    assert run("verify", ben[0], ben[0].parent, *model, "--threshold", 0.6).exit_code == 0


def test_every_failure_is_one_line_and_exit_code_2(run, failure, clip: Path, people, model, tmp_path: Path) -> None:
    photo = next(iter(people.values()))[0]
    (tmp_path / "text.mp4").write_bytes(b"no film")
    for arguments, words in (
        ((tmp_path / "missing.mp4",), "no such file"),
        ((tmp_path / "text.mp4",), "text.mp4 is not a video"),
        (("977",), "camera 977 cannot be opened"),
        ((clip, "--out", tmp_path / "out.gif"), ".mp4"),
        ((clip, "--log", tmp_path), "cannot be written"),
        ((clip, "--every", "0"), "every"),
        ((clip, "--reference", photo), "spherecv calibrate"),
        ((clip, "--reference", photo, "--far", "0.01"), "spherecv calibrate"),
        ((clip, "--reference", photo, "--far", "0.01", "--threshold", "0.5"), "not both"),
        ((clip, "--reference", "Ann="), "NAME=SRC"),
        ((clip, "--reference", tmp_path / "missing.jpg", "--threshold", "0.5"), "missing.jpg"),
        ((clip, "--reference", photo, "--gallery", tmp_path / "g.db"), "not both"),
        ((clip, "--gallery", tmp_path / "none.db"), "no such gallery"),
        ((clip, "--rate", "-1"), "rate"),
    ):
        assert words in failure(run("watch", *arguments, *model)), arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals as elsewhere")
def test_an_interrupted_watch_finishes_its_files_and_a_killed_one_leaves_a_log(
    clip: Path, model, tmp_path: Path
) -> None:
    from spherecv.video import open_frames

    fifty = tmp_path / "fifty.mkv"  # half a minute and more, to be interrupted
    from spherecv.watch import VideoFile

    frames = [frame.image for frame in open_frames(clip)]
    with VideoFile(fifty) as video:
        for frame in frames * 50:
            video.write(frame)
    for number, kind in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGKILL)):
        log, out = tmp_path / f"{number}.jsonl", tmp_path / f"{number}.mp4"
        command = [sys.executable, "-m", "spherecv", "watch", fifty, *model, "--log", log, "--out", out]
        child = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, cwd=HERE.parents[1])
        end = time.monotonic() + 300
        while not log.exists() or log.read_text().count("\n") < 3:  # the start, and two people
            assert child.poll() is None, child.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        os.kill(child.pid, kind)
        child.communicate(timeout=300)
        logged = events(log.read_text())
        assert [row["event"] for row in logged[:3]] == ["start", "appeared", "appeared"]
        if kind == signal.SIGKILL:
            assert not out.exists()
            continue
        assert child.returncode == 130
        assert [row["event"] for row in logged[-3:]] == ["ended", "ended", "stop"]
        assert logged[-1]["reason"] == "interrupted"
        assert len(list(open_frames(out))) == logged[-1]["frames"]
