"""A small world: made-up people whose photos are patterns, and stages that tell them apart without any net."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from spherecv.errors import ImageError, NoFaceError, SphereCVError
from spherecv.evaluate.subject import Subject
from spherecv.images import load_image
from spherecv.records import EmbeddedFace, Face
from spherecv.zoo import ModelSource, get_recipe


class PatternPipeline:
    """Stands for `FacePipeline`: embeds an image as its 8x8 thumbnail, mirrored beside it where the recipe asks.

    Black images have no face; their quality is their brightness. How often it was opened is counted in `opened`.
    """

    def __init__(self, source, detector_name="mtcnn", opened=None) -> None:
        self.source, self.recipe, self.detector_name = source, source.recipe, detector_name
        self.opened = [] if opened is None else opened
        self.embedder = SimpleNamespace(embed=lambda crops: np.stack([self._embedding(crop) for crop in crops]))

    def with_recipe(self, recipe):
        self.opened.append(recipe.fingerprint)
        return PatternPipeline(replace(self.source, recipe=recipe), self.detector_name, self.opened)

    def _embedding(self, image):
        halves = [image, image[:, ::-1]] if self.recipe.mirror else [image]
        small = [cv2.resize(half, (8, 8), interpolation=cv2.INTER_AREA) for half in halves]
        return np.concatenate([(half.astype(np.float32) - 127.5).ravel() for half in small])

    def run(self, images: Iterable[Path], *, face: str, errors: str) -> Iterator[list[EmbeddedFace] | SphereCVError]:
        for path in images:
            try:
                image = load_image(path)
            except ImageError as error:
                yield error
                continue
            if image.max() == 0:
                yield NoFaceError(f"no face found in {path}")
                continue
            quality = float(image.mean() / 255)
            yield [EmbeddedFace(Face(box=(0, 0, 8, 8), quality=quality), None, self._embedding(image))]


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A subject whose stages count how often they are opened, in `subject.stages.opened`."""
    model = tmp_path / "pattern.onnx"
    model.write_bytes(b"no net at all")
    stages = PatternPipeline(ModelSource.from_onnx(model, recipe=get_recipe("sphereface")))
    return Subject(stages, face="center", no_face="skip")


def write_people(folder: Path, people: int = 12, photos: int = 4, noise: float = 60.0, seed: int = 0) -> Path:
    """Photos `Pnn/Pnn_0001.png`: a pattern for each person, and noise for each photo."""
    generator = np.random.default_rng(seed)
    for person in range(people):
        pattern = generator.uniform(0, 255, size=(8, 8, 3))
        for photo in range(1, photos + 1):
            name = f"P{person:02d}"
            path = folder / name / f"{name}_{photo:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = np.clip(pattern + noise * generator.normal(size=pattern.shape), 1, 255).astype(np.uint8)
            cv2.imwrite(str(path), image.repeat(4, axis=0).repeat(4, axis=1))
    return folder


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Twelve people with four photos each."""
    return write_people(tmp_path / "people")


def write_lfw_pairs(
    path: Path, folds: int = 4, each: int = 9, people: int = 12, photos: int = 4, seed: int = 1
) -> Path:
    """A list in the form of `pairs.txt`; in that of `pairsDevTest.txt` with `folds=0`. No pair comes twice."""
    generator = np.random.default_rng(seed)
    matched = [(p, a, b) for p in range(people) for a in range(1, photos) for b in range(a + 1, photos + 1)]
    mixed = [(p, a, q, b) for p in range(people) for q in range(p) for a in (1, 2) for b in (3, 4)]
    matched, mixed = generator.permutation(matched), generator.permutation(mixed)
    lines = [f"{folds}\t{each}" if folds else f"{each}"]
    for fold in range(max(folds, 1)):
        part = slice(fold * each, (fold + 1) * each)
        lines += [f"P{p:02d}\t{a}\t{b}" for p, a, b in matched[part]]
        lines += [f"P{p:02d}\t{a}\tP{q:02d}\t{b}" for p, a, q, b in mixed[part]]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def lfw_pairs():
    """Writes lists in LFW's form; see `write_lfw_pairs`."""
    return write_lfw_pairs


@pytest.fixture
def make_people():
    """Writes folders of people; see `write_people`."""
    return write_people


@pytest.fixture(scope="session")
def people_and_pairs():
    """All pairs of some photos whose distances depend on the people, so that pairs are not independent."""

    def make(generator, people: int, photos: int = 3):
        person = np.repeat(np.arange(people), photos)
        easy = generator.normal(size=people)[person]
        first, second = np.triu_indices(len(person), 1)
        same = person[first] == person[second]
        distances = 0.7 * (easy[first] + easy[second]) + generator.normal(size=len(first)) + 2.0 * ~same
        return distances, same, np.stack([person[first], person[second]], axis=1)

    return make
