"""Several at one gallery at once, and what a kill or Ctrl-C leaves behind: nobody is mistaken, nobody comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import GalleryError, StorageError
from spherecv.gallery import FaceGallery, approximate, classifier, database, identify
from spherecv.gallery.database import Database
from spherecv.gallery.sqlite import SqliteStore
from spherecv.gallery.sqlite_rows import Rows


@pytest.fixture
def filled(gallery: FaceGallery, numbers):
    names, rows, images = numbers.crowd(20, 3)
    gallery.enrol_embeddings(names, rows, images=images)
    return gallery, names, rows, images


def everything(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("template", ["best", "mean"])
def test_who_goes_between_search_and_answer_is_not_named(
    filled, tmp_path: Path, numbers, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, names, rows, _ = filled
    search = identify.nearest_people
    with FaceGallery.open(tmp_path / "people.db", model=numbers.ORIGIN) as other:

        def search_and_lose(*arguments):
            found = search(*arguments)
            other.remove(names[6])
            return found

        monkeypatch.setattr("spherecv.gallery.gallery.nearest_people", search_and_lose)
        (match,) = gallery.identify_embeddings(rows[6], 5, threshold=0.01, template=template)
    assert match.identity is None
    assert names[6] not in {candidate.identity for candidate in match.candidates}
    assert len(match.candidates) == 4


def test_half_read_embeddings_are_read_again(
    tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, rows, images = numbers.crowd(60, 1)
    monkeypatch.setattr("spherecv.gallery.sqlite_rows._AT_ONCE", 16)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        batches = Rows.batches

        def interrupted(self, *arguments):
            whole = batches(self, *arguments)
            yield next(whole)
            yield next(whole)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Rows, "batches", interrupted)
            with pytest.raises(KeyboardInterrupt):
                gallery.identify_embeddings(rows[:1], threshold=0.1)
        found = gallery.identify_embeddings(rows, threshold=0.01)
    assert [match.identity for match in found] == names


def test_a_mark_set_meanwhile_stays(filled, tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removal whose process is killed before it erased: the mark must outlive the end of another's removal."""
    gallery, names, rows, _ = filled
    erase = Database.erase
    with FaceGallery.open(tmp_path / "people.db", model=numbers.ORIGIN) as other:

        def erase_and_be_overtaken(self, traces):
            done = erase(self, traces)
            with monkeypatch.context() as killed:
                killed.setattr(SqliteStore, "_erase", lambda *_: False)
                other.remove(names[6])
            return done

        with monkeypatch.context() as patch:
            patch.setattr(Database, "erase", erase_and_be_overtaken)
            gallery.remove(names[0])
    secret = rows[6].tobytes()[:24]
    assert secret in everything(tmp_path)
    FaceGallery.open(tmp_path / "people.db", model=numbers.ORIGIN).close()
    assert secret not in everything(tmp_path)


