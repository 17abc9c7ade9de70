"""What must never happen to a gallery's file: lost faces, faces that come back, a file that does not open."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from spherecv.errors import (
    GalleryError,
    GalleryLockedError,
    GalleryMismatchError,
    SphereCVError,
    StorageError,
)
from spherecv.gallery import FaceGallery, database
from spherecv.gallery.database import Database
from spherecv.gallery.rows import Entry, ImageKey, NewFace, Origin
from spherecv.gallery.sqlite import SqliteStore

HERE = Path(__file__).resolve().parent
ORIGIN = Origin("m", "k")


def entry(number: int, size: int = 300) -> Entry:
    row = np.random.default_rng(number).standard_normal(size).astype(np.float32)
    return Entry(f"person {number}", ImageKey(f"/photos/{number}.jpg", f"{number}" * 8), (NewFace(row),))


def run_script(*arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked writers")
def test_no_kill_loses_a_face_or_brings_one_back(tmp_path: Path) -> None:
    hits = int(run_script(HERE / "killed_writer.py", tmp_path, 200))
    assert hits > 120  # the rest were killed while they made or opened the file


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked writers")
def test_kills_with_encryption(tmp_path: Path) -> None:
    assert int(run_script(HERE / "killed_writer.py", tmp_path, 12, "a key")) > 5


def fill(path: Path, bytes_at_most: int, told: multiprocessing.connection.Connection) -> None:
    """Write until the file may not grow: what the system refuses then is what a full disk refuses."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_at_most, bytes_at_most))
    store = SqliteStore(path)
    done = 0
    try:
        while True:
            store.add([entry(done)], ORIGIN)
            done += 1
    except StorageError as error:
        told.send((done, str(error)))


def test_a_full_disk_is_an_error_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    writer = context.Process(target=fill, args=(path, 4_000_000, theirs))
    writer.start()
    assert ours.poll(600)
    done, message = ours.recv()
    writer.join()
    assert "cannot be written" in message
    assert done > 10
    store = SqliteStore(path)
    assert len(store.identities()) == done
    store.add([entry(done)], ORIGIN)  # the disk has room again
    assert len(store.identities()) == done + 1


def test_a_full_database_keeps_what_it_has(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "g.db")
    store._database._raw.execute("PRAGMA max_page_count = 40")
    done = 0

    def fill_up() -> None:
        nonlocal done
        while True:
            store.add([entry(done, 1000)], ORIGIN)
            done += 1

    with pytest.raises(StorageError, match="full"):
        fill_up()
    assert 5 < done == len(store.identities())
    store.remove("person 0")
    assert len(store.identities()) == done - 1


@pytest.mark.parametrize("small", [True, False])
def test_what_is_removed_is_in_no_byte(tmp_path: Path, small: bool, monkeypatch: pytest.MonkeyPatch, numbers) -> None:
    if not small:
        monkeypatch.setattr(database, "_SMALL", 0)
    names, rows, images = numbers.crowd(300, 3)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        notes = {name: {"note": f"secret of {name} is {number}"} for number, name in enumerate(names)}
        gallery.enrol_embeddings(names, rows, images=images, metadata=notes)
        gone = []
        for person in (3, 150, 299, 7, 8, 9):
            name = names[person * 3]
            assert gallery.remove(name) == (3, 3, True)
            gone += [name.encode(), f"secret of {name} ".encode(), *(f"/{name}/".encode(),)]
            gone += [
                rows[number].tobytes()[at : at + 16] for number in range(person * 3, person * 3 + 3) for at in (0, 96)
            ]
        assert gallery.remove(names[0], images[1]) == (1, 1, True)
        gone += [images[1].encode(), rows[1].tobytes()[:16], rows[1].tobytes()[-16:]]
        gallery.rename(names[30], "somebody else")
        gone.append(f"photos/{names[30]}".encode()[7:])
        content = numbers.bytes_of(tmp_path)
        assert [value for value in gone[:-1] if value in content] == []
        assert rows[2].tobytes()[:16] in content  # the search above can find
        assert len(gallery.identities()) == 294
    assert [value for value in gone[:-1] if value in numbers.bytes_of(tmp_path)] == []


