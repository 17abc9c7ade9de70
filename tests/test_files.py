from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from spherecv.errors import StorageError
from spherecv.files import atomic_path, check_writable, write_bytes


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
