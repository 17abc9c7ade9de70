from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import ImageError
from spherecv.train.data import Augmentation, Batch, Loader, ShuffledOrder, View, from_folder, open_dataset

ALL = Augmentation(
    mirror=True,
    shift=2,
    zoom=0.1,
    rotate=5,
    light=0.2,
    colour=0.1,
    grey=0.3,
    blur=0.5,
    low_resolution=0.5,
    jpeg=0.5,
    occlusion=0.5,
)


def _loader(folder: Path, **settings: object) -> Loader:
    dataset = from_folder(folder)
    order = ShuffledOrder(len(dataset.items), 6, seed=2)
    view = settings.pop("view", View(12, 10))
    return Loader(dataset, order, view, **settings)  # type: ignore[arg-type]


def _draw(loader: Loader, count: int) -> None:
    for _ in range(count):
        loader.next()


def _equal(a: Batch, b: Batch) -> bool:
    same = [np.array_equal(getattr(a, n), getattr(b, n)) for n in ("images", "labels", "indices")]
    return all(same) and a.number == b.number and a.skipped == b.skipped


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(picture_folder: Path, workers: int) -> None:
    view = View(10, 8, random_crop=True, augmentation=ALL)
    with (
        _loader(picture_folder, workers=0, view=view) as plain,
        _loader(picture_folder, workers=workers, view=view) as many,
    ):
        for _ in range(5):
            assert _equal(plain.next(), many.next())
        plain.seek(2)
        many.seek(2)
        assert _equal(plain.next(), many.next())
        assert many.next_number == 3


def test_a_later_start_is_the_same_run(picture_folder: Path) -> None:
    with _loader(picture_folder, workers=0) as first, _loader(picture_folder, workers=0, start=3) as later:
        batches = [first.next() for _ in range(5)]
        assert _equal(batches[3], later.next())


def test_ranks_share_the_batches(picture_folder: Path) -> None:
    with _loader(picture_folder, workers=0) as alone:
        batches = [alone.next() for _ in range(6)]
    for rank in (0, 1):
        with _loader(picture_folder, workers=0, rank=rank, ranks=2) as part:
            assert all(np.array_equal(part.next().indices, batches[2 * n + rank].indices) for n in range(3))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_pictures_are_counted_then_an_error(picture_folder: Path, workers: int) -> None:
    (picture_folder / "person0" / "0.png").write_bytes(b"no picture")
    (picture_folder / "person2" / "3.png").unlink()
    (picture_folder / "person2" / "3.png").mkdir()
    dataset = from_folder(picture_folder)
    assert len(dataset.items) == 19  # a folder is no picture
    with _loader(picture_folder, workers=workers, limit=1) as loader:
        seen = sum(len(loader.next().labels) for _ in range(8))
        assert seen < 48
        assert len(loader.skipped) == 1
        assert "0.png" in next(iter(loader.skipped))
    (picture_folder / "person1" / "1.png").write_bytes(b"")
    with (
        _loader(picture_folder, workers=workers, limit=1) as loader,
        pytest.raises(ImageError, match="2 images cannot be read, more than the 1 allowed"),
    ):
        _draw(loader, 8)


def test_none_readable(picture_folder: Path) -> None:
    for file in picture_folder.rglob("*.png"):
        file.write_bytes(b"")
    with (
        _loader(picture_folder, workers=0) as loader,
        pytest.raises(ImageError, match="none of the 20 images"),
    ):
        loader.next()


def test_too_small_for_the_net(picture_folder: Path) -> None:
    with (
        _loader(picture_folder, workers=0, view=View(112, 96), limit=0) as loader,
        pytest.raises(ImageError, match="smaller than the net's 96x112"),
    ):
        loader.next()


def test_a_worker_that_died_is_an_error(picture_folder: Path) -> None:
    with _loader(picture_folder, workers=1) as loader:
        loader.next()
        loader._workers[0]._process.kill()
        with pytest.raises(ImageError, match="has ended"):
            _draw(loader, 5)


def test_what_a_library_prints_does_not_mix_with_pictures(picture_folder: Path) -> None:
    """A library in C writes to the process's output itself, whatever Python thinks that is."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from spherecv.train.data import worker\n"
        "read = worker.read_batch\n"
        "worker.read_batch = lambda *order: (os.write(1, b'a warning'), read(*order))[1]\n"
        "worker.main()"
    )
    item = list(open_dataset(picture_folder).items[0])
    head = {"view": View(12, 10).to_dict(), "items": [item], "names": ["a"]}
    order = {"indices": [0], "seed": [0, 0]}
    answer = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).resolve().parents[3])],
        input=f"{json.dumps(head)}\n{json.dumps(order)}\n".encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert answer.stdout.startswith(b'{"count": 1')
    assert answer.stderr == b"a warning"
