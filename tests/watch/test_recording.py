from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError, StorageError
from spherecv.video import open_frames
from spherecv.watch import VideoFile
from spherecv.watch.recording import CODECS


def shade(value: int, size=(48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


@pytest.mark.runtime
@pytest.mark.parametrize("suffix", CODECS)
def test_every_format_can_be_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"film{suffix}"
    with VideoFile(path, rate=12) as video:
        for value in (20, 120, 220):
            video.write(shade(value), times=2)
        assert not path.exists()
    found = list(open_frames(path))
    assert [float(frame.image.mean()) for frame in found] == pytest.approx([20, 20, 120, 120, 220, 220], abs=6)
    assert open_frames(path).rate == pytest.approx(12, rel=0.01)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.runtime
def test_frames_of_other_sizes_are_scaled_to_the_first(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "film.mp4") as video:
        video.write(shade(50, (47, 63)))
        video.write(shade(50, (120, 99)))
    assert [frame.image.shape for frame in open_frames(tmp_path / "film.mp4")] == [(48, 64, 3)] * 2


@pytest.mark.runtime
def test_what_was_written_is_finished_whatever_happens_next(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with suppress(KeyboardInterrupt), VideoFile(path) as video:
        video.write(shade(1))
        raise KeyboardInterrupt
    assert len(list(open_frames(path))) == 1
    before = path.read_bytes()
    with VideoFile(path):  # not a single frame: what is there stays
        pass
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_places_and_formats_that_do_not_work_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgumentError, match=r"\.mp4, .*\.webm"):
        VideoFile(tmp_path / "film.gif")
    with pytest.raises(StorageError, match="cannot be written"):
        VideoFile(tmp_path / "file" / "film.mp4")


def full_disk(path: Path, most: int) -> None:
    """Write a video where no file may grow beyond a size; in a process of its own."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    with VideoFile(path) as video:
        for number in range(150):
            video.write(np.dstack([np.roll(ramp, 3 * number, 1)] * 3))


@pytest.mark.runtime
@pytest.mark.parametrize("suffix", CODECS)
def test_a_video_that_was_not_written_whole_replaces_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    full_disk_in_a_process(path, 1 << 30)
    whole = path.read_bytes()
    assert len(list(open_frames(path))) == 150
    for share in (0.1, 0.6, 0.98):
        refused = full_disk_in_a_process(path, int(len(whole) * share))
        if share < 0.9 or refused:  # at the very end is an index that some formats can do without
            assert refused == f"{path} cannot be written"
            assert path.read_bytes() == whole
        assert len(list(open_frames(path))) == 150
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


def full_disk_in_a_process(path: Path, most: int) -> str:
    code = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from test_recording import full_disk, Path, StorageError
try:
    full_disk(Path(sys.argv[1]), int(sys.argv[2]))
except StorageError as error:
    print(str(error).partition(":")[0], end="")
"""
    command = [sys.executable, "-c", code, str(path), str(most)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_disk_that_is_full_ends_the_video_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.avi"
    path.write_bytes(b"a good one")
    free = iter([1 << 30, 0])
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=next(free)))
    with VideoFile(path) as video:
        video.write(shade(9), times=64)
        with pytest.raises(StorageError, match=r"film\.avi cannot be written: No space left"):
            video.write(shade(9))
    assert path.read_bytes() == b"a good one"
    assert [file.name for file in tmp_path.iterdir()] == ["film.avi"]
