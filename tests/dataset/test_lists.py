from __future__ import annotations

import pytest

from spherecv.dataset.lists import PRESETS, excluded_identities, write_training_list
from spherecv.errors import DatasetError, InvalidArgumentError


@pytest.fixture
def casia(tmp_path):
    for name in ("0000045/001.jpg", "0000045/002.PNG", "0166921/001.jpg", "1056413/001.jpg", "0000099/deep/1.jpg"):
        path = tmp_path / "casia" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "casia" / "0000050").mkdir()
    (tmp_path / "casia" / ".hidden").mkdir()
    (tmp_path / "casia" / "readme.txt").touch()
    return tmp_path / "casia"


def test_paths_and_labels_as_caffe_reads_them(tmp_path, casia) -> None:
    made = write_training_list(casia, tmp_path / "train.txt", exclude=["casia-lfw"])
    assert (tmp_path / "train.txt").read_text() == (
        "casia/0000045/001.jpg 0\ncasia/0000045/002.PNG 0\ncasia/0000099/deep/1.jpg 1\n"
    )
    assert (made.images, made.identities) == (3, 2)
    assert made.excluded == ("0166921", "1056413")
    assert made.not_there == ("1193098",)


def test_the_preset_makes_10575_people_10572(tmp_path) -> None:
    folder = tmp_path / "all"
    names = [f"{i:07d}" for i in range(10_572)] + list(PRESETS["casia-lfw"])
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "1.jpg").touch()
    assert write_training_list(folder, tmp_path / "a.txt").identities == 10_575
    assert write_training_list(folder, tmp_path / "b.txt", exclude=["casia-lfw"]).identities == 10_572


def test_names_files_of_names_and_presets_are_left_out(tmp_path, casia) -> None:
    (tmp_path / "out.txt").write_text("# people\n0000099\n\n")
    wanted = excluded_identities([str(tmp_path / "out.txt"), "0000045"])
    assert wanted == {"0000099", "0000045"}
    made = write_training_list(casia, tmp_path / "t.txt", exclude=[str(tmp_path / "out.txt"), "0000045"])
    assert made.identities == 2
    with pytest.raises(InvalidArgumentError, match="list of names"):
        excluded_identities("0000045")


def test_absolute_paths_and_people_with_few_images(tmp_path, casia) -> None:
    made = write_training_list(casia, tmp_path / "t.txt", relative=False, min_images=2)
    assert made.identities == 1
    assert (tmp_path / "t.txt").read_text().startswith(str(casia / "0000045" / "001.jpg"))


def test_nothing_to_list_is_an_error_and_leaves_no_file(tmp_path, casia) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        write_training_list(tmp_path / "none", tmp_path / "t.txt")
    with pytest.raises(DatasetError, match="no identities with images"):
        write_training_list(casia / "0000045", tmp_path / "t.txt")
    assert not (tmp_path / "t.txt").exists()


def test_labels_of_further_folders_follow(tmp_path, casia) -> None:
    (tmp_path / "frames" / "0000045").mkdir(parents=True)
    (tmp_path / "frames" / "0000045" / "f.png").touch()
    made = write_training_list(casia, tmp_path / "train.txt", exclude=["casia-lfw"], mix=[tmp_path / "frames"])
    assert made.identities == 3
    assert (tmp_path / "train.txt").read_text().splitlines()[-1] == "frames/0000045/f.png 2"
    with pytest.raises(DatasetError, match="named twice"):
        write_training_list(casia, tmp_path / "t.txt", mix=[casia])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty holds no identities"):
        write_training_list(casia, tmp_path / "t.txt", mix=[tmp_path / "empty"])
    with pytest.raises(DatasetError, match="no such folder"):
        write_training_list(casia, tmp_path / "t.txt", mix=[tmp_path / "none"])
