from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import DatasetError
from spherecv.evaluate.pairfiles import read_pairs
from spherecv.evaluate.pairs import find_pairs, folder_pairs


def write(tmp_path: Path, text: str, name: str = "pairs.txt") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


VIEW2 = "2\t2\n" + "".join(
    f"A{f}\t1\t2\nB{f}\t1\t3\nA{f}\t1\tB{f}\t2\nC{f}\t1\tB{f}\t{f}\n" for f in (1, 2)
)


def test_lfw_view_2_has_folds_people_and_truth(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, VIEW2))
    assert pairs.folds.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.images[pairs.first[1]] == "B1/B1_0001"
    assert pairs.images[pairs.second[1]] == "B1/B1_0003"
    assert len(np.unique(pairs.identities)) == 6
    assert (np.equal(*pairs.people.T) == pairs.same).all()


def test_lfw_view_1_has_no_folds(lfw_dir: Path) -> None:
    pairs = find_pairs(read_pairs(lfw_dir / "pairsDevTest.txt"), lfw_dir / "images")
    assert (len(pairs), int(pairs.same.sum()), set(pairs.folds)) == (1000, 500, {0})
    assert all(name.endswith(".jpg") for name in pairs.images)
    assert pairs.notes == ()


def test_deepface_pairs_join_people_by_their_genuine_pairs(data_dir: Path) -> None:
    pairs = find_pairs(read_pairs(data_dir / "deepface-pairs" / "master.csv"), data_dir / "deepface-pairs")
    assert (len(pairs), int(pairs.same.sum())) == (300, 38)
    assert (np.equal(*pairs.people.T) == pairs.same).all()
    assert "does not name people" in pairs.notes[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "x/1.jpg,x/2.jpg,1\nx/1.jpg,y/1.jpg,0\n"),
        ("a.csv", "first,second,same\nx/1.jpg,x/2.jpg,yes\nx/1.jpg,y/1.jpg,no\n"),
        ("a.csv", "label,second,first\n1,x/2.jpg,x/1.jpg\n0,y/1.jpg,x/1.jpg\n"),
        ("a.csv", "\ufefffile_x,file_y,Decision\n./x/1.jpg,x\\2.jpg,Yes\nx/1.jpg,y/1.jpg,No\n"),
        ("a.tsv", "x/1.jpg\tx/2.jpg\tsame\nx/1.jpg\ty/1.jpg\tdifferent\n"),
        ("a.txt", "# mine\nx/1.jpg x/2.jpg 1\n\nx/1.jpg y/1.jpg 0\n"),
        ("a.csv", "a,b,same,identity1,identity2,fold\nx/1.jpg,x/2.jpg,1,x,x,1\nx/1.jpg,y/1.jpg,0,x,y,2\n"),
    ],
)
def test_every_form_gives_the_same_pairs(tmp_path: Path, name: str, text: str) -> None:
    pairs = read_pairs(write(tmp_path, text, name))
    assert pairs.images == ("x/1.jpg", "x/2.jpg", "y/1.jpg")
    assert pairs.first.tolist() == [0, 0]
    assert pairs.second.tolist() == [1, 2]
    assert pairs.same.tolist() == [True, False]
    assert pairs.folds.tolist() == ([1, 2] if "fold" in text else [0, 0])


