from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from spherecv.errors import ImageError, InvalidArgumentError, NoFaceError, SphereCVError
from spherecv.pipeline import FacePipeline, choose_faces
from spherecv.records import Face
from spherecv.zoo import get_recipe

LANDMARKS = np.array([[30, 50], [65, 50], [48, 70], [33, 92], [62, 92]], np.float32)


class ScriptedDetector:
    """Finds as many faces as the first pixel says, each 10 px larger and further right than the one before."""

    name = "scripted"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect_batch(self, images, *, errors="raise"):
        self.batches.append(len(images))
        return [self._faces(int(image[0, 0, 0])) for image in images]

    @staticmethod
    def _faces(count):
        if count == 99:
            return SphereCVError("the detector failed on this one")
        return [
            Face(box=(20 * i, 0, 20 * i + 30 + 10 * i, 40 + 10 * i), score=0.9 - 0.1 * i, landmarks=LANDMARKS + 5 * i)
            for i in range(count)
        ]


class MeanEmbedder:
    """Embeds a crop as its mean colour, so that an answer shows which image it belongs to."""

    recipe = get_recipe("sphereface")
    name = "mean"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed(self, crops):
        self.batches.append(len(crops))
        return crops.reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32)


@pytest.fixture
def parts():
    detector, embedder = ScriptedDetector(), MeanEmbedder()
    return SimpleNamespace(detector=detector, embedder=embedder, pipeline=FacePipeline(embedder, detector=detector))


def image(faces: int, shade: int = 100) -> np.ndarray:
    picture = np.full((200, 200, 3), shade, np.uint8)
    picture[0, 0] = faces
    return picture


def test_answers_come_in_order_with_errors_in_their_places(parts, tmp_path: Path) -> None:
    Image.fromarray(image(0)).save(tmp_path / "empty.png")
    sources = [image(1, 10), tmp_path / "missing.jpg", image(2, 20), tmp_path / "empty.png", image(99), image(1, 30)]
    answers = list(parts.pipeline.run(sources, face="all", errors="return", batch_size=4))
    assert [type(answer) for answer in answers] == [list, ImageError, list, NoFaceError, SphereCVError, list]
    assert [len(answers[i]) for i in (0, 2, 5)] == [1, 2, 1]
    assert [round(float(answers[i][0].embedding[1])) for i in (0, 2, 5)] == [10, 20, 30]
    assert "empty.png (200x200)" in str(answers[3])
    assert "missing.jpg" in str(answers[1])
    assert parts.detector.batches == [3, 2]
    assert parts.embedder.batches == [3, 1]


def test_the_first_error_ends_the_run_unless_asked_otherwise(parts) -> None:
    answers = parts.pipeline.run([image(1), image(0), image(1)])
    assert len(next(answers)) == 1
    with pytest.raises(NoFaceError):
        next(answers)


def test_images_are_loaded_as_they_are_needed(parts) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield image(1)

    answers = parts.pipeline.run(endless(), batch_size=3)
    for _ in range(4):
        next(answers)
    assert taken == 6


def test_large_images_make_small_batches(parts, monkeypatch) -> None:
    monkeypatch.setattr("spherecv.images.BATCH_PIXELS", 60_000)
    assert len(list(parts.pipeline.run([image(1)] * 5, batch_size=16))) == 5
    assert parts.detector.batches == [2, 2, 1]


def test_which_face_counts() -> None:
    faces = ScriptedDetector._faces(3)
    assert choose_faces(faces, (200, 200), "all") == faces
    assert choose_faces(faces, (200, 200), "largest") == [faces[2]]
    assert choose_faces(faces, (30, 30), "center") == [faces[0]]


def test_a_whole_image_is_a_crop_only_when_asked(parts) -> None:
    (found,) = parts.pipeline.faces(image(0, 77), face="whole")
    assert found.crop.shape == (112, 96, 3)
    assert found.face.box.tolist() == [14, 0, 185, 200]  # 171 of 200 columns have the form of 112x96
    (square,) = parts.pipeline.faces(image(0, 77)[:112, :112], face="whole")
    np.testing.assert_array_equal(square.crop, image(0, 77)[:112, 8:104])
    (narrow,) = parts.pipeline.faces(image(0, 77)[:200, :100], face="whole")
    assert narrow.face.box.tolist() == [0, 0, 100, 200]
    assert parts.detector.batches == []
    with pytest.raises(NoFaceError):
        parts.pipeline.faces(image(0, 77))


def test_wrong_settings_are_refused_at_the_call(parts) -> None:
    with pytest.raises(InvalidArgumentError, match="largest"):
        parts.pipeline.run([], face="biggest")
    with pytest.raises(InvalidArgumentError, match="raise, return"):
        parts.pipeline.run([], errors="ignore")
    with pytest.raises(InvalidArgumentError, match="batch_size"):
        parts.pipeline.run([], batch_size=0)
    assert list(parts.pipeline.run([])) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is not there")
def test_memory_does_not_grow_with_the_number_of_images(data_dir: Path) -> None:
    peaks = [int(subprocess.check_output([sys.executable, "-c", EMBED_MANY, str(data_dir), n])) for n in ("60", "500")]
    # 440 photos more: their pixels alone would be 405 MB, their crops 16 MB.
    assert peaks[1] - peaks[0] < 12_000, f"peak resident kB: {peaks}"


EMBED_MANY = """
import resource, sys
from pathlib import Path
import numpy as np
from spherecv.embed import FaceEmbedder
from spherecv.pipeline import FacePipeline
from spherecv.zoo import ModelSource

model = Path(sys.argv[1], "mobilefacenet-caffe", "mobilefacenet")
files = model.with_suffix(".prototxt"), model.with_suffix(".caffemodel")
pipeline = FacePipeline(FaceEmbedder(ModelSource.from_caffe(*files, recipe="mobilefacenet"), threads=2))
photos = (np.full((480, 640, 3), shade % 256, np.uint8) for shade in range(int(sys.argv[2])))
assert sum(len(faces) for faces in pipeline.run(photos, face="whole")) == int(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("images", [None, 3, "a.jpg", Path("a.jpg"), b"bytes", np.zeros((9, 9, 3), np.uint8)])
def test_one_image_is_no_batch(parts, images: object) -> None:
    with pytest.raises(InvalidArgumentError, match="images must be several"):
        parts.pipeline.run(images)


def test_stages_of_the_wrong_type_are_refused(parts) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^embedder must be a FaceEmbedder or .*, but got 3$"):
        FacePipeline(3)
    with pytest.raises(InvalidArgumentError, match=r"^detector must be a FaceDetector or one of .*, but got 3$"):
        FacePipeline(parts.embedder, detector=3)


def test_a_recipe_of_boxes_cuts_with_its_margin() -> None:
    embedder = MeanEmbedder()
    embedder.recipe = get_recipe("facenet")
    pipeline = FacePipeline(embedder, detector=ScriptedDetector())
    picture = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    picture[0, 0, 0] = 2
    found = pipeline.faces(picture)
    # The second box is (20, 0, 60, 50): a margin of 32 makes it (4, 0, 76, 66).
    expected = Image.fromarray(picture[0:66, 4:76]).resize((160, 160), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found[1].crop, np.asarray(expected))
