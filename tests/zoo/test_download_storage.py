"""Disks that are full, read-only, without locks, or not folders: one clear error each."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from spherecv.errors import StorageError
from spherecv.zoo import download as module
from spherecv.zoo.download import download


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the disk that is always full")
def test_a_full_disk_is_one_clear_error(site, target, left_behind) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"No space left on device\): free space there, or set SPHERECV_CACHE"):
        download(site.file(lambda r: r.serve()), target)
    assert left_behind() == set()


def test_too_little_space_is_seen_before_anything_is_written(site, target, left_behind, monkeypatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(StorageError, match="has 1,000 bytes free, and 1,048,576 are needed"):
        download(site.file(lambda r: r.serve()), target)
    assert left_behind() == set()


def test_a_part_that_cannot_be_removed_ends_the_download(site, target, monkeypatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    target.parent.mkdir(parents=True)
    target.with_name("weights.bin.part").write_bytes(b"x" * 1000)
    monkeypatch.setattr(Path, "unlink", refuse)  # another user's file, in a folder with the sticky bit
    with pytest.raises(StorageError, match=r"weights.bin.part cannot be written \(Operation not permitted\)"):
        download(site.file(lambda r: r.serve()), target)


def test_a_file_system_without_locks_is_one_clear_error(site, target, monkeypatch) -> None:
    def refuse(self: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(StorageError, match="is on a file system without locks: set SPHERECV_CACHE"):
        download(site.file(lambda r: r.serve()), target)


def test_a_cache_below_a_file_is_one_clear_error(site, tmp_path) -> None:
    (tmp_path / "plain").write_text("not a folder")
    with pytest.raises(StorageError, match=r"plain.* cannot be written .*set SPHERECV_CACHE to another one"):
        download(site.file(lambda r: r.serve()), tmp_path / "plain" / "toy" / "weights.bin")
    assert not site.asked


def test_a_read_only_cache_is_one_clear_error(site, target, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # As root no folder is read-only, so the system call is made to say so.
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=r"Read-only file system\): make the folder writable, or set SPHERECV_CACHE"):
        download(site.file(lambda r: r.serve()), target)
