"""Scripts for deepface, as people write them, on SphereCV: keys, types, columns, and what is refused."""

from __future__ import annotations

import base64
import contextlib
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv import FaceVerifier, SphereCVError, load_image
from spherecv.compat.deepface import DeepFace, stages
from spherecv.errors import InvalidArgumentError, NotEnoughDataError

# The default's fields as deepface 0.0.103 answers them (modules/verification.py), and the columns of `find`.
VERIFY_KEYS = [
    "verified", "distance", "threshold", "confidence", "model", "detector_backend", "similarity_metric", "facial_areas",
    "time",
]  # fmt: skip
AREA_KEYS = {"x", "y", "w", "h", "left_eye", "right_eye"}
FIND_COLUMNS = [
    "identity", "hash", "target_x", "target_y", "target_w", "target_h", "threshold", "source_x", "source_y", "source_w",
    "source_h", "distance", "confidence",
]  # fmt: skip


@pytest.fixture(scope="module")
def photos(data_dir: Path) -> Path:
    return data_dir / "deepface-pairs"


@pytest.fixture
def people(photos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "my_db"
    (folder / "Alice").mkdir(parents=True)
    for name, goal in (("img1.jpg", "Alice/img1.jpg"), ("img2.jpg", "Alice/img2.jpg"), ("img16.jpg", "bob.jpg")):
        shutil.copy(photos / name, folder / goal)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.runtime
def test_verify_answers_with_deepfaces_keys_and_types(photos: Path) -> None:
    result = DeepFace.verify(img1_path=str(photos / "img1.jpg"), img2_path=str(photos / "img2.jpg"))
    assert list(result) == VERIFY_KEYS
    assert result["verified"] is True
    assert [type(result[key]) for key in ("distance", "threshold", "confidence", "time")] == [float] * 4
    assert result["distance"] <= result["threshold"]
    assert 51 <= result["confidence"] <= 100
    assert (result["model"], result["detector_backend"], result["similarity_metric"]) == (
        "sphereface-mini", "mtcnn", "cosine",
    )  # fmt: skip
    for area in result["facial_areas"].values():
        assert set(area) == AREA_KEYS
        assert all(type(area[key]) is int for key in "xywh")
        # The person's left eye is the one on the right of the image.
        assert area["left_eye"][0] > area["right_eye"][0]
    expected = FaceVerifier().verify(photos / "img1.jpg", photos / "img2.jpg")
    assert result["distance"] == pytest.approx(expected.distance, abs=1e-5)
    assert result["threshold"] == expected.threshold


@pytest.mark.runtime
def test_different_people_have_a_confidence_below_fifty(photos: Path) -> None:
    result = DeepFace.verify(str(photos / "img1.jpg"), str(photos / "img16.jpg"))
    assert result["verified"] is False
    assert 0 <= result["confidence"] <= 49


@pytest.mark.parametrize("threshold", [0.3, 0.7, 1.2])
def test_confidence_falls_with_distance_and_parts_at_the_threshold(threshold: float) -> None:
    away = [0.0, 0.5 * threshold, threshold, threshold * 1.001, 1.5 * threshold, 2.0]
    marks = [stages.confidence(distance, threshold, "cosine") for distance in away]
    assert marks == sorted(marks, reverse=True)
    assert marks[0] == 100
    assert marks[2] == 51
    assert 48 < marks[3] <= 49
    assert marks[-1] > 0


@pytest.mark.runtime
def test_metrics_agree_about_who_is_the_same(photos: Path) -> None:
    answers = {
        metric: DeepFace.verify(photos / "img1.jpg", photos / "img2.jpg", distance_metric=metric)
        for metric in ("cosine", "euclidean_l2", "angular")
    }
    cosine, limit = answers["cosine"]["distance"], answers["cosine"]["threshold"]
    for metric, of in (("euclidean_l2", lambda d: (2 * d) ** 0.5), ("angular", lambda d: np.arccos(1 - d) / np.pi)):
        assert answers[metric]["distance"] == pytest.approx(of(cosine), abs=1e-5)
        assert answers[metric]["threshold"] == pytest.approx(of(limit))
    own = DeepFace.verify(
        photos / "img1.jpg", photos / "img2.jpg", distance_metric=lambda a, b: abs(a - b).max(), threshold=9
    )
    assert (own["verified"], own["confidence"]) == (True, 51.0)
    with pytest.raises(ValueError, match="threshold must be given"):
        DeepFace.verify(photos / "img1.jpg", photos / "img2.jpg", distance_metric=lambda a, b: 0)


@pytest.mark.runtime
def test_the_nearest_of_all_faces_counts(photos: Path) -> None:
    couple = load_image(photos / "couple.jpg")
    # One person of the couple alone against both: the pair of the same face is the nearest.
    faces = DeepFace.extract_faces(couple, normalize_face=False)
    assert len(faces) == 2
    for face in faces:
        area = face["facial_area"]
        margin = area["w"] // 2
        top, left = max(0, area["y"] - margin), max(0, area["x"] - margin)
        one = couple[top : area["y"] + area["h"] + margin, left : area["x"] + area["w"] + margin]
        result = DeepFace.verify(couple, one)
        assert result["verified"] is True
        assert abs(result["facial_areas"]["img1"]["x"] - area["x"]) <= 2


@pytest.mark.runtime
def test_represent_makes_embeddings_that_verify_takes(photos: Path) -> None:
    embedding_objs = DeepFace.represent(img_path=str(photos / "img1.jpg"))
    embedding = embedding_objs[0]["embedding"]
    assert list(embedding_objs[0]) == ["embedding", "facial_area", "face_confidence"]
    assert isinstance(embedding, list)
    assert isinstance(embedding[0], float)
    assert 0.9 < embedding_objs[0]["face_confidence"] <= 1
    result = DeepFace.verify(embedding, str(photos / "img2.jpg"))
    direct = DeepFace.verify(str(photos / "img1.jpg"), str(photos / "img2.jpg"))
    assert result["distance"] == pytest.approx(direct["distance"], abs=1e-6)
    assert result["facial_areas"]["img1"] == dict.fromkeys(AREA_KEYS)
    unit = DeepFace.represent(photos / "img1.jpg", l2_normalize=True)[0]["embedding"]
    assert np.linalg.norm(unit) == pytest.approx(1)
    nothing = [[*embedding[:-1], number] for number in (float("nan"), float("inf"), 1e300, 10**400)]
    for wrong, words in (
        (["a"], "numbers only"), ([1.0, 2.0], "256 numbers"), *((one, "NaN, infinite") for one in nothing)
    ):
        with pytest.raises(ValueError, match=words):
            DeepFace.verify(wrong, str(photos / "img2.jpg"))


@pytest.mark.runtime
def test_several_images_give_lists_of_lists(photos: Path) -> None:
    several = DeepFace.represent([str(photos / "img1.jpg"), str(photos / "couple.jpg")], return_face=True)
    assert [len(one) for one in several] == [1, 2]
    face = several[0][0]["face"]
    assert face.dtype == np.float32
    assert 0 <= face.min() < face.max() <= 1
    assert len(DeepFace.represent(str(photos / "couple.jpg"), max_faces=1)) == 1
    cut = DeepFace.extract_faces([str(photos / "img1.jpg"), str(photos / "couple.jpg")])
    assert [len(one) for one in cut] == [1, 2]


@pytest.mark.runtime
def test_extract_faces_cuts_rgb_floats_with_level_eyes(photos: Path) -> None:
    (face,) = DeepFace.extract_faces(img_path=str(photos / "img1.jpg"), detector_backend="mtcnn")
    assert list(face) == ["face", "facial_area", "confidence"]
    assert face["face"].dtype == np.float64
    assert face["face"].max() <= 1
    area = face["facial_area"]
    assert face["face"].shape == pytest.approx((area["h"], area["w"], 3), abs=2)
    image = load_image(photos / "img1.jpg")
    turned = np.ascontiguousarray(np.asarray(Image.fromarray(image).rotate(20, expand=True)))
    (upright,) = DeepFace.extract_faces(turned, color_face="bgr", normalize_face=False)
    found = DeepFace.extract_faces(np.ascontiguousarray(upright["face"]), normalize_face=False)[0]["facial_area"]
    tilt = np.degrees(
        np.arctan2(found["left_eye"][1] - found["right_eye"][1], found["left_eye"][0] - found["right_eye"][0])
    )
    assert abs(tilt) < 6
    (raw,) = DeepFace.extract_faces(str(photos / "img1.jpg"), align=False, normalize_face=False, color_face="bgr")
    x, y = raw["facial_area"]["x"], raw["facial_area"]["y"]
    cut = image[y : y + raw["face"].shape[0], x : x + raw["face"].shape[1]]
    shifts = [np.roll(cut, (down, across), (0, 1)) for down in (0, 1) for across in (0, 1)]
    assert min(np.abs(raw["face"].astype(int) - shifted).mean() for shifted in shifts) < 9
    wide = DeepFace.extract_faces(str(photos / "img1.jpg"), expand_percentage=50)[0]["face"]
    assert wide.shape[1] == pytest.approx(1.5 * face["face"].shape[1], abs=2)
    widest = DeepFace.extract_faces(str(photos / "img1.jpg"), expand_percentage=np.int64(1000))[0]["face"]
    assert max(widest.shape) <= np.hypot(*image.shape[:2]) + 1  # not sixteen times as many pixels, all of them black
    for wrong in (float("nan"), float("inf"), 10**7, "5"):
        with pytest.raises(DeepFace.UnimplementedError, match="expand_percentage"):
            DeepFace.extract_faces(str(photos / "img1.jpg"), expand_percentage=wrong)
    assert DeepFace.extract_faces(str(photos / "img1.jpg"), grayscale=True)[0]["face"].ndim == 2


@pytest.mark.runtime
def test_an_image_without_a_face(photos: Path) -> None:
    grey = np.full((200, 160, 3), 90, np.uint8)
    with pytest.raises(ValueError, match=r"img1_path: no face .*enforce_detection=False") as raised:
        DeepFace.verify(grey, str(photos / "img1.jpg"))
    assert isinstance(raised.value, SphereCVError)
    (whole,) = DeepFace.represent(grey, enforce_detection=False)
    assert whole["facial_area"] == {"x": 0, "y": 0, "w": 160, "h": 200, "left_eye": None, "right_eye": None}
    assert whole["face_confidence"] == 0
    skipped = DeepFace.verify(grey, grey, detector_backend="skip", threshold=0.5)
    assert skipped["distance"] == pytest.approx(0, abs=1e-5)
    assert skipped["detector_backend"] == "skip"
    with pytest.raises(DeepFace.ImgNotFound, match="img2_path"):
        DeepFace.verify(grey, "missing.jpg", enforce_detection=False)


def test_images_come_in_every_way_that_deepface_takes(photos: Path) -> None:
    path = photos / "img1.jpg"
    text = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    with path.open("rb") as file:
        rows = [DeepFace.represent(source)[0]["embedding"] for source in (str(path), text, file, load_image(path))]
    np.testing.assert_allclose(rows[1:], [rows[0]] * 3)


@pytest.mark.runtime
def test_find_gives_data_frames_with_deepfaces_columns(photos: Path, people: Path) -> None:
    pandas = pytest.importorskip("pandas")
    dfs = DeepFace.find(img_path=str(photos / "img1.jpg"), db_path=str(people))
    assert len(dfs) == 1
    assert isinstance(dfs[0], pandas.DataFrame)
    assert list(dfs[0].columns) == FIND_COLUMNS
    assert [Path(name).name for name in dfs[0]["identity"]] == ["img1.jpg", "img2.jpg"]
    best = dfs[0].iloc[0]
    assert best["distance"] == pytest.approx(0, abs=1e-6)
    assert best["confidence"] == 100
    assert (best["source_x"], best["source_w"]) == (best["target_x"], best["target_w"])
    everybody = DeepFace.find(str(photos / "img1.jpg"), str(people), similarity_search=True, return_type="dict")
    assert [Path(row["identity"]).name for row in everybody[0]] == ["img1.jpg", "img2.jpg", "bob.jpg"]
    assert everybody[0][-1]["confidence"] <= 49
    assert len(DeepFace.find(str(photos / "img1.jpg"), str(people), k=1, return_type="dict")[0]) == 1
    nobody = DeepFace.find(str(photos / "couple.jpg"), str(people), threshold=0.01)
    assert [list(df.columns) for df in nobody] == [FIND_COLUMNS] * 2
    assert all(df.empty for df in nobody)


@pytest.mark.runtime
def test_find_sees_what_changed_unless_told_not_to(photos: Path, people: Path) -> None:
    def names(**more: object) -> list[str]:
        rows = DeepFace.find(str(photos / "img1.jpg"), str(people), return_type="dict", **more)[0]
        return [Path(row["identity"]).name for row in rows]

    with pytest.raises(DeepFace.EmptyDatasource, match="refresh_database"):
        names(refresh_database=False)
    assert names() == ["img1.jpg", "img2.jpg"]
    (people / "Alice" / "img2.jpg").unlink()
    assert names(refresh_database=False) == ["img1.jpg", "img2.jpg"]
    assert names() == ["img1.jpg"]
    assert not list(people.rglob("*.pkl"))
    (people / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        DeepFace.find(str(photos / "img1.jpg"), str(people / "empty"))
    with pytest.raises(InvalidArgumentError, match="db_path"):
        DeepFace.find(str(photos / "img1.jpg"), None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_name": "VGG-Face"}, r"VGG-Face.*SFace, sphereface-mini"),
        ({"model_name": "Facenet512"}, "not in SphereCV"),
        ({"model_name": "yunet"}, "unknown"),
        ({"model_name": "nobody's"}, "unknown"),
        ({"detector_backend": "opencv"}, "mtcnn, fastmtcnn, retinaface, ssd, yunet, skip"),
        ({"detector_backend": "yolov8n"}, "not in SphereCV"),
        ({"distance_metric": "manhattan"}, "cosine, euclidean, euclidean_l2, angular"),
        ({"normalization": "Facenet2018"}, "recipe"),
        ({"expand_percentage": 10}, "extract_faces"),
        ({"anti_spoofing": True}, "photograph"),
    ],
)
def test_what_is_not_here_is_refused_by_name(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        DeepFace.verify("a.jpg", "b.jpg", **settings)


def test_names_that_mean_the_same_are_mapped(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stages._model("SFace") == "sface"
    assert {name: stages._detector(name) for name in ("mtcnn", "retinaface", "ssd", "yunet")} == {
        "mtcnn": "mtcnn", "retinaface": "retinaface", "ssd": "ssd", "yunet": "yunet",
    }  # fmt: skip
    assert DeepFace.verify(photos / "img1.jpg", photos / "img2.jpg", model_name="sphereface-mini")["verified"]
    with pytest.raises(SphereCVError, match="sphereface-20"):  # its files are missing here: nothing else is taken
        DeepFace.verify(photos / "img1.jpg", photos / "img2.jpg", model_name="sphereface-20", threshold=0.5)
    with pytest.raises(ValueError, match="threshold"):
        DeepFace.verify(photos / "img1.jpg", photos / "img2.jpg", align=False)
    assert DeepFace.verify(photos / "img1.jpg", photos / "img1.jpg", align=False, threshold=0.5)["verified"]
    with pytest.raises(DeepFace.UnimplementedError, match="age"):
        DeepFace.analyze("a.jpg", actions=["age"])


@pytest.mark.runtime
def test_a_database_in_one_file(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    place = str(tmp_path / "faces.db")
    where = {"database_type": "sqlite", "connection_details": place}
    with pytest.raises(DeepFace.EmptyDatasource, match="register"):
        DeepFace.search(str(photos / "img2.jpg"), **where)
    assert DeepFace.register(str(photos / "img1.jpg"), img_name="Angelina", **where) == {"inserted": 1}
    assert DeepFace.register([str(photos / "img16.jpg"), str(photos / "couple.jpg")], **where) == {"inserted": 3}
    with contextlib.closing(sqlite3.connect(place)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert DeepFace.build_index(**where) is None
    for method in ("exact", "ann"):
        (rows,) = DeepFace.search(str(photos / "img2.jpg"), search_method=method, return_type="dict", **where)
        assert rows[0]["img_name"] == "Angelina"
        assert rows[0]["search_method"] == method
        assert rows[0]["distance"] <= rows[0]["threshold"]
        (everybody,) = DeepFace.search(
            str(photos / "img2.jpg"), similarity_search=True, search_method=method, return_type="dict", **where
        )
        assert len(everybody) == 4
        assert [row["distance"] for row in everybody] == sorted(row["distance"] for row in everybody)
    for wrong in ({}, {"database_type": "mongo"}, {**where, "connection": object()}):
        with pytest.raises(ValueError, match="sqlite"):
            DeepFace.build_index(**wrong)


def test_build_index_serves_large_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    from spherecv import FaceGallery
    from spherecv.compat.deepface import database

    place = tmp_path / "large.db"
    rows = np.random.default_rng(5).standard_normal((1100, 256)).astype(np.float32)
    opened = stages.open_stages(stages.DEEPFACE_MODEL, stages.DEEPFACE_DETECTOR, True)
    with FaceGallery.open(place, model=opened.pipeline) as gallery:
        gallery.enrol_embeddings([f"p{i}" for i in range(1100)], rows)
    DeepFace.build_index(database_type="sqlite", connection_details=place)
    with database.open_database(opened, "sqlite", None, place, create=False) as gallery:
        assert gallery.build_index() == 1100
    with FaceGallery.open(tmp_path / "other.db", model=opened.pipeline) as gallery, pytest.raises(NotEnoughDataError):
        gallery.build_index()


@pytest.mark.runtime
def test_stream_writes_the_video_with_names(photos: Path, people: Path, tmp_path: Path) -> None:
    import cv2

    frames = tmp_path / "frames"
    frames.mkdir()
    face = load_image(photos / "img2.jpg")
    for number in range(6):
        cv2.imwrite(str(frames / f"{number}.png"), face)
    out = tmp_path / "out.mkv"
    with pytest.warns(UserWarning, match="names only"):
        DeepFace.stream(db_path=str(people), source=str(frames), output_path=str(out))
    video = cv2.VideoCapture(str(out))
    good, first = video.read()
    assert good
    assert first.shape == face.shape
    # A box is drawn around the face: the frame is not the photograph.
    assert np.abs(first.astype(int) - face).max() > 100


def test_importing_it_loads_neither_pandas_nor_nets() -> None:
    code = (
        "import sys; from spherecv.compat.deepface import DeepFace; "
        "print([m for m in ('pandas', 'onnxruntime', 'scipy', 'faiss', 'tensorflow', 'onnx') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