def test_what_an_earlier_removal_left_is_erased_by_writing_anew(
    filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large file only traces are looked for, and those of a removal that was cut off are not known any more."""
    monkeypatch.setattr(database, "_SMALL", 0)
    gallery, names, _, _ = filled
    raw = gallery.store._database._raw
    with monkeypatch.context() as killed:
        killed.setattr(SqliteStore, "_erase", lambda *_: False)
        gallery.remove(names[3])
    told: list[str] = []
    raw.set_trace_callback(told.append)
    gallery.remove(names[6])
    assert "VACUUM" in told
    told.clear()
    gallery.remove(names[9])
    assert "VACUUM" not in told


def test_a_classifier_of_somebody_removed_meanwhile_is_not_kept(
    filled, tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, names, rows, _ = filled
    fit = classifier.fit
    with FaceGallery.open(tmp_path / "people.db", model=numbers.ORIGIN) as other:

        def fit_slowly(*arguments, **settings):
            done = fit(*arguments, **settings)
            other.remove(names[0])
            return done

        monkeypatch.setattr(classifier, "fit", fit_slowly)
        with pytest.raises(GalleryError, match="removed from"):
            gallery.fit_classifier()
    assert names[0].encode() not in everything(tmp_path)
    with pytest.raises(GalleryError, match="no classifier"):
        gallery.classify_embeddings(rows[:1])


def test_an_export_is_of_one_state(filled, tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, names, _, _ = filled
    images = Rows.images
    with FaceGallery.open(tmp_path / "people.db", model=numbers.ORIGIN, timeout=0.1) as other:

        def lose_somebody(self, *arguments):
            with monkeypatch.context() as patch:
                patch.setattr(Rows, "images", images)
                other.remove(names[0])
            return images(self, *arguments)

        monkeypatch.setattr(Rows, "images", lose_somebody)
        assert gallery.export(tmp_path / "out.npz") == 60
    with np.load(tmp_path / "out.npz") as held:
        assert len(held["embeddings"]) == 60
    assert len(gallery.identities()) == 19


@pytest.fixture
def indexed(tmp_path: Path, numbers):
    names, rows, images = numbers.crowd(550, 2)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        gallery.build_index("ivf")
        yield gallery, names, rows


def test_a_search_and_a_removal_do_not_wait_for_each_other_for_ever(indexed) -> None:
    gallery, names, rows = indexed
    done = []

    def ask() -> None:
        for _ in range(150):
            gallery.identify_embeddings(rows[-1], threshold=0.01)
        done.append("asked")

    def forget() -> None:
        for number in range(0, 30, 2):
            gallery.remove(names[number])
        done.append("forgot")

    threads = [threading.Thread(target=work, daemon=True) for work in (ask, forget, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
    assert sorted(done) == ["asked", "asked", "forgot"]


def test_what_a_killed_build_left_behind_goes_with_a_removal(indexed, tmp_path: Path) -> None:
    gallery, names, _ = indexed
    leftover = tmp_path / ".g.db-0a1b2c3d.index"
    leftover.write_bytes((tmp_path / "g.db.index").read_bytes())
    mine = tmp_path / ".g.db-notes.index"
    mine.write_bytes(b"of somebody else")
    gallery.remove(names[0])
    assert not leftover.exists()
    assert mine.exists()


def test_leftovers_are_those_that_an_index_leaves(indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that the sweep looks for is the one that writing takes."""
    gallery, _, _ = indexed
    seen: list[str] = []
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        seen.append(self.name)
        (tmp_path / f"copy-of{self.name}").write_bytes(self.read_bytes())
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    gallery.build_index("ivf")
    (name,) = seen
    (tmp_path / f"copy-of{name}").rename(tmp_path / name)
    approximate.sweep(tmp_path / "g.db.index")
    assert not (tmp_path / name).exists()


def test_a_full_disk_keeps_nobody_in_the_gallery(indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, names, rows = indexed

    def full(*_):
        raise StorageError("no room")

    monkeypatch.setattr(approximate.FaceIndex, "save", full)
    assert gallery.remove(names[0]).erased
    assert not (tmp_path / "g.db.index").exists()
    assert gallery.identify_embeddings(rows[0], threshold=0.01)[0].identity is None


def test_a_closed_gallery_says_so(filled) -> None:
    gallery, names, rows, _ = filled
    gallery.close()
    ask, forget = lambda: gallery.identify_embeddings(rows, threshold=1), lambda: gallery.remove(names[0])
    for call in (ask, forget, gallery.identities):
        with pytest.raises(GalleryError, match="was closed"):
            call()


def test_the_process_may_go_to_another_folder(tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with FaceGallery.open("g.db", model=numbers.ORIGIN) as gallery, FaceGallery.open(":memory:", model=numbers.ORIGIN):
        os.chdir(tmp_path / "there")
        gallery.enrol_embeddings(["Ann", "Ben"], np.eye(2))
        assert gallery.remove("Ann").erased
        assert gallery.stats()["bytes"] > 0
    assert sorted(os.listdir(tmp_path / "here")) == [":memory:", "g.db"]
    assert os.listdir(tmp_path / "there") == []


OPEN_AND_CLOSE = """
import sys
from spherecv.gallery import FaceGallery, Origin
with FaceGallery.open(sys.argv[1], model=Origin("numbers", "k0-r0")) as gallery:
    print(len(gallery.identities()))
"""
ENROL_AND_DIE = """
import os, subprocess, sys
import numpy as np
from spherecv.gallery import FaceGallery, Origin
from spherecv.gallery import database
database._SMALL = 0  # a removal looks through the file
path, opens = sys.argv[1:]
gallery = FaceGallery.open(path, model=Origin("numbers", "k0-r0"))
gallery.enrol_embeddings(["a", "b"], np.ones((2, 64), np.float32), images=["a.jpg", "b.jpg"])
gallery.remove("b")
with FaceGallery.open(path, model=Origin("numbers", "k0-r0")) as second:  # the same process, the same file
    second.remove("a")
subprocess.run([sys.executable, "-c", opens, path], check=True)
gallery.enrol_embeddings(["c"], np.ones((1, 64), np.float32))
os._exit(0)  # as a kill would end it
"""


def test_a_process_that_opens_and_closes_the_gallery_leaves_the_log_of_another(tmp_path: Path) -> None:
    """SQLite's locks must outlive what is read of the file beside it."""
    path = tmp_path / "g.db"
    subprocess.run([sys.executable, "-c", ENROL_AND_DIE, str(path), OPEN_AND_CLOSE], check=True)
    done = subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n", "what was acknowledged is lost"
