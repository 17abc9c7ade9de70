from __future__ import annotations

from pathlib import Path

import pytest

from spherecv.errors import ImageError
from spherecv.images import find_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_is_walked_in_a_stable_order_without_hidden_or_foreign_files(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.PNG", "a/deep/1.jpg", "c.txt", ".hidden/3.jpg", ".4.jpg", "ä ö.webp")
    names = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert names == ["a/deep/1.jpg", "b/2.PNG", "ä ö.webp"]


def test_an_image_is_itself_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "photo", "photo.jpg")
    assert find_images(tmp_path / "photo") == [tmp_path / "photo"]
    assert find_images(str(tmp_path / "photo.jpg")) == [tmp_path / "photo.jpg"]


def test_a_list_is_read_in_its_order_with_or_without_labels(tmp_path: Path) -> None:
    listing = tmp_path / "faces.txt"
    listing.write_text("# two people\nb.jpg 1\n\nsub/with space.jpg 0\n/abs/a.jpg\nphoto 2024.jpg\n", encoding="utf-8")
    assert find_images(listing) == [
        tmp_path / "b.jpg",
        tmp_path / "sub/with space.jpg",
        Path("/abs/a.jpg"),
        tmp_path / "photo 2024.jpg",
    ]


def test_an_empty_path_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match="a path is empty"):
        find_images("")
    assert find_images(".") == [Path("a.jpg")]


def test_nothing_to_find_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file or folder"):
        find_images(tmp_path / "missing")
    with pytest.raises(ImageError, match="holds no images"):
        find_images(tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ImageError, match="list of images"):
        find_images(tmp_path / "binary.txt")