def test_a_copy_in_a_rearranged_page_is_found_and_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search itself: plant a stray copy where SQLite does not look."""
    monkeypatch.setattr(database, "_SMALL", 0)
    store = SqliteStore(tmp_path / "g.db")
    store.add([entry(number) for number in range(50)], ORIGIN)
    trace = entry(20).faces[0].vector.tobytes()
    pages = []
    execute = store._database._holds

    def watch(pieces):
        pages.append(execute(pieces))
        return pages[-1]

    monkeypatch.setattr(store._database, "_holds", watch)
    assert store._database.erase([trace])  # still there: must be found
    assert store._database.erase([b"never written at all, anywhere"])
    assert pages == [True, False]


def test_a_reader_delays_the_erasure_and_not_the_removal(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    store = SqliteStore(path, timeout=0.1)
    store.add([entry(number) for number in range(20)], ORIGIN)
    secret = entry(5).faces[0].vector.tobytes()[:32]
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM faces").fetchone()
    gone = store.remove("person 5")
    assert (gone.faces, gone.erased) == (1, False)
    assert len(store.identities()) == 19
    assert secret in numbers.bytes_of(tmp_path)
    reader.close()
    store.close()
    assert SqliteStore(path).flush()
    assert secret not in numbers.bytes_of(tmp_path)


def test_a_second_writer_waits_and_then_says_so(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    first, second = SqliteStore(path), SqliteStore(path, timeout=0.1)
    first.add([entry(0)], ORIGIN)
    with first._database.write():
        with pytest.raises(GalleryLockedError, match=r"waited 0\.1 s"):
            second.add([entry(1)], ORIGIN)
        assert [person.name for person in second.identities()] == ["person 0"]  # reading goes on
    second.add([entry(1)], ORIGIN)
    assert len(first.identities()) == 2


def write_many(path: Path, count: int) -> None:
    store = SqliteStore(path, timeout=30)
    for number in range(count):
        store.add([entry(number, 64)], ORIGIN)
        if number % 10 == 9:
            store.remove(f"person {number - 5}")


def test_readers_see_whole_states_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    store = SqliteStore(path)
    store.add([entry(10_000, 64)], ORIGIN)
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=write_many, args=(path, 150))
    writer.start()
    looks = 0
    probe = entry(10_000, 64).faces[0].vector[None]
    seen = 0
    while writer.is_alive():
        (hits,) = store.nearest(probe, 1000, "cosine", "known")
        assert hits[0].distance < 1e-6
        assert all(store.describe_people([hit.owner for hit in hits[:1]]))
        looks += 1
        seen = max(seen, len(hits))
    assert writer.exitcode == 0
    (hits,) = store.nearest(probe, 1000, "cosine", "known")
    assert len(hits) == 1 + 150 - 15
    assert looks > 3


def make(path: Path) -> None:
    SqliteStore(path, timeout=30).add([entry(os.getpid())], ORIGIN)


def test_two_processes_make_the_same_gallery_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    makers = [context.Process(target=make, args=(tmp_path / "g.db",)) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0, 0]
    assert len(SqliteStore(tmp_path / "g.db").identities()) == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_opens_the_file_for_itself(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "g.db")
    store.add([entry(0)], ORIGIN)
    child = os.fork()
    if child == 0:
        try:
            store.add([entry(1)], ORIGIN)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.add([entry(2)], ORIGIN)
    assert len(store.identities()) == 3


def test_files_that_are_no_galleries_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_bytes(b"not a database at all, but long enough to have a header" * 40)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (value)")
    connection.commit()
    connection.close()
    cut = tmp_path / "cut.db"
    store = SqliteStore(cut)
    store.add([entry(number) for number in range(200)], ORIGIN)
    store.close()
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 3])
    newer = tmp_path / "newer.db"
    SqliteStore(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = {path.name: path.read_bytes() for path in (text, other, cut)}
    for path, error, words in (
        (text, GalleryError, "is not a gallery"),
        (other, GalleryError, "another program"),
        (newer, GalleryMismatchError, "format 99"),
        (tmp_path, GalleryError, "is a folder"),
        (tmp_path / "missing.db", GalleryError, "no such gallery"),
    ):
        with pytest.raises(error, match=words):
            FaceGallery.open(path, create=False)
    with pytest.raises(GalleryError, match=r"damaged|is not a gallery"):
        SqliteStore(cut).table()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not (tmp_path / "missing.db").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        Database(tmp_path / "file" / "g.db", create=True, timeout=1)
    with pytest.raises(SphereCVError):
        FaceGallery.open("/proc/none/g.db")


ASK = """
import os, shutil, sys, warnings
from pathlib import Path
from spherecv.errors import StorageError
from spherecv.gallery import FaceGallery, Origin, sqlite
import numpy, scipy.sparse, sqlite3, tempfile
folder, with_log = Path(sys.argv[1]), sys.argv[2] == "log"
rows = numpy.eye(3, dtype=numpy.float32)
made, place = folder / "made.db", folder / "place" / "people.db"
place.parent.mkdir()
with FaceGallery.open(made, model=Origin("m", "k")) as gallery:
    gallery.enrol_embeddings(["Ann", "Ben", "Cleo"], rows)
    if with_log:  # as a backup of a gallery in use has it
        for end in ("", "-wal"):
            shutil.copy(f"{made}{end}", f"{place}{end}")
        assert Path(f"{place}-wal").stat().st_size
if not with_log:
    shutil.copy(made, place)
for path in folder.iterdir():
    path.chmod(0o755)
for path in place.parent.iterdir():
    path.chmod(0o444)
place.parent.chmod(0o555)
before = {path.name: path.read_bytes() for path in place.parent.iterdir()}
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
with FaceGallery.open(place, model=Origin("m", "k"), create=False) as gallery:
    print(gallery.identify_embeddings(rows[1:2], threshold=0.1)[0].identity, len(gallery.identities()))
    for change in (lambda: gallery.remove("Ann"), lambda: gallery.enrol_embeddings(["Dan"], rows[:1])):
        try:
            change()
        except StorageError as error:
            print("read-only" in str(error))
    print(gallery.identify_embeddings(rows[1:2], threshold=0.1)[0].identity, len(gallery.identities()))
print(before == {path.name: path.read_bytes() for path in place.parent.iterdir()})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("kind", ["plain", "log"])
def test_a_gallery_in_a_read_only_folder_can_be_asked_and_not_changed(kind: str) -> None:
    with TemporaryDirectory() as folder:  # pytest's own is closed to other users
        Path(folder).chmod(0o755)
        said = run_script("-c", ASK, folder, kind).split("\n")
        (Path(folder) / "place").chmod(0o755)
    assert [line for line in said if line] == ["Ben 3", "True", "True", "Ben 3", "True"]
