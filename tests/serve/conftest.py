"""A service over people who are colours, in a real server on a free port; and one over a real net."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from PIL import Image

from spherecv.config import PipelineConfig
from spherecv.embed import FaceEmbedder
from spherecv.errors import BackendError
from spherecv.pipeline import FacePipeline
from spherecv.records import Face
from spherecv.serve import ApiKeys, FaceService, PipelinePool, ServiceSettings, create_app
from spherecv.serve.pool import open_pool
from spherecv.serve.server import make_server
from spherecv.zoo import ModelSource, get_recipe

PATIENCE = 60.0


class ColourEmbedder(FaceEmbedder):
    """Embeds a crop as its mean colour: a person is a colour."""

    name = "colour"
    backend = "numpy"

    def __init__(self) -> None:
        self.recipe = get_recipe("sphereface")
        self.source = SimpleNamespace(
            name="colour", key="colour-1", thresholds=(), precision="float32", loss=None, recipe=self.recipe,
            calibration=None,
            probability=lambda _metric: None,
        )  # fmt: skip

    def embed(self, crops):
        return crops.reshape(len(crops), -1, 3).mean(axis=1).astype(np.float32) - 127.5


class StagedDetector:
    """Finds one face in a colourful picture and none in a grey one; waits where it is told to."""

    name = "staged"

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.batches: list[int] = []

    def detect_batch(self, images, *, errors="raise"):
        self.batches.append(len(images))
        assert self.open.wait(PATIENCE)
        return [self._faces(image) for image in images]

    @staticmethod
    def _faces(image):
        if image.shape[0] == 13:
            return BackendError("the net failed")
        if np.ptp(image[0, 0].astype(int)) < 10:
            return []
        height, width = image.shape[:2]
        landmarks = np.array([[30, 50], [65, 50], [48, 70], [33, 92], [62, 92]], np.float32)
        return [Face(box=(0, 0, width, height), score=0.9, landmarks=landmarks, quality=0.5)]


def picture(colour=(200, 30, 60), size=(128, 128), kind="PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, kind)
    return stream.getvalue()


RED, REDDISH, BLUE, GREY = (picture(c) for c in ((220, 30, 40), (210, 45, 50), (20, 30, 200), (90, 90, 90)))


@contextmanager
def serving(service: FaceService, keys: ApiKeys | None = None) -> Iterator[httpx.Client]:
    """A client of the service, which runs in a thread."""
    server = make_server(create_app(service, keys=keys), service.settings, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        waited = time.monotonic() + PATIENCE
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < waited
            time.sleep(0.01)
        with httpx.Client(base_url=server.address, timeout=PATIENCE, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def staged():
    """Makes services over colours: `staged.make(gallery, workers=..., **settings)`; keeps the last detectors."""
    made = SimpleNamespace(detectors=[])

    def make(gallery: Path | None = None, workers: int = 1, batch: int = 8, **settings) -> FaceService:
        made.detectors = [StagedDetector() for _ in range(workers)]
        pool = PipelinePool(
            [FacePipeline(ColourEmbedder(), detector=detector) for detector in made.detectors], batch=batch
        )
        made.pool = pool
        return FaceService.open(pool, gallery, ServiceSettings(**settings), threshold=0.2)

    made.make = make
    return made


@pytest.fixture
def client(staged, tmp_path):
    """A client of a service over colours, with a gallery."""
    with serving(staged.make(tmp_path / "people.db", workers=2)) as opened:
        yield opened


@pytest.fixture(scope="session")
def net(mobilefacenet: tuple[Path, Path]) -> ModelSource:
    return ModelSource.from_caffe(*mobilefacenet, recipe="mobilefacenet")


@pytest.fixture(scope="module")
def real(net: ModelSource, tmp_path_factory: pytest.TempPathFactory):
    """A client of a service over a real net."""
    folder = tmp_path_factory.mktemp("real")
    pool = open_pool(PipelineConfig.of(net), workers=1)
    with serving(FaceService.open(pool, folder / "people.db", threshold=0.6)) as opened:
        yield opened


@pytest.fixture(scope="session")
def tools():
    """Helpers of this folder, for tests that cannot import a conftest."""
    return SimpleNamespace(
        serving=serving, picture=picture, red=RED, reddish=REDDISH, blue=BLUE, grey=GREY, patience=PATIENCE
    )
