from __future__ import annotations

from contextlib import suppress
from pathlib import Path

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
