from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from spherecv.errors import StorageError
from spherecv.zoo import ModelFile, cache, cache_dir
from spherecv.zoo.cache import mismatch

DATA = b"some weights" * 1000


@pytest.fixture
def file() -> ModelFile:
    digests = (("sha256", hashlib.sha256(DATA).hexdigest()),)
    return ModelFile(role="onnx", name="w", origin="download", urls=("https://x",), size=len(DATA), digests=digests)


@pytest.fixture
def hashings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were hashed, one entry each time."""
    done: list[Path] = []
    original = cache.digests_of

    def counted(path, algorithms):
        done.append(path)
        return original(path, algorithms)

    monkeypatch.setattr(cache, "digests_of", counted)
    return done


def test_cache_dir_is_the_variable_or_the_users(monkeypatch) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", "~/somewhere")
    assert cache_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("SPHERECV_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir().name == "spherecv"


def test_a_file_is_hashed_once(tmp_path, file, hashings) -> None:
    path = tmp_path / "w"
    path.write_bytes(DATA)
    assert [mismatch(path, file) for _ in range(3)] == ["", "", ""]
    assert len(hashings) == 1


def test_a_changed_file_is_hashed_again(tmp_path, file, hashings) -> None:
    path = tmp_path / "w"
    path.write_bytes(DATA)
    assert not mismatch(path, file)
    path.write_bytes(DATA[::-1])
    assert "has SHA256" in mismatch(path, file)
    assert "has SHA256" in mismatch(path, file)
    assert len(hashings) == 3


def test_a_file_swapped_under_the_same_size_and_times_is_seen(tmp_path, file) -> None:
    path, other = tmp_path / "w", tmp_path / "other"
    path.write_bytes(DATA)
    assert not mismatch(path, file)
    times = path.stat()
    other.write_bytes(DATA[::-1])
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    assert mismatch(path, file)


def test_another_size_needs_no_hashing(tmp_path, file, hashings) -> None:
    path = tmp_path / "w"
    path.write_bytes(DATA[:-1])
    assert mismatch(path, file) == "has 11,999 bytes, not 12,000"
    assert not hashings


def test_another_manifest_forgets_what_was_verified(tmp_path, file) -> None:
    path = tmp_path / "w"
    path.write_bytes(DATA)
    assert not mismatch(path, file)
    object.__setattr__(file, "digests", (("sha256", "0" * 64),))
    assert mismatch(path, file)


@pytest.mark.parametrize("note", [b"", b"{", b"[1]", b"\xff", b'{"size": 12000}'])
def test_a_damaged_note_is_ignored(tmp_path, file, note, hashings) -> None:
    path = tmp_path / "w"
    path.write_bytes(DATA)
    (tmp_path / ".w.verified").write_bytes(note)
    assert not mismatch(path, file)
    assert len(hashings) == 1


def test_a_read_only_cache_works_without_notes(tmp_path, file, hashings, monkeypatch) -> None:
    def refuse(*args: object) -> None:
        raise StorageError("read-only")

    path = tmp_path / "w"
    path.write_bytes(DATA)
    monkeypatch.setattr(cache, "write_bytes", refuse)
    assert [mismatch(path, file) for _ in range(2)] == ["", ""]
    assert len(hashings) == 2


def test_an_unreadable_file_is_a_storage_error(tmp_path, file) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        mismatch(tmp_path / "none", file)
