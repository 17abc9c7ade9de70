from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import (
    ImageError,
    InvalidArgumentError,
    MissingThresholdError,
    NoFaceError,
    SeveralFacesError,
)
from spherecv.metrics import distance
from spherecv.records import WHOLE
from spherecv.templates import SetWarning
from spherecv.thresholds import ThresholdWarning
from spherecv.verify import FaceVerifier


@pytest.fixture(scope="module")
def verifier(mobilefacenet: tuple[Path, Path]) -> FaceVerifier:
    return FaceVerifier.from_caffe(*mobilefacenet, recipe="mobilefacenet", threshold=0.6)


@pytest.fixture(scope="module")
def photos(data_dir: Path) -> Path:
    return data_dir / "deepface-pairs"


@pytest.mark.runtime
def test_known_pairs_are_told_apart(verifier: FaceVerifier, photos: Path) -> None:
    with (photos / "master.csv").open() as table:
        rows = list(csv.DictReader(table))
    pairs = [row for row in rows if row["Decision"] == "Yes"][:6] + [row for row in rows if row["Decision"] == "No"][:6]
    answers = verifier.verify_pairs([(photos / row["file_x"], photos / row["file_y"]) for row in pairs])
    right = sum(answer.verified == (row["Decision"] == "Yes") for answer, row in zip(answers, pairs, strict=True))
    assert right >= 11


@pytest.mark.runtime
def test_one_pair_answers_as_its_stages_do(verifier: FaceVerifier, photos: Path) -> None:
    result = verifier.verify(photos / "img1.jpg", photos / "img2.jpg")
    rows = []
    for name in ("img1.jpg", "img2.jpg"):
        image = np.asarray(Image.open(photos / name).convert("RGB"))[:, :, ::-1]
        faces = verifier.pipeline.detector.detect(image)
        largest = max(faces, key=lambda face: face.width * face.height)
        rows.append(verifier.pipeline.embedder.embed(verifier.pipeline.aligner.align(image, [largest]))[0])
    assert result.distance == pytest.approx(distance(*rows)[0], abs=1e-6)
    assert result.similarity == pytest.approx(1 - result.distance)
    assert (result.threshold, result.metric, result.detector) == (0.6, "cosine", "mtcnn")
    assert result.distance == pytest.approx(verifier.distance(photos / "img1.jpg", photos / "img2.jpg"))
    assert result.seconds > 0


@pytest.mark.runtime
def test_a_photo_in_many_pairs_is_embedded_once_and_errors_keep_their_places(
    verifier: FaceVerifier, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (200, 200), "white").save(tmp_path / "wall.png")
    embedded = []
    embed = verifier.pipeline.embedder.embed
    monkeypatch.setattr(verifier.pipeline.embedder, "embed", lambda crops: embedded.append(len(crops)) or embed(crops))
    first, second = photos / "img1.jpg", str(photos / "img2.jpg")
    pairs = [(first, second), (first, tmp_path / "missing.jpg"), (tmp_path / "wall.png", second), (second, first)]
    answers = verifier.verify_pairs(pairs, errors="return")
    assert sum(embedded) == 2
    assert answers[0].distance == pytest.approx(answers[3].distance)
    assert isinstance(answers[1], ImageError)
    assert isinstance(answers[2], NoFaceError)
    assert answers[0].faces[0].crop is None
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        verifier.verify_pairs(pairs)


@pytest.mark.runtime
def test_every_face_is_compared_with_every_other(verifier: FaceVerifier, photos: Path) -> None:
    matrix = verifier.verify_all(photos / "couple.jpg", photos / "couple.jpg")
    count = len(matrix.faces[0])
    assert count >= 2
    assert matrix.distances.shape == (count, count)
    np.testing.assert_allclose(np.diag(matrix.distances), 0, atol=1e-6)
    assert matrix.verified.diagonal().all()
    assert not matrix.verified[0, 1]


def test_what_has_no_face_is_never_compared(verifier: FaceVerifier, photos: Path) -> None:
    with pytest.raises(NoFaceError, match="no face found"):
        verifier.verify(photos / "img1.jpg", np.zeros((100, 100, 3), np.uint8))


def test_one_face_of_an_image_counts_not_all(verifier: FaceVerifier, photos: Path) -> None:
    for call in (verifier.verify, verifier.distance):
        with pytest.raises(InvalidArgumentError, match="verify_all"):
            call(photos / "couple.jpg", photos / "img1.jpg", face="all")
    with pytest.raises(InvalidArgumentError, match="verify_all"):
        verifier.verify_pairs([(photos / "couple.jpg", photos / "img1.jpg")], face="all")


def test_without_a_threshold_there_is_a_distance_but_no_verdict(mobilefacenet: tuple[Path, Path], photos: Path) -> None:
    verifier = FaceVerifier.from_caffe(*mobilefacenet, recipe="mobilefacenet", metric="euclidean")
    assert 0 < verifier.distance(photos / "img1.jpg", photos / "img2.jpg") < 2
    with pytest.raises(MissingThresholdError, match="spherecv calibrate"):
        verifier.verify(photos / "img1.jpg", photos / "img2.jpg")


