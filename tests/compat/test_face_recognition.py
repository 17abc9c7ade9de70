from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv import FaceVerifier
from spherecv.compat import face_recognition
from spherecv.errors import InvalidArgumentError


@pytest.fixture
def photos(data_dir: Path, mobilefacenet: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(face_recognition, "_engine", None)
    face_recognition.use(FaceVerifier.from_caffe(*mobilefacenet, recipe="mobilefacenet", threshold=0.6))
    return data_dir / "deepface-pairs"


@pytest.mark.runtime
def test_code_for_face_recognition_runs_unchanged(photos: Path) -> None:
    # The example of that package's README, with other names for the files.
    picture_of_me = face_recognition.load_image_file(str(photos / "img1.jpg"))
    my_face_encoding = face_recognition.face_encodings(picture_of_me)[0]
    unknown_picture = face_recognition.load_image_file(str(photos / "img2.jpg"))
    unknown_face_encoding = face_recognition.face_encodings(unknown_picture)[0]
    results = face_recognition.compare_faces([my_face_encoding], unknown_face_encoding)
    assert results == [True]
    stranger = face_recognition.face_encodings(face_recognition.load_image_file(str(photos / "img16.jpg")))[0]
    assert face_recognition.compare_faces([my_face_encoding, unknown_face_encoding], stranger) == [False, False]


@pytest.mark.runtime
def test_a_distance_of_0_6_is_the_threshold(photos: Path, mobilefacenet: tuple[Path, Path]) -> None:
    verifier = FaceVerifier.from_caffe(*mobilefacenet, recipe="mobilefacenet")
    names = ("img1.jpg", "img4.jpg", "img16.jpg")
    first, *others = (
        face_recognition.face_encodings(face_recognition.load_image_file(str(photos / n)))[0] for n in names
    )
    for name, other in zip(names[1:], others, strict=True):
        ours = face_recognition.face_distance([first], other)[0]
        cosine = verifier.distance(photos / "img1.jpg", photos / name)
        assert ours == pytest.approx(0.6 * np.sqrt(cosine / 0.6), rel=1e-4)


@pytest.mark.runtime
def test_locations_are_top_right_bottom_left_of_an_rgb_image(photos: Path) -> None:
    image = face_recognition.load_image_file(str(photos / "couple.jpg"))
    locations = face_recognition.face_locations(image)
    assert len(locations) == 2
    for top, right, bottom, left in locations:
        assert 0 <= top < bottom <= image.shape[0]
        assert 0 <= left < right <= image.shape[1]
    everybody = face_recognition.face_encodings(image)
    named = face_recognition.face_encodings(image, known_face_locations=locations[::-1])
    np.testing.assert_allclose(named[::-1], everybody)
    # A loose box of another detector means the same face.
    top, right, bottom, left = locations[0]
    (loose,) = face_recognition.face_encodings(image, [(top - 40, right + 60, bottom + 50, left - 30)])
    assert face_recognition.face_distance([everybody[0]], loose)[0] < 0.05


def test_no_face_and_wrong_arguments(photos: Path) -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    assert face_recognition.face_locations(grey) == []
    assert face_recognition.face_encodings(grey) == []
    assert len(face_recognition.face_encodings(grey, [(20, 180, 180, 20)])) == 1  # as asked: that box
    assert face_recognition.face_distance([], np.ones(3)).shape == (0,)
    assert face_recognition.compare_faces([], np.ones(3)) == []
    assert face_recognition.load_image_file(str(photos / "img1.jpg"), mode="L").ndim == 2
    for call, words in (
        (lambda: face_recognition.face_locations(grey, model="svm"), "hog, cnn"),
        (lambda: face_recognition.face_locations(grey, -1), "whole number from 0"),
        (lambda: face_recognition.face_encodings(grey, [(1, 2, 3)]), "top, right, bottom, left"),
        (lambda: face_recognition.face_encodings(grey, [(300, 400, 400, 300)]), "outside"),
        (lambda: face_recognition.face_distance(np.ones((2, 3)), np.ones(4)), "equal sizes"),
        (lambda: face_recognition.load_image_file("x", mode="CMYK"), "RGB"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            call()


@pytest.mark.parametrize(
    "locations", [(0, 9, 9, 0), ["abcd"], [None], [(np.nan, 1, 2, 3)], [(0, np.inf, 5, 0)], [5], 5, np.array(5)]
)
def test_what_is_no_list_of_locations_is_refused(locations: object) -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    for call in (face_recognition.face_encodings, face_recognition.face_landmarks):
        with pytest.raises(InvalidArgumentError, match="location"):
            call(grey, locations)


def test_locations_and_images_come_in_any_iterable() -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    box = (20, 180, 180, 20)
    (wanted,) = face_recognition.face_encodings(grey, [box])
    for locations in (iter([box]), np.array([box]), [np.array(box, np.float32)]):
        np.testing.assert_array_equal(face_recognition.face_encodings(grey, locations)[0], wanted)
    assert face_recognition.batch_face_locations(image for image in (grey, grey)) == [[], []]


@pytest.mark.parametrize("wrong", [None, "abc", 5, {"a": [1.0]}, [[1.0, 2.0], [1.0]], [[np.nan, 1.0]], [10**400]])
def test_what_is_no_encoding_is_refused(wrong: object) -> None:
    for sides in ((wrong, [1.0, 2.0]), ([[1.0, 2.0]], wrong)):
        with pytest.raises(InvalidArgumentError, match="encodings must"):
            face_recognition.compare_faces(*sides)


@pytest.mark.parametrize("wrong", [None, "0.6", np.nan, -1])
def test_tolerances_counts_and_batches_are_checked(wrong: object) -> None:
    with pytest.raises(InvalidArgumentError, match="tolerance"):
        face_recognition.compare_faces([[1.0]], [1.0], tolerance=wrong)
    with pytest.raises(InvalidArgumentError, match="whole number"):
        face_recognition.face_locations(np.zeros((9, 9, 3), np.uint8), wrong)
    with pytest.raises(InvalidArgumentError, match="images must be several"):
        face_recognition.batch_face_locations(wrong)


@pytest.mark.runtime
def test_jitters_make_the_mean_of_several_crops_and_the_same_one_each_time(photos: Path) -> None:
    image = face_recognition.load_image_file(str(photos / "img1.jpg"))
    (plain,), (first,), (second,) = (
        face_recognition.face_encodings(image, num_jitters=count) for count in (1, 5, 5)
    )
    np.testing.assert_array_equal(first, second)
    away = face_recognition.face_distance([plain], first)[0]
    assert 1e-3 < away < 0.3
    with pytest.raises(InvalidArgumentError, match="num_jitters"):
        face_recognition.face_encodings(image, num_jitters=0)


def _command(module: str, *words: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", f"spherecv.compat.{module}", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_face_detection_prints_a_line_for_each_face(data_dir: Path) -> None:
    couple = data_dir / "deepface-pairs" / "couple.jpg"
    ran = _command("face_recognition.face_detection", couple, "--cpus", "2", "--model", "cnn")
    assert ran.returncode == 0, ran.stderr
    rows = [line.rsplit(",", 4) for line in ran.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(couple)] * 2
    for top, right, bottom, left in (map(int, row[1:]) for row in rows):
        assert (top < bottom, left < right) == (True, True)
    missing = _command("face_recognition.face_detection", "missing.jpg")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)


def test_face_recognition_names_the_people_of_a_folder(data_dir: Path, tmp_path: Path) -> None:
    known, asked = tmp_path / "known", tmp_path / "asked"
    for folder, names in ((known, {"Angelina": "img1.jpg"}), (asked, {"a": "img2.jpg", "b": "img16.jpg"})):
        folder.mkdir()
        for name, file in names.items():
            shutil.copy(data_dir / "deepface-pairs" / file, folder / f"{name}.jpg")
    Image.new("RGB", (90, 90)).save(asked / "c.png")
    ran = _command("face_recognition", known, asked)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        f"{asked}/a.jpg,Angelina", f"{asked}/b.jpg,unknown_person", f"{asked}/c.png,no_persons_found",
    ]  # fmt: skip
    shown = _command("face_recognition", known, asked / "a.jpg", "--show-distance", "true", "--tolerance", "0.7")
    name, distance = shown.stdout.strip().split(",")[1:]
    assert name == "Angelina"
    assert 0 < float(distance) <= 0.7