def test_the_authors_matlab_pairs(tmp_path: Path) -> None:
    from scipy.io import savemat

    kind = np.dtype([(field, object) for field in ("fileL", "fileR", "fold", "flag")])
    rows = np.array(
        [("/m/lfw/A/A_0001.jpg", "/m/lfw/A/A_0002.jpg", 1, 1), ("d/A/A_0001.jpg", "d/B/B_0001.jpg", 2, -1)],
        dtype=kind,
    )
    savemat(tmp_path / "pairs.mat", {"pairs": rows})
    pairs = read_pairs(tmp_path / "pairs.mat")
    assert pairs.images == ("A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg")
    assert pairs.same.tolist() == [True, False]
    assert pairs.folds.tolist() == [1, 2]
    savemat(tmp_path / "other.mat", {"pears": rows})
    with pytest.raises(DatasetError, match="no variable pairs"):
        read_pairs(tmp_path / "other.mat")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "no pairs"),
        ("a.txt", "2\t2\nA\t1\t2\n", "announces 8 pairs in its first line, but holds 1"),
        ("a.txt", VIEW2.replace("A1\t1\tB1\t2", "A1\t1\t3"), "fold 1 does not hold 2 matched"),
        ("a.txt", VIEW2.replace("B1\t1\t3", "B1\tone\t3"), "line 3: expected `name n n`"),
        ("a.txt", "a.jpg b.jpg\n", "line 1: expected `path path label`"),
        ("a.txt", "a.jpg a.jpg 1\n", "line 1: a.jpg is paired with itself"),
        ("a.csv", "a.jpg,b.jpg,1\nb.jpg,a.jpg,0\n", "line 2: .* but line 1 says otherwise"),
        ("a.csv", "a.jpg,b.jpg,1\nb.jpg,c.jpg,1\na.jpg,c.jpg,0\n", "line 3: .* genuine pairs of the list join them"),
        ("a.csv", "a,b,same\na.jpg,b.jpg,maybe\n", "a label must be yes or no"),
        ("a.csv", "a,b\n", "two paths and a label"),
        ("a.csv", "a,b,same,fold\na.jpg,b.jpg,1\n", "line 2: expected at least 4 columns"),
        ("a.csv", "a,b,same,fold\na.jpg,b.jpg,1,x\n", "fold must be a whole number"),
        ("a.csv", "a,b,same,identity1,identity2\na.jpg,b.jpg,1,x,y\n", "said to be the same, but names x and y"),
        ("a.mat", "no matlab", "cannot be read as a MATLAB file"),
    ],
)
def test_bad_lists_name_the_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_pairs(write(tmp_path, text, name))


def test_a_missing_list_and_binary_ones_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_pairs(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00\x01\xff")
    with pytest.raises(DatasetError, match="not a text file"):
        read_pairs(tmp_path / "b.txt")


def test_duplicates_stay_and_are_told(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, "a.jpg,b.jpg,1\nb.jpg,a.jpg,1\na.jpg,c.jpg,0\n", "a.csv"))
    assert len(pairs) == 3
    assert "1 pairs are listed more than once" in pairs.notes[0]


def test_unknown_people_and_missing_images_name_the_first(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, "A\t1\t2\nA\t1\tB\t1\n"))
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "A_0001.png").touch()
    with pytest.raises(DatasetError, match=r"2 of the 3 images .* the first is .*B \(no such folder"):
        find_pairs(pairs, tmp_path)
    (tmp_path / "B").mkdir()
    (tmp_path / "B" / "B_0001.JPG").touch()
    with pytest.raises(DatasetError, match=r"1 of the 3 images .* the first is .*A_0002"):
        find_pairs(pairs, tmp_path)
    (tmp_path / "A" / "A_0002.jpg").touch()
    assert find_pairs(pairs, tmp_path).images == ("A/A_0001.png", "A/A_0002.jpg", "B/B_0001.JPG")
    with pytest.raises(DatasetError, match="no such folder of images"):
        find_pairs(pairs, tmp_path / "none")


def test_folds_by_size_and_pairs_without_some_images(tmp_path: Path) -> None:
    text = "".join(f"a{i}.jpg,b{i}.jpg,{i % 2}\n" for i in range(6))
    pairs = read_pairs(write(tmp_path, text, "a.csv"), fold_size=2)
    assert pairs.folds.tolist() == [1, 1, 2, 2, 3, 3]
    fewer = pairs.without(["a0.jpg", "b5.jpg"])
    assert fewer.folds.tolist() == [1, 2, 2, 3]
    assert fewer.images == pairs.images


def test_a_labelled_folder_lists_its_people(tmp_path: Path) -> None:
    for name in ("x/1.jpg", "x/deep/2.jpg", "y/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images, identities, names = folder_pairs(tmp_path)
    assert images == ("x/1.jpg", "x/deep/2.jpg", "y/1.jpg")
    assert identities.tolist() == [0, 0, 1]
    assert names == ("x", "y")
    (tmp_path / "loose.jpg").touch()
    with pytest.raises(DatasetError, match=r"loose\.jpg lies in no person's folder"):
        folder_pairs(tmp_path)
    (tmp_path / "one" / "x").mkdir(parents=True)
    (tmp_path / "one" / "x" / "1.jpg").touch()
    with pytest.raises(DatasetError, match="holds 1 identity"):
        folder_pairs(tmp_path / "one")
    (tmp_path / "pairs.txt").write_text("x/1.jpg\ty/1.jpg\n")
    with pytest.raises(DatasetError, match=r"pairs\.txt is a file: name a folder"):
        folder_pairs(tmp_path / "pairs.txt")
