"""Fixtures that every part shares: where the test data is, and pictures made from it."""

from __future__ import annotations

import os
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


# Without the extra `server`, as in the second environment of .ci/run, there is no service to test.
collect_ignore = [] if all(map(find_spec, ("fastapi", "httpx"))) else ["serve"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real models and photographs; tests that need it skip where it is not."""
    folder = Path(os.environ.get("SPHERECV_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no test data at {folder}: set SPHERECV_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def mobilefacenet(data_dir: Path) -> tuple[Path, Path]:
    """A small embedder in Caffe's files: prototxt and caffemodel."""
    folder = data_dir / "mobilefacenet-caffe"
    return folder / "mobilefacenet.prototxt", folder / "mobilefacenet.caffemodel"


@pytest.fixture(scope="session")
def lfw_dir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LFW view 1, unpacked: `images/NAME/NAME_0001.jpg` and `pairsDevTest.txt`."""
    folder = tmp_path_factory.mktemp("lfw")
    with tarfile.open(data_dir / "lfw-view1.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "lfw-view1"


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the suite out of the user's cache, and off the network."""
    os.environ["SPHERECV_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["SPHERECV_OFFLINE"] = "1"
