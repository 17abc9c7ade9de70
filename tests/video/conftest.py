"""A real pipeline, films made of photographs, and a pipeline that finds what it is told to."""

from __future__ import annotations

import importlib.util
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spherecv.embed import FaceEmbedder
from spherecv.pipeline import FacePipeline
from spherecv.records import Face
from spherecv.verify import FaceVerifier
from spherecv.video import Frame
from spherecv.zoo import ModelSource, get_recipe

_spec = importlib.util.spec_from_file_location("video_scenes", Path(__file__).with_name("scenes.py"))
_scenes = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _scenes  # dataclasses look their module up
_spec.loader.exec_module(_scenes)


@pytest.fixture(scope="session")
def scenes():
    """The module `scenes.py`, which is no test."""
    return _scenes


@pytest.fixture(scope="session")
def source(mobilefacenet: tuple[Path, Path]) -> ModelSource:
    return ModelSource.from_caffe(*mobilefacenet, recipe="mobilefacenet")


@pytest.fixture(scope="session")
def verifier(source: ModelSource) -> FaceVerifier:
    return FaceVerifier(FaceEmbedder(source, threads=2), threshold=0.6)


@pytest.fixture(scope="session")
def pipeline(verifier: FaceVerifier) -> FacePipeline:
    return verifier.pipeline


@pytest.fixture(scope="session")
def people(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """People of LFW view 1 with at least two photographs, whose names begin with D: 50 of them, unpacked in no time."""
    folder = tmp_path_factory.mktemp("people")
    with tarfile.open(data_dir / "lfw-view1.tar") as archive:
        chosen = [member for member in archive if member.isfile() and "/images/D" in member.name]
        archive.extractall(folder, members=chosen, filter="data")
    return _scenes.people_of(folder / "lfw-view1" / "images", 2)


POINTS = np.array([[30, 50], [65, 50], [48, 70], [33, 92], [62, 92]], np.float32)


def face(x: float, y: float = 100, who: int = 0, *, side: float = 80, quality: float | None = 0.9) -> Face:
    """A face with its middle at x, y; who it is stands in the last digit of its score."""
    corner = np.array((x - side / 2, y - side / 2))
    return Face((*corner, *(corner + side)), 0.9 + who / 1000, corner + POINTS * side / 112, quality)


class Told:
    """A detector that finds what it was told for each frame, once it is shown them in order."""

    name = "told"

    def __init__(self, faces: Sequence[Sequence[Face]]) -> None:
        self.faces = list(faces)
        self.calls = 0

    def detect_batch(self, images, *, errors="raise"):
        answers = [list(self.faces[(self.calls + i) % len(self.faces)]) for i in range(len(images))]
        self.calls += len(images)
        return answers


class Knows:
    """An embedder that knows who it is from the crop's first pixel, which `Marks` wrote there."""

    recipe = get_recipe("sphereface")
    name = "knows"
    source = SimpleNamespace(name="knows", key="k-r", thresholds=())

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed(self, crops):
        self.batches.append(len(crops))
        rows = np.eye(8, dtype=np.float32)
        return np.stack([rows[crop[0, 0, 0]] for crop in crops]) if len(crops) else np.empty((0, 8), np.float32)


class Marks:
    """An aligner that writes into a crop who it is of."""

    size = (112, 96)

    def align(self, image, faces):
        crops = np.zeros((len(faces), 112, 96, 3), np.uint8)
        crops[:, 0, 0, 0] = [round(1000 * one.score) % 10 for one in faces]
        return crops


class Still:
    """Follows nobody anywhere: faces stay where they are."""

    def start(self, image):
        pass

    def follow(self, image, faces):
        return list(faces)


@pytest.fixture
def told():
    """`told.pipeline([[face, ...], ...])` finds these faces at its first, second, ... detection."""

    def pipeline(faces):
        made = FacePipeline(Knows(), detector=Told(faces))
        made.aligner = Marks()
        return made

    def frames(count, start=0, rate=25.0):
        blank = np.zeros((240, 640, 3), np.uint8)
        return [Frame(number, number / rate, blank) for number in range(start, start + count)]

    return SimpleNamespace(pipeline=pipeline, face=face, frames=frames, Still=Still)
