from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import InvalidArgumentError, StorageError
from spherecv.train.data import combine, from_folder, from_list, from_tars, open_dataset
from spherecv.train.data.reading import View


def _png(value: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(target, "PNG")
    return target.getvalue()


def _tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_folder(picture_folder: Path) -> None:
    dataset = from_folder(picture_folder)
    assert (dataset.classes, len(dataset.items)) == (4, 20)
    assert dataset.names == ("person0", "person1", "person2", "person3")
    assert dataset.labels().tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5


def test_list_with_spaces_root_and_neighbours(picture_folder: Path, tmp_path: Path) -> None:
    (picture_folder / "person0" / "a b.png").write_bytes(_png(3))
    listing = tmp_path / "list.txt"
    listing.write_text("people/person0/a b.png 0\n\npeople/person1/0.png 1\n")
    beside = from_list(listing)
    assert Path(beside.items[0].path).read_bytes() == _png(3)
    listing.write_text("person0/a b.png 0\nperson1/0.png 1\n")
    rooted = from_list(listing, root=f"{picture_folder}/")
    assert Path(rooted.items[1].path).is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg", "1: expected"),
        ("a.jpg 0\nb.jpg x", "2: expected"),
        ("a.jpg 0\nb.jpg 2", "class 1 .* has no image"),
        ("a.jpg -1", "label -1 is out of range"),
        ("a.jpg --1", "1: expected"),
        ("a.jpg \u00b2", "1: expected"),
        ("a.jpg 12345678901234567890", "1: expected"),
        ("", "names no image"),
    ],
)
def test_lists_with_mistakes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match=message):
        from_list(tmp_path / "list.txt")


def test_empty_class_in_a_folder(picture_folder: Path) -> None:
    (picture_folder / "nobody").mkdir()
    with pytest.raises(InvalidArgumentError, match="nobody"):
        from_folder(picture_folder)


def test_tars_with_and_without_identities(tmp_path: Path) -> None:
    plain = _tar(tmp_path / "00.tar", {f"{n}.png": _png(n) for n in range(3)})
    more = _tar(tmp_path / "01.tar", {f"{n}.png": _png(n) for n in range(3, 5)})
    dataset = from_tars([plain, more])
    assert (dataset.classes, dataset.labels().tolist()) == (0, [-1] * 5)
    view = View(4, 4)
    rng = np.random.default_rng(0)
    assert [int(view.read(item, rng)[0, 0, 0]) for item in dataset.items] == [0, 1, 2, 3, 4]
    assert open_dataset(tmp_path) == dataset
    named = from_tars([_tar(tmp_path / "named.tar", {"b/1.png": _png(1), "a/1.png": _png(2)})])
    assert (named.names, named.labels().tolist()) == (("a", "b"), [1, 0])
    with pytest.raises(InvalidArgumentError, match="some do not"):
        from_tars([_tar(tmp_path / "mixed.tar", {"a/1.png": _png(1), "2.png": _png(1)})])


def test_tars_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(InvalidArgumentError, match="no plain tar"):
        from_tars([tmp_path / "bad.tar"])
    with pytest.raises(InvalidArgumentError, match="no images"):
        from_tars([_tar(tmp_path / "empty.tar", {"readme.txt": b""})])


def test_combining_keeps_people_apart(picture_folder: Path) -> None:
    both = combine([from_folder(picture_folder)] * 2)
    assert both.classes == 8
    assert sorted(set(both.labels().tolist())) == list(range(8))
    assert open_dataset(picture_folder, picture_folder) == both


def test_classes_chosen_and_renumbered(picture_folder: Path) -> None:
    chosen = from_folder(picture_folder).of_classes([3, 1])
    assert chosen.names == ("person3", "person1")
    assert chosen.check().labels().tolist() == [1] * 5 + [0] * 5


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such"):
        open_dataset(tmp_path / "gone")
    with pytest.raises(InvalidArgumentError, match="no folder per identity"):
        open_dataset(tmp_path)
