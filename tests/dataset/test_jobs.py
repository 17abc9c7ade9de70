from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from spherecv.dataset.jobs import jobs_of
from spherecv.errors import DatasetError, ImageError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_keeps_its_tree_and_gives_every_crop_a_name_of_its_own(tmp_path) -> None:
    touch(tmp_path, "a/1.jpg", "a/1.png", "a/deep/er/2.JPEG", "b/3.webp", "b/notes.txt")
    jobs = jobs_of(tmp_path, ".jpg", None)
    assert [(job.name, job.crop) for job in jobs] == [
        ("a/1.jpg", "a/1.jpg"),
        ("a/1.png", "a/1.png.jpg"),
        ("a/deep/er/2.JPEG", "a/deep/er/2.jpg"),
        ("b/3.webp", "b/3.jpg"),
    ]


def test_a_list_and_one_image(tmp_path) -> None:
    touch(tmp_path, "x/1.jpg", "y/1.jpg")
    (tmp_path / "list.txt").write_text("x/1.jpg 0\ny/1.jpg 1\n")
    assert [job.crop for job in jobs_of(tmp_path / "list.txt", ".png", None)] == ["x/1.png", "y/1.png"]
    (job,) = jobs_of(tmp_path / "x" / "1.jpg", ".png", None)
    assert (job.name, job.crop) == ("1.jpg", "1.png")
    (tmp_path / "twice.txt").write_text("x/1.jpg\nx/1.jpg\nx/1.jpg\n")
    with pytest.raises(DatasetError, match="listed twice"):
        jobs_of(tmp_path / "twice.txt", ".jpg", None)
    with pytest.raises(ImageError, match="no such file"):
        jobs_of(tmp_path / "none", ".jpg", None)


@pytest.mark.parametrize("field", ["file", "fileName"])
def test_the_authors_list_brings_its_landmarks_counted_from_1(tmp_path, field) -> None:
    points = np.arange(10.0).reshape(2, 5).T + 1
    rows = np.array(
        [("/data/lfw/A/A_0001.jpg", "lfw", points), ("C:\\lfw\\B\\B_0001.jpg", "lfw", np.empty((0, 0)))],
        dtype=[(field, object), ("dataset", object), ("facial5point", object)],
    )
    savemat(tmp_path / "dataList.mat", {"dataList": rows})
    first, second = jobs_of(tmp_path / "dataList.mat", ".jpg", tmp_path / "photos")
    assert first.path == tmp_path / "photos" / "A" / "A_0001.jpg"
    np.testing.assert_allclose(first.landmarks, points - 1)
    assert (second.name, second.landmarks, second.known) == ("B/B_0001.jpg", None, True)


def test_a_list_without_points_is_refused(tmp_path) -> None:
    rows = np.array([("a/b.jpg", np.ones((4, 2)))], dtype=[("file", object), ("facial5point", object)])
    savemat(tmp_path / "dataList.mat", {"dataList": rows})
    with pytest.raises(DatasetError, match="must be 5x2, but is"):
        jobs_of(tmp_path / "dataList.mat", ".jpg", None)
    savemat(tmp_path / "dataList.mat", {"dataList": np.array([("a/b.jpg",)], dtype=[("file", object)])})
    with pytest.raises(DatasetError, match="has no facial5point"):
        jobs_of(tmp_path / "dataList.mat", ".jpg", None)
