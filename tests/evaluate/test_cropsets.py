"""Sets of crops: InsightFace's `.bin` and folders with the field's lists, good ones and broken ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from spherecv.errors import DatasetError
from spherecv.evaluate.cropsets import BinSet, Fitting, FolderSet, load_crop, open_set, read_crops
from spherecv.evaluate.pairfiles import read_pairs


def encoded(value: int, size: tuple[int, int] = (112, 112)) -> bytes:
    image = np.full((*size, 3), value, np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def write_bin(path: Path, values: list[int], same: list[bool], protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(([encoded(value) for value in values], same), protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_a_bin_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    file = write_bin(tmp_path / "lfw.bin", [10, 20, 20, 30, 40, 50, 40, 60], [True, True, False, False], protocol)
    found = BinSet(file, folds=2)
    assert found.name == "lfw"
    assert len(found) == 8
    assert found.pairs.same.tolist() == [True, True, False, False]
    assert found.pairs.folds.tolist() == [1, 1, 2, 2]
    assert [found.load(i)[0, 0, 0] for i in range(8)] == [10, 20, 20, 30, 40, 50, 40, 60]
    # 10, 20 and 30 are one person through the crop that two pairs share; 40 is one crop, twice.
    people = found.pairs.identities
    assert len(set(people[:4])) == 1
    assert people[4] == people[6]
    assert len(set(people.tolist())) == 4
    assert load_crop(file, "#3")[0, 0, 0] == 30


def test_pairs_that_contradict_are_noted(tmp_path: Path) -> None:
    found = BinSet(write_bin(tmp_path / "a.bin", [1, 2, 1, 2, 3, 4], [True, False, False]), folds=2)
    assert any(note.startswith("1 pairs that should not match") for note in found.pairs.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (([b"a", b"b"], [True]), "fewer than its 2 folds"),
        (([b"a", b"b", b"c"], [True, False]), "3 crops for 2 pairs"),
        (([b"a", b"b", b"c", b"d"], [True, 2]), "true or false, but one is 2"),
        (([b"a", b"b", b"c", [b"d"]], [True, False]), "must be bytes, but one is a list of 1"),
        (([b"a", b"b"], [True], []), "two lists"),
        (([], []), "0 crops for 0 pairs"),
        ([1, 2], "two lists"),
        (b"bytes", "two lists, of crops and of booleans, but holds bytes"),
    ],
)
def test_bins_that_do_not_fit(tmp_path: Path, content, message: str) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(DatasetError, match=message):
        BinSet(file, folds=2)


def test_crops_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(pickle.dumps(([encoded(1), b"no image", b"", encoded(2)], [True, False])))
    crops, failures, changes = read_crops(BinSet(file, folds=2), range(4), Fitting((112, 112)))
    assert [crop is None for crop in crops] == [False, True, True, False]
    assert sorted(failures) == [1, 2]
    assert not changes


def test_sizes_are_brought_to_the_one_wanted() -> None:
    image = np.arange(112 * 112 * 3, dtype=np.uint32).reshape(112, 112, 3).astype(np.uint8)
    crop, what = Fitting((112, 96))(image)
    np.testing.assert_array_equal(crop, image[:, 8:104])
    assert what == "the middle 96 of 112 columns taken"
    wider, what = Fitting((112, 112))(crop)  # the template of 112x112 lies 8 columns further right
    np.testing.assert_array_equal(wider[:, 8:104], crop)
    assert not wider[:, :8].any()
    assert not wider[:, 104:].any()
    assert what == "black columns added to 96, up to 112"
    crop, what = Fitting((160, 160))(image)
    assert crop.shape == (160, 160, 3)
    assert what == "resized from 112x112 to 160x160"
    assert Fitting((112, 112))(image) == (image, "")
    large = np.arange(182 * 182 * 3, dtype=np.uint32).reshape(182, 182, 3).astype(np.uint8)
    crop, what = Fitting((160, 160), middle=True)(large)
    np.testing.assert_array_equal(crop, large[11:171, 11:171])  # facenet.py, crop: 182 // 2 - 160 // 2
    assert what == "the middle 160x160 of 182x182 taken"


def test_a_folder_with_images_missing(tmp_path: Path) -> None:
    for name in ("a_1.jpg", "b_1.jpg"):
        (tmp_path / name).write_bytes(encoded(5))
    listed = tmp_path / "pairs_CALFW.txt"
    listed.write_text("a_1.jpg 3\na_2.jpg 3\na_1.jpg 0\nb_1.jpg 0\n")
    found = open_set(f"{tmp_path},{listed}", folds=2)
    assert isinstance(found, FolderSet)
    assert found.pairs.same.tolist() == [True, False]
    _, failures, _ = read_crops(found, range(len(found)), Fitting((112, 112)))
    assert list(failures) == [1]
    assert "a_2.jpg: no such file" in failures[1]
    (tmp_path / "a_1.jpg").unlink()
    (tmp_path / "b_1.jpg").unlink()
    with pytest.raises(DatasetError, match="none of the 3 images"):
        open_set(f"{tmp_path},{listed}", folds=2)


def test_a_folder_without_its_list_and_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="name its list of pairs too"):
        open_set(tmp_path)
    with pytest.raises(DatasetError, match="cannot be read"):
        open_set(tmp_path / "no.bin")


@pytest.fixture
def cfp(tmp_path: Path) -> Path:
    protocol = tmp_path / "Protocol"
    for side, kind in (("F", "frontal"), ("P", "profile")):
        lines = [f"{4 * p + i} ../Data/Images/{p + 1:03d}/{kind}/{i:02d}.jpg" for p in range(3) for i in range(1, 5)]
        (protocol).mkdir(exist_ok=True)
        (protocol / f"Pair_list_{side}.txt").write_text("\n".join(lines) + "\n")
    for kind in ("FF", "FP"):
        for fold in (1, 2):
            folder = protocol / "Split" / kind / f"{fold:02d}"
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text(f"{fold},{fold + 1}\n5,6\n")
            (folder / "diff.txt").write_text(f"{fold},5\n{fold},9\n")
    return protocol


def test_cfps_own_lists(cfp: Path) -> None:
    pairs = read_pairs(cfp / "Split" / "FP")
    rows = [(pairs.images[a], pairs.images[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert rows[:4] == [
        ("001/frontal/01.jpg", "001/profile/02.jpg"), ("002/frontal/01.jpg", "002/profile/02.jpg"),
        ("001/frontal/01.jpg", "002/profile/01.jpg"), ("001/frontal/01.jpg", "003/profile/01.jpg"),
    ]  # fmt: skip
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.folds.tolist() == [1] * 4 + [2] * 4
    both = read_pairs(cfp / "Split" / "FF")
    assert not any("profile" in name for name in both.images)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Split/FP/01/same.txt", "1;2\n", r"same.txt, line 1: expected two numbers"),
        ("Split/FP/01/same.txt", "1,99\n", r"image 99 is not in the list"),
        ("Pair_list_P.txt", "one ../x.jpg\n", r"Pair_list_P.txt, line 1: expected a number"),
    ],
)
def test_cfp_lists_that_are_broken(cfp: Path, file: str, text: str, message: str) -> None:
    (cfp / file).write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_pairs(cfp / "Split" / "FP")


def test_cfp_files_that_are_missing(cfp: Path) -> None:
    (cfp / "Split" / "FP" / "02" / "diff.txt").unlink()
    with pytest.raises(DatasetError, match=r"diff.txt cannot be read"):
        read_pairs(cfp / "Split" / "FP")
    with pytest.raises(DatasetError, match="not a protocol of CFP"):
        read_pairs(cfp)


def test_two_lines_for_each_pair(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("a_1.jpg 1\na_2.jpg 1\nb_1.jpg 0\na_1.jpg 0\n")
    assert read_pairs(file).same.tolist() == [True, False]
    file.write_text("a_1.jpg 1\na_2.jpg 2\n")
    with pytest.raises(DatasetError, match="labels 1 and 2"):
        read_pairs(file)
    file.write_text("a_1.jpg 1\na_2.jpg 1\nb_1.jpg 0\n")
    with pytest.raises(DatasetError, match="two for each pair"):
        read_pairs(file)
