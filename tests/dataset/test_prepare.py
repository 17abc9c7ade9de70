from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import spherecv.dataset.work as work_module
from spherecv.align import FaceAligner
from spherecv.dataset.prepare import JOURNAL, align_dataset
from spherecv.detect import FaceDetector
from spherecv.errors import DatasetError, ImageError, InvalidArgumentError, NoFaceError, StorageError

pytestmark = pytest.mark.runtime


@pytest.fixture(scope="module")
def photos(lfw_dir: Path, tmp_path_factory) -> Path:
    """Ten photos of LFW, one image without a face, and one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((lfw_dir / "images").rglob("*.jpg"))[:10]:
        (folder / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, folder / path.parent.name / path.name)
    (folder / "nobody").mkdir()
    cv2.imwrite(str(folder / "nobody" / "wall.png"), np.full((120, 160, 3), 200, np.uint8))
    (folder / "nobody" / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")
    return folder


@pytest.fixture(scope="module")
def aligned(photos: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("aligned")
    align_dataset(photos, out, processes=1, image_format="png")
    return out


def table(out: Path) -> list[dict[str, str]]:
    with (out / "faces.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def crops(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.png")}


def test_crops_are_those_of_the_stages_one_by_one(photos: Path, aligned: Path) -> None:
    rows = table(aligned)
    detector, aligner = FaceDetector("mtcnn", preset="sphereface"), FaceAligner("sphereface")
    fine = [row for row in rows if row["status"] == "ok"]
    assert len(fine) == 10
    for row in fine[:4]:
        image = cv2.imread(str(photos / row["path"]))
        middle = np.array([image.shape[1], image.shape[0]]) / 2
        faces = detector.detect(image)
        face = min(faces, key=lambda face: np.hypot(*(np.array(face.center) - middle)))
        crop = cv2.imread(str(aligned / row["crop"]))
        assert crop.shape == (112, 96, 3)
        np.testing.assert_array_equal(crop, aligner.align(image, [face])[0])
        assert int(row["faces"]) == len(faces)
        assert float(row["nose_x"]) == pytest.approx(float(face.landmarks[2, 0]), abs=0.01)


def test_the_table_says_what_failed_and_why(aligned: Path) -> None:
    by_name = {row["path"]: row for row in table(aligned)}
    assert by_name["nobody/wall.png"]["status"] == "no face"
    assert by_name["nobody/torn.jpg"]["status"] == "failed"
    assert "not an image" in by_name["nobody/torn.jpg"]["reason"]
    assert len(crops(aligned)) == 10
    assert not [path for path in aligned.rglob(".*") if path.name != JOURNAL]


def test_several_processes_give_the_same_bytes(photos: Path, aligned: Path, tmp_path: Path) -> None:
    summary = align_dataset(photos, tmp_path, processes=2, image_format="png")
    assert crops(tmp_path) == crops(aligned)
    assert table(tmp_path) == table(aligned)
    assert summary.counts == {"ok": 10, "no face": 1, "failed": 1}


def test_a_run_that_broke_off_goes_on(photos: Path, aligned: Path, tmp_path: Path, monkeypatch) -> None:
    real, seen = work_module.Aligning.row, []

    def stops(self, job):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(job.name)
        return real(self, job)

    monkeypatch.setattr(work_module.Aligning, "row", stops)
    with pytest.raises(KeyboardInterrupt):
        align_dataset(photos, tmp_path, processes=1, image_format="png")
    with (tmp_path / JOURNAL).open("a") as stream:
        stream.write('{"path": "torn li')
    (tmp_path / "nobody").mkdir(exist_ok=True)
    first = seen[:]
    seen.clear()
    monkeypatch.setattr(work_module.Aligning, "row", lambda self, job: seen.append(job.name) or real(self, job))
    done = []
    summary = align_dataset(
        photos, tmp_path, processes=1, image_format="png", progress=lambda at, total: done.append((at, total))
    )
    assert summary.resumed == 4
    assert not set(seen) & set(first)
    assert done[0] == (5, 12)
    assert crops(tmp_path) == crops(aligned)
    assert table(tmp_path) == table(aligned)
    gone = next(tmp_path.rglob("*.png"))
    gone.unlink()
    seen.clear()
    align_dataset(photos, tmp_path, processes=1, image_format="png")
    assert set(seen) == {"nobody/torn.jpg", gone.relative_to(tmp_path).with_suffix(".jpg").as_posix()}


def test_policies_for_images_without_a_face(photos: Path, tmp_path: Path) -> None:
    summary = align_dataset(photos / "nobody", tmp_path / "c", processes=1, no_face="center", recipe="mobilefacenet")
    assert summary.counts == {"center crop": 1, "failed": 1}
    assert cv2.imread(str(tmp_path / "c" / "wall.jpg")).shape == (112, 112, 3)
    for processes in (1, 2):
        with pytest.raises(ImageError if processes == 1 else (ImageError, NoFaceError)):
            align_dataset(photos / "nobody", tmp_path / f"f{processes}", processes=processes, no_face="fail")
    (tmp_path / "only").mkdir()
    shutil.copy(photos / "nobody" / "wall.png", tmp_path / "only")
    with pytest.raises(NoFaceError, match=r"wall\.png"):
        align_dataset(tmp_path / "only", tmp_path / "g", processes=1, no_face="fail")


def test_landmarks_of_the_authors_list_are_taken_as_they_are(photos: Path, aligned: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    row = next(row for row in table(aligned) if row["status"] == "ok")
    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    points = np.array([[float(row[f"{name}_x"]), float(row[f"{name}_y"])] for name in names]) + 1
    kind = [("file", object), ("facial5point", object)]
    rows = np.array([(f"/x/{row['path']}", points), ("/x/nobody/wall.png", np.empty(0))], dtype=kind)
    savemat(tmp_path / "dataList.mat", {"dataList": rows})
    summary = align_dataset(
        tmp_path / "dataList.mat", tmp_path / "out", images=photos, processes=1, image_format="png"
    )
    assert summary.counts == {"ok": 1, "no face": 1}
    got = cv2.imread(str(tmp_path / "out" / row["crop"])).astype(int)
    wanted = cv2.imread(str(aligned / row["crop"])).astype(int)
    assert np.abs(got - wanted).mean() < 0.5  # the table rounds to a hundredth of a pixel


def test_other_settings_or_places_that_cannot_be_are_refused(photos: Path, aligned: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="crops of other settings"):
        align_dataset(photos, aligned, processes=1, image_format="png", face="largest")
    with pytest.raises(DatasetError, match="lies in"):
        align_dataset(photos, photos / "out", processes=1)
    for changes in ({"face": "all"}, {"no_face": "guess"}, {"image_format": "gif"}, {"quality": 0}, {"processes": 0}):
        with pytest.raises(InvalidArgumentError):
            align_dataset(photos, tmp_path / "o", **changes)
    with pytest.raises(InvalidArgumentError, match=r"\.csv or \.parquet"):
        align_dataset(photos, tmp_path / "o", table=tmp_path / "t.txt")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        align_dataset(photos, tmp_path / "file" / "o", processes=1)


def test_an_error_of_a_model_crosses_from_process_to_process(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="a detector must be one of"):
        align_dataset(photos, tmp_path, detector="haar", processes=2)
