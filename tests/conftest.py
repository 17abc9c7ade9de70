"""Fixtures that every part shares: where the test data is, and pictures made from it."""

from __future__ import annotations

import os
import shutil
import tarfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SPHERECV_TEST_DATA", ROOT.parent / "shared" / "data"))
CHROMIUM = os.environ.get("SPHERECV_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
EXTRAS = (
    "build", "check_wheel_contents", "fastapi", "httpx", "milvus_lite", "mkdocs", "nbclient", "nbformat", "openvino",
    "playwright", "pymilvus", "ray", "schemathesis", "twine", "yaml",
)  # fmt: skip
"""Modules of the extra `test` that `test-runtime`, the extra of the second environment, leaves out."""
PEERS = {"deepface": "0.0.103", "face_recognition": "1.3.0"}
"""Packages whose source alone is read: never imported, and so installed without what they need."""

# What only some machines have: what is missing of each, as a message, or nothing where all is there.
ORACLES = {
    "data": "" if (DATA / "README.md").is_file() else f"no test data at {DATA}: set SPHERECV_TEST_DATA",
    "torch": "" if find_spec("torch") else "no PyTorch: pip install torch",
    "chromium": "" if CHROMIUM else "no Chromium: install Debian's package chromium, or set SPHERECV_TEST_CHROMIUM",
    "peers": ", ".join(
        f"no {name}: pip install --no-deps {name}=={at}" for name, at in PEERS.items() if not find_spec(name)
    ),
    "extras": ", ".join(f"no module {name}: pip install '.[test]'" for name in EXTRAS if not find_spec(name)),
}


# Without the extra `server`, as in the second environment of .ci/run, there is no service to test.
collect_ignore = [] if all(map(find_spec, ("fastapi", "httpx"))) else ["serve"]


def pytest_configure() -> None:
    """Refuse to run without the oracles in SPHERECV_REQUIRE (comma-separated); with CI set, all unless it says which.

    Elsewhere the tests that need a missing one skip.
    """
    everything = ",".join(ORACLES) if os.environ.get("CI") else ""
    required = [name for name in os.environ.get("SPHERECV_REQUIRE", everything).split(",") if name]
    if unknown := set(required) - set(ORACLES):
        known = ", ".join(ORACLES)
        raise pytest.UsageError(f"SPHERECV_REQUIRE must name {known}, but got {', '.join(sorted(unknown))}")
    if missing := [ORACLES[name] for name in required if ORACLES[name]]:
        raise pytest.UsageError(f"required (SPHERECV_REQUIRE, or CI), but missing: {'; '.join(missing)}")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real models and photographs."""
    if ORACLES["data"]:
        pytest.skip(ORACLES["data"])
    return DATA


@pytest.fixture(scope="session")
def peers() -> None:
    """The source of the packages that `spherecv.compat` stands in for."""
    if ORACLES["peers"]:
        pytest.skip(ORACLES["peers"])


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a browser."""
    if CHROMIUM is None:
        pytest.skip(ORACLES["chromium"])
    return CHROMIUM


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