def test_files_that_nobody_knows_need_a_recipe(mobilefacenet: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidArgumentError, match="recipe"):
        FaceVerifier.from_caffe(*mobilefacenet)
    with pytest.raises(InvalidArgumentError, match="metric"):
        FaceVerifier.from_caffe(*mobilefacenet, recipe="mobilefacenet", metric="manhattan")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"detector": 3}, "detector must be a FaceDetector or one of mtcnn, yunet, retinaface, ssd, but got 3"),
        ({"far": "0.001"}, "far must be a number within 0..1, both exclusive, but got '0.001'"),
        ({"far": float("nan")}, "far must be a number within 0..1, both exclusive, but got nan"),
        ({"far": 0}, "far must be a number within 0..1, both exclusive, but got 0"),
        ({"far": 2}, "far must be a number within 0..1, both exclusive, but got 2"),
        ({"threshold": True}, "threshold must be a distance of 0 or more, but got True"),
        ({"threshold": "0.5"}, "threshold must be a distance of 0 or more, but got '0.5'"),
        ({"threshold": float("nan")}, "threshold must be a distance of 0 or more, but got nan"),
        ({"threshold": 0.5, "far": 0.001}, "give threshold (--threshold) or far (--far), not both"),
        ({"prior": "x"}, "prior must be a number within 0..1, both exclusive, but got 'x'"),
        ({"calibration": 3}, "calibration must be a Calibration or the path of one, but got 3"),
        ({"model": 3}, "or (prototxt, caffemodel), but got 3"),
        ({"model": None}, "or (prototxt, caffemodel), but got None"),
    ],
)
def test_settings_of_the_wrong_type_or_range_say_what_was_expected_and_got(settings: dict, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        FaceVerifier(**settings)
    assert str(refused.value).endswith(text)


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        (None, "pairs must be several, in a list or another iterable, but got None"),
        (3, "pairs must be several, in a list or another iterable, but got 3"),
        ("a.jpg", "did you mean ['a.jpg']?"),
        (["ab"], "pairs[0] must be two images, but got 'ab'"),
        ([np.array(5)], "pairs[0] must be two images, but got a value of type ndarray"),
        ([("a.jpg", "b.jpg"), ("a.jpg",)], "pairs[1] must be two images, but got 1 of them"),
        ([("a.jpg", "b.jpg", "c.jpg")], "pairs[0] must be two images, but got 3 of them"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused_as_a_whole(verifier: FaceVerifier, pairs: object, text: str) -> None:
    for errors in ("raise", "return"):
        with pytest.raises(InvalidArgumentError) as refused:
            verifier.verify_pairs(pairs, errors=errors)
        assert str(refused.value).endswith(text)


def test_whole_images_are_judged_without_a_detector_and_a_threshold_measured_with_one_warns(photos: Path) -> None:
    pair = (photos / "img1.jpg", photos / "img2.jpg")
    verifier = FaceVerifier()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verifier.verify(*pair).detector == "mtcnn"
    for answer in (
        lambda: verifier.verify(*pair, face="whole", far=1e-2),
        lambda: verifier.verify_pairs([pair], face="whole")[0],
    ):
        with pytest.warns(ThresholdWarning, match="with the detector mtcnn, not on whole images as crops"):
            assert answer().detector == WHOLE
    with warnings.catch_warnings():  # the caller's own threshold is the caller's
        warnings.simplefilter("error")
        assert FaceVerifier(threshold=0.5).verify(*pair, face="whole").to_dict()["detector_backend"] == WHOLE


@pytest.mark.runtime
def test_several_faces_are_said_every_time_or_refused(verifier: FaceVerifier, photos: Path) -> None:
    couple, one = photos / "couple.jpg", photos / "img1.jpg"
    answer = verifier.verify(couple, one)
    assert (answer.faces_found, answer.face_taken) == ((2, 1), "largest")
    assert answer.notes == (f"{couple}: 2 faces found, the largest taken",)
    said = answer.to_dict()
    assert said["faces_found"] == {"img1": 2, "img2": 1}
    assert (said["face_taken"], said["notes"]) == ("largest", list(answer.notes))
    assert "the one nearest the middle taken" in verifier.verify(one, couple, face="center").notes[0]
    (batch,) = verifier.verify_pairs([(couple, one)])
    assert (batch.notes, batch.labels) == (answer.notes, (str(couple), str(one)))
    with pytest.raises(SeveralFacesError, match=r"2 faces found in .*couple\.jpg"):
        verifier.verify(couple, one, face="only")
    assert verifier.verify(one, one, face="only").faces_found == (1, 1)
    assert verifier.verify(one, one, face="whole").faces_found == (None, None)
    assert answer.threshold_source == "given by the caller"


@pytest.mark.runtime
def test_a_folder_of_several_people_is_not_taken_for_one(photos: Path, tmp_path: Path) -> None:
    verifier = FaceVerifier()
    mixed = [photos / f"img{number}.jpg" for number in (1, 2, 4, 16)] + [photos / "couple.jpg"]
    with pytest.warns(SetWarning, match=r"1 of the 5 faces is unlike the others \(img16\.jpg\)"):
        answer = verifier.verify(photos / "img5.jpg", mixed)
    assert "the 5 images given: 1 of 5 images with several faces, the largest taken" in answer.notes
    with warnings.catch_warnings():
        warnings.simplefilter("error", SetWarning)
        assert verifier.verify(photos / "img5.jpg", mixed[:3]).notes == ()
    with pytest.raises(SeveralFacesError):
        verifier.verify(photos / "img5.jpg", [photos / "couple.jpg", photos / "couple.jpg"], face="only")


@pytest.mark.runtime
def test_results_print_in_a_line_a_face(verifier: FaceVerifier, photos: Path) -> None:
    answer = verifier.verify(photos / "couple.jpg", photos / "img1.jpg")
    assert len(repr(answer.faces)) < 300
    assert "one of 2" in repr(answer.faces[0])
    assert "embedding of 128 numbers" in repr(answer.faces[0])
    assert len(repr(answer.faces[0].face)) < 200
