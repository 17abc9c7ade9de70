from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import ImageError
from spherecv.images import find_images, load_image, survey_images


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


def test_files_are_judged_by_content_and_the_others_counted(tmp_path: Path) -> None:
    for name, kind in (("a", "PNG"), ("b.upload", "JPEG"), ("c.x", "BMP"), ("d.y", "TIFF"), ("e.tga", "TGA")):
        Image.new("RGB", (8, 8)).save(tmp_path / name, kind)
    touch(tmp_path, "notes.md", "z.heic")
    found = survey_images(tmp_path)
    assert [path.name for path in found.images] == ["a", "b.upload", "c.x", "d.y", "e.tga", "z.heic"]
    assert [path.name for path in found.passed_over] == ["notes.md"]


def test_linked_folders_are_followed_once_and_loops_are_seen(tmp_path: Path) -> None:
    touch(tmp_path, "in/ann/1.jpg", "out/2.jpg")
    (tmp_path / "in/bob").symlink_to(tmp_path / "out", target_is_directory=True)
    (tmp_path / "in/bob2").symlink_to(tmp_path / "out", target_is_directory=True)
    (tmp_path / "in/aaa").symlink_to(tmp_path / "in/ann", target_is_directory=True)
    (tmp_path / "out/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    names = [path.relative_to(tmp_path / "in").as_posix() for path in find_images(tmp_path / "in")]
    assert names == ["ann/1.jpg", "bob/2.jpg"]


@pytest.mark.parametrize("kind", ["PCX", "SGI", "DDS", "QOI", "ICO", "PPM", "DIB"])
def test_images_of_rare_kinds_are_found_by_their_content(kind: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.bin", format=kind)
    (tmp_path / "notes.md").write_text("# no image")
    (tmp_path / "film.mpg").write_bytes(b"\0\0\1\xb3" + bytes(60))
    (tmp_path / "short").write_bytes(b"\n")
    found = survey_images(tmp_path)
    assert [path.name for path in found.images] == ["a.bin"]
    assert len(found.passed_over) == 3
    assert load_image(found.images[0]).shape == (64, 64, 3)
