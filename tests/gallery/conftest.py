"""People made of numbers, and photos made of one colour, so that a gallery can be tested without a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from spherecv.gallery import FaceGallery, Origin
from spherecv.pipeline import FacePipeline
from spherecv.records import Face
from spherecv.zoo import get_recipe

ORIGIN = Origin("numbers", "k0-r0")


def crowd(people: int, images: int, size: int = 64, *, spread: float = 0.45, seed: int = 0):
    """Names, embeddings and image names of people whose images lie around a centre each."""
    generator = np.random.default_rng(seed)
    centres = np.repeat(generator.standard_normal((people, size)), images, axis=0)
    rows = (centres + spread * generator.standard_normal(centres.shape)).astype(np.float32)
    names = [f"person {number // images:04d}" for number in range(len(rows))]
    return names, rows, [f"photos/{name}/{number:06d}.jpg" for number, name in enumerate(names)]


class ColourEmbedder:
    """Embeds a crop as its mean colour: a person is a colour."""

    recipe = get_recipe("sphereface")
    name = "colour"

    def __init__(self, key: str = "colour-1") -> None:
        self.source = SimpleNamespace(name="colour", key=key, thresholds=(), recipe=self.recipe)
        vars(self.source).update(calibration=None, precision="float32", loss=None)

    def embed(self, crops):
        return crops.reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32) - 127.5


class CountingDetector:
    """Finds one face in a colourful picture and none in a grey one; counts the pictures it is shown."""

    name = "counting"

    def __init__(self) -> None:
        self.seen = 0

    def detect_batch(self, images, *, errors="raise"):
        self.seen += len(images)
        return [self._faces(image) for image in images]

    @staticmethod
    def _faces(image):
        if np.ptp(image[0, 0].astype(int)) < 10:
            return []
        height, width = image.shape[:2]
        landmarks = np.array([[30, 50], [65, 50], [48, 70], [33, 92], [62, 92]], np.float32)
        return [Face(box=(0, 0, width, height), score=0.9, landmarks=landmarks, quality=0.5)]


def paint(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (128, 128), colour).save(path)
    return path


RED, GREEN, BLUE, GREY = (230, 20, 30), (20, 220, 40), (30, 20, 210), (90, 90, 90)


@pytest.fixture
def stages():
    detector, embedder = CountingDetector(), ColourEmbedder()
    return SimpleNamespace(detector=detector, pipeline=FacePipeline(embedder, detector=detector))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A tree of two people, one photo without a face."""
    folder = tmp_path / "album"
    paint(folder / "Ann" / "1.png", RED)
    paint(folder / "Ann" / "2.png", (240, 40, 40))
    paint(folder / "Ben" / "1.png", GREEN)
    paint(folder / "Ben" / "wall.png", GREY)
    return folder


@pytest.fixture
def gallery(tmp_path: Path):
    with FaceGallery.open(tmp_path / "people.db", model=ORIGIN) as opened:
        yield opened


def bytes_of(folder: Path) -> bytes:
    """Every byte of every file of a folder."""
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def numbers():
    """Helpers of this folder, for tests that cannot import a conftest."""
    return SimpleNamespace(
        ORIGIN=ORIGIN,
        crowd=crowd,
        paint=paint,
        bytes_of=bytes_of,
        colours=SimpleNamespace(red=RED, green=GREEN, blue=BLUE, grey=GREY),
        ColourEmbedder=ColourEmbedder,
        CountingDetector=CountingDetector,
    )
