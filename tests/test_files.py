from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv import files
from spherecv.errors import DatasetError, StorageError
from spherecv.files import Part, Reading, check_writable, open_whole, read_toml, sweep_parts, write_bytes, write_toml


@pytest.fixture(params=["nameless", "named"])
def file_system(request, monkeypatch: pytest.MonkeyPatch) -> str:
    """One with files that have no name yet, and one without, as shares of a network."""
    if request.param == "named":
        monkeypatch.setattr(files, "_nameless", lambda _folder, _mode: None)
    return request.param


@pytest.mark.usefixtures("file_system")
def test_a_file_appears_whole_in_a_new_folder_with_ordinary_permissions(tmp_path: Path) -> None:
    goal = tmp_path / "new" / "ä.bin"
    write_bytes(goal, b"first")
    write_bytes(goal, b"second")
    (tmp_path / "plain").write_bytes(b"")
    assert goal.read_bytes() == b"second"
    assert os.listdir(goal.parent) == ["ä.bin"]
    assert goal.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.usefixtures("file_system")
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    goal = tmp_path / "a.bin"
    goal.write_bytes(b"old")

    def half_written() -> None:
        with open_whole(goal) as stream:
            stream.write(b"ne")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        half_written()
    assert goal.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "a.bin", b"x")


@pytest.mark.usefixtures("file_system")
def test_other_errors_pass_and_clean_up(tmp_path: Path) -> None:
    def broken() -> None:
        with open_whole(tmp_path / "a") as stream:
            stream.write(b"x")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        broken()
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for goal in (tmp_path, tmp_path / "file" / "x.png"):
        with pytest.raises(StorageError, match="cannot be written"):
            check_writable(goal)
    check_writable(tmp_path / "new" / "folder" / "x.png")
    assert not (tmp_path / "new").exists()


def test_permissions_are_those_asked_for(file_system: str, tmp_path: Path) -> None:
    with open_whole(tmp_path / "keys", mode=0o600) as stream:
        stream.write(b"x")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600


def test_a_link_stays_one_and_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    write_bytes("/dev/null", b"x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(StorageError, match="/dev/full cannot be written: No space left"):
        write_bytes("/dev/full", b"x")


KILLED = """
import os, signal, sys
from spherecv import files
if sys.argv[2] == "named":
    files._nameless = lambda _folder, _mode: None
with files.open_whole(sys.argv[1]) as stream:
    stream.write(b"half of it")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["nameless", "named"])
def test_what_a_killed_writer_leaves(tmp_path: Path, kind: str) -> None:
    goal = tmp_path / "a.bin"
    goal.write_bytes(b"old")
    subprocess.run([sys.executable, "-c", KILLED, str(goal), kind], check=False)
    assert goal.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == (["a.bin"] if kind == "nameless" else [".a.part.bin", "a.bin"])
    part = Part(goal)  # the next to write there takes it over
    assert (part.path.name, part.path.read_bytes()) == (".a.part.bin", b"")
    part.path.write_bytes(b"new")
    part.put()
    assert (goal.read_bytes(), os.listdir(tmp_path)) == (b"new", ["a.bin"])


def test_two_who_write_to_one_place_do_not_meet(tmp_path: Path) -> None:
    first, second = Part(tmp_path / "a.bin"), Part(tmp_path / "a.bin")
    assert first.path != second.path
    first.path.write_bytes(b"first")
    second.path.write_bytes(b"second")
    second.put()
    assert (tmp_path / "a.bin").read_bytes() == b"second"
    first.put()
    assert (tmp_path / "a.bin").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_many_who_replace_one_file_each_put_it_whole(file_system: str, tmp_path: Path) -> None:
    goal, faults = tmp_path / "a.bin", list[BaseException]()

    def replace(letter: bytes) -> None:
        try:
            for _ in range(60):
                write_bytes(goal, letter * 5000)
                assert len(set(goal.read_bytes())) == 1
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=replace, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert (goal.stat().st_size, os.listdir(tmp_path)) == (5000, ["a.bin"])


def test_a_name_that_a_killed_process_held_in_passing_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / ".a.part.bin").write_bytes(b"whole, and not yet in place")
    write_bytes(tmp_path / "a.bin", b"new")
    assert ((tmp_path / "a.bin").read_bytes(), os.listdir(tmp_path)) == (b"new", ["a.bin"])


def test_it_is_taken_away_where_the_place_is_empty_by_now(tmp_path: Path) -> None:
    (tmp_path / ".a.part.bin").write_bytes(b"whole, and never in place")
    write_bytes(tmp_path / "a.bin", b"new")
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.skipif(os.name != "posix", reason="tells a killed process's by its lock")
def test_what_killed_processes_left_is_swept_but_not_what_is_at_work(tmp_path: Path) -> None:
    goal = tmp_path / "a.bin"
    part = Part(goal)
    for left in (".a.part1.bin", ".a.part-0123abcd.bin"):
        (tmp_path / left).write_bytes(b"left")
    (tmp_path / ".b.part.bin").write_bytes(b"of another file")
    sweep_parts(goal)
    assert sorted(os.listdir(tmp_path)) == [".a.part.bin", ".b.part.bin"]
    part.drop()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
floats = st.floats(allow_nan=False)
values = st.one_of(texts, floats, st.integers(-(2**62), 2**62), st.booleans(), st.lists(floats), st.lists(texts))


@given(st.dictionaries(st.sampled_from("abcdefg"), st.one_of(values, st.dictionaries(st.sampled_from("xyz"), floats))))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.toml")
        write_toml(path, table, comment="from a test")
        assert read_toml(path, StorageError) == table
        assert path.read_text(encoding="utf-8").startswith("# from a test\n")


def test_none_is_left_out_and_tuples_are_arrays(tmp_path: Path) -> None:
    write_toml(tmp_path / "a.toml", {"t": ({"a": None, "b": (1, 2)},), "c": None})
    assert read_toml(tmp_path / "a.toml", StorageError) == {"t": [{"b": [1, 2]}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: No such file"), (b"a =", "is not TOML: "), (b"\xff", "is not TOML: ")],
)
def test_what_cannot_be_read_is_one_line_that_names_the_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_toml(path, DatasetError, "recipe")
    assert str(caught.value).startswith(f"recipe {path} {words}")
    assert "\n" not in str(caught.value)


def test_pages_behind_are_given_back_and_can_be_read_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("spherecv.files._RELEASED", 3 * mmap.PAGESIZE)
    content = bytes(range(256)) * (mmap.PAGESIZE // 16)
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        reading = Reading(mapped)
        for place in range(0, len(content), 1000):
            reading.reached(place)
            assert mapped[place : place + 100] == content[place : place + 100]
        assert mapped[:] == content


def test_a_hash_is_remembered_until_the_file_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    read = []
    real = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: read.append(path) or real(path))
    path = tmp_path / "net.onnx"
    path.write_bytes(b"one")
    assert {files.known_sha256(path) for _ in range(2)} == {real(path)}
    assert len(read) == 2  # just written: its times do not tell yet
    assert {files.known_sha256(path, own=True) for _ in range(3)} == {real(path)}
    assert len(read) == 3
    path.write_bytes(b"two")
    assert files.known_sha256(path, own=True) == real(path)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text("{")
    assert files.known_sha256(path, own=True) == real(path)
    monkeypatch.setattr(files, "_MOST_HASHES", 1)
    other = tmp_path / "other.onnx"
    other.write_bytes(b"three")
    files.known_sha256(other, own=True)
    assert len(list((tmp_path / "cache" / "hashes").iterdir())) == 1
