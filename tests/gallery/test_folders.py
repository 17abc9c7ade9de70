from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from spherecv.errors import ImageError, NoFaceError
from spherecv.gallery import FaceGallery, folders


@pytest.fixture
def empty(tmp_path: Path, stages):
    with FaceGallery.open(tmp_path / "people.db", model=stages.pipeline) as gallery:
        yield gallery


def test_a_second_run_looks_at_nothing(empty: FaceGallery, stages, album: Path) -> None:
    told = []
    done = empty.enrol_folder(album, progress=lambda now, total: told.append((now, total)))
    assert (done.faces, done.images, done.unchanged) == (3, 3, 0)
    assert [type(error) for _, error in done.failures] == [NoFaceError]
    assert told[-1] == (4, 4)
    assert {person.name: person.faces for person in empty.identities()} == {"Ann": 2, "Ben": 1}
    assert stages.detector.seen == 4
    again = empty.enrol_folder(album)
    assert (again.faces, again.images, again.unchanged) == (0, 0, 4)
    assert [type(error) for _, error in again.failures] == [NoFaceError]  # said again, found out once
    assert stages.detector.seen == 4


def test_only_what_changed_is_looked_at(empty: FaceGallery, stages, album: Path, numbers) -> None:
    empty.enrol_folder(album)
    os.utime(album / "Ann" / "1.png", ns=(1, 1))  # touched, the same content
    assert empty.enrol_folder(album).unchanged == 4
    assert stages.detector.seen == 4
    numbers.paint(album / "Ann" / "2.png", numbers.colours.blue)
    numbers.paint(album / "Cleo" / "1.png", (200, 200, 10))
    numbers.paint(album / "Ben" / "wall.png", numbers.colours.green)
    done = empty.enrol_folder(album)
    assert (done.faces, done.images, done.replaced, done.unchanged, done.failures) == (3, 1, 2, 2, ())
    assert stages.detector.seen == 7
    assert empty.identify(album / "Ann" / "2.png", threshold=0.05)[0].identity == "Ann"
    assert {person.name: person.faces for person in empty.identities()} == {"Ann": 2, "Ben": 2, "Cleo": 1}


def test_an_interrupted_run_goes_on_where_it_stopped(
    empty: FaceGallery, stages, tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "AT_ONCE", 3)
    for number in range(10):
        numbers.paint(tmp_path / "album" / "Ann" / f"{number}.png", (200 + number, 10, 10))

    def stop(done: int, _total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        empty.enrol_folder(tmp_path / "album", progress=stop)
    assert empty.identities()[0].images == 6
    done = empty.enrol_folder(tmp_path / "album")
    assert (done.images, done.unchanged) == (4, 6)
    assert stages.detector.seen == 10


def test_a_moved_folder_is_held_once_when_asked(empty: FaceGallery, album: Path) -> None:
    empty.enrol_folder(album)
    empty.add_unknown(album / "Ben")
    copy = album.with_name("copy")
    shutil.copytree(album, copy)
    assert empty.enrol_folder(copy, prune=True).removed == 0  # the other one is there still
    shutil.rmtree(copy)
    moved = album.rename(album.with_name("moved"))
    kept = {image.key.path for image in empty.store.images() if image.identity is None}
    assert empty.enrol_folder(moved, prune=True).removed == 8  # of the first place, and of the copy
    paths = {image.key.path for image in empty.store.images() if image.identity}
    assert all(Path(path).is_relative_to(moved) for path in paths)
    assert {person.name: person.faces for person in empty.identities()} == {"Ann": 2, "Ben": 1}
    assert {image.key.path for image in empty.store.images() if image.identity is None} == kept


def test_files_that_are_gone_go_when_asked(empty: FaceGallery, album: Path) -> None:
    empty.enrol_folder(album)
    (album / "Ann" / "1.png").unlink()
    assert empty.enrol_folder(album).removed == 0
    assert empty.enrol_folder(album, prune=True).removed == 1
    assert {person.name: person.images for person in empty.identities()}["Ann"] == 1


def test_a_run_drops_only_what_runs_like_it_took_in(empty: FaceGallery, album: Path) -> None:
    empty.enrol_folder(album)
    empty.add_unknown(album)
    empty.enrol("Annabel", album / "Ann" / "2.png")
    assert empty.add_unknown(album, prune=True).removed == 0
    assert empty.enrol_folder(album, prune=True).removed == 0
    assert {person.name: person.images for person in empty.identities()}.keys() == {"Ann", "Annabel", "Ben"}
    (album / "Ann" / "1.png").unlink()
    assert empty.add_unknown(album, prune=True).removed == 1
    assert {person.name: person.images for person in empty.identities()}["Ann"] == 2
    assert empty.enrol_folder(album, prune=True).removed == 1


def test_folders_that_hold_nobody(empty: FaceGallery, tmp_path: Path, numbers) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ImageError, match="give the identity"):
        empty.enrol_folder(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="no such folder"):
        empty.enrol_folder(tmp_path / "missing")
    (tmp_path / "void").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        empty.enrol_folder(tmp_path / "void")
    numbers.paint(tmp_path / "flat" / "1.png", numbers.colours.red)
    with pytest.raises(ImageError, match=r"Ann/1\.jpg"):
        empty.enrol_folder(tmp_path / "flat")


def test_unknown_faces_are_found_and_grouped_but_never_named(empty: FaceGallery, album: Path, stages) -> None:
    done = empty.add_unknown(album)
    assert (done.faces, len(done.failures)) == (3, 1)
    (match,) = empty.find(album / "Ann" / "1.png", threshold=0.05)
    assert match.identity is None
    assert [Path(candidate.image).name for candidate in match.candidates] == ["1.png", "2.png"]
    assert empty.identify(album / "Ann" / "1.png", threshold=0.05)[0].candidates == ()
    assert empty.identities() == []
    empty.enrol("Ann", album / "Ann" / "1.png")  # the same photo, now with a name
    assert empty.identify(album / "Ann" / "1.png", threshold=0.05)[0].identity == "Ann"
    groups = empty.cluster(threshold=0.05)
    assert [sorted(Path(groups.faces[face][0]).name for face in group) for group in groups.groups] == [
        ["1.png", "2.png"]
    ]
    assert empty.remove(None, album / "Ann" / "1.png").faces == 1
    assert len(empty.find(album / "Ann" / "1.png", threshold=0.05)[0].candidates) == 1
