from __future__ import annotations

import errno
import mmap
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import DatasetError, StorageError
from spherecv.files import Reading, atomic_path, check_writable, read_toml, write_bytes, write_toml


def test_a_file_appears_whole_in_a_new_folder_with_ordinary_permissions(tmp_path: Path) -> None:
    goal = tmp_path / "new" / "ä.bin"
    write_bytes(goal, b"first")
    write_bytes(goal, b"second")
    (tmp_path / "plain").write_bytes(b"")
    assert goal.read_bytes() == b"second"
    assert os.listdir(goal.parent) == ["ä.bin"]
    assert goal.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    goal = tmp_path / "a.bin"
    goal.write_bytes(b"old")

    def half_written() -> None:
        with atomic_path(goal) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        half_written()
    assert goal.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_bytes(tmp_path / "file" / "a.bin", b"x")


def test_other_errors_pass_and_clean_up(tmp_path: Path) -> None:
    def broken() -> None:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_bytes(b"x")
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
