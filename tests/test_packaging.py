"""What is published: wheel and sdist, whole and the same bytes each time, extras, container, community."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest

pytest.importorskip("build")
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
URL = CONFIG["metadata"]["url"]
# What only a machine with a GPU installs.
NOT_HERE = {"gpu", "cuda"}
MODULES = {
    "array-api-compat": "array_api_compat",
    "array-api-strict": "array_api_strict",
    "faiss-cpu": "faiss",
    "grpcio": "grpc",
    "milvus-lite": "milvus_lite",
    "mkdocs-material": "material",
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "prometheus-client": "prometheus_client",
    "pydantic-core": "pydantic_core",
    "pyinstaller": "PyInstaller",
    "pytest-timeout": "pytest_timeout",
    "pytest-xdist": "xdist",
    "python-multipart": "python_multipart",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Wheel and sdist, built twice from copies of the tracked files made at different times."""
    files = tracked_files()
    places = []
    for number in range(2):
        source, out = tmp_path_factory.mktemp(f"source{number}"), tmp_path_factory.mktemp(f"dist{number}")
        for name in files:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
            os.utime(source / name, (1e9 + number * 1e6,) * 2)
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
            check=True,
            capture_output=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONPATH": ""},
        )
        places.append(out)
    return places


def tracked_files() -> list[str]:
    """Files that belong to the project, of a checkout or an unpacked sdist."""
    if not (ROOT / ".git").exists():
        return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file() and ".venv" not in str(path)]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def wheel_of(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def sdist_of(folder: Path) -> Path:
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def test_builds_are_the_same_bytes(built: list[Path]) -> None:
    for find in (wheel_of, sdist_of):
        first, second = (hashlib.sha256(find(folder).read_bytes()).hexdigest() for folder in built)
        assert first == second, find


def test_indexes_take_them_and_nothing_strange_is_in_the_wheel(built: list[Path]) -> None:
    for words in (
        ["-m", "twine", "check", "--strict", str(sdist_of(built[0])), str(wheel_of(built[0]))],
        # W004: PyInstaller wants a dash in the name of its hook, which nobody imports.
        ["-m", "check_wheel_contents", "--ignore", "W004", str(wheel_of(built[0]))],
    ):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_every_module_and_every_file_of_the_models(built: list[Path]) -> None:
    names = set(zipfile.ZipFile(wheel_of(built[0])).namelist())
    tracked = tracked_files()
    assert {name for name in tracked if name.startswith("spherecv/") and name.endswith((".py", "py.typed"))} <= names
    assert {name for name in tracked if name.startswith("spherecv/serve/page/")} <= names
    assert {f"spherecv/{name}" for name in tracked if name.startswith("models/")} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]
    licences = [name for name in names if ".dist-info/licenses/" in name]
    assert {Path(name).name for name in licences} == {"LICENSE", "LICENSE-models.md"}


def test_the_sdist_holds_all_that_is_tracked(built: list[Path]) -> None:
    with tarfile.open(sdist_of(built[0])) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    missing = {name for name in tracked_files() if name not in names and name != ".gitignore"}
    assert not missing
    assert {"tests/caffe/layers/test_pooling.py", "CHANGELOG.md", "spherecv/caffe/spherecv_caffe.proto"} <= names
    assert {(member.uid, member.uname, member.mtime) for member in members} == {(0, "", 1_700_000_000)}


def test_metadata_says_who_what_and_where(built: list[Path]) -> None:
    archive = zipfile.ZipFile(wheel_of(built[0]))
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    told = message_from_bytes(archive.read(name))
    assert {
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    } <= set(told.get_all("Classifier"))
    assert {line.split(",")[0] for line in told.get_all("Project-URL")} >= {"Source", "Documentation", "Changelog"}
    targets = re.findall(r"\]\(([^)\s]+)\)", told.get_payload())
    assert targets
    assert not [target for target in targets if not target.startswith(("https://", "http://", "#"))]
    ours = [target.removeprefix(f"{URL}/blob/main/") for target in targets if target.startswith(f"{URL}/blob/main/")]
    ours += [target.removeprefix(f"{URL}/raw/main/") for target in targets if target.startswith(f"{URL}/raw/main/")]
    assert ours
    assert not [target for target in ours if not (ROOT / target.partition("#")[0]).exists()]


def test_the_wheel_runs_from_an_empty_place(built: list[Path], data_dir: Path, tmp_path: Path) -> None:
    """Installed without its dependencies, which lie in this environment, and far from the checkout."""
    target, photos = tmp_path / "site", data_dir / "deepface-pairs"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(target),
            str(wheel_of(built[0])),
        ],
        check=True,
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import spherecv, sys; print(spherecv.__file__); from spherecv.cli import main; main()",
            "verify",
            str(photos / "img1.jpg"),
            str(photos / "img2.jpg"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{target}{os.sep}spherecv")
    assert "Same person" in done.stdout


def requirements(extra: str) -> list[Requirement]:
    lines = CONFIG["options.extras_require"][extra].split("\n")
    found = [Requirement(line) for line in lines if line.strip()]
    return [one for one in found if one.name != "spherecv" and (one.marker is None or one.marker.evaluate())]


@pytest.mark.parametrize(
    "extra", [name for name in CONFIG["options.extras_require"] if name not in ("dev", "test-runtime")]
)
def test_an_extra_is_what_is_installed_and_can_be_imported(extra: str) -> None:
    wanted = requirements(extra)
    assert wanted
    if extra in NOT_HERE:
        return  # its names are those of an index; the arrangement on a GPU is in docs/extras.md
    modules = []
    for one in wanted:
        version = metadata.version(one.name)
        assert one.specifier.contains(version, prereleases=True), f"{one} but {version} is installed"
        modules.append(MODULES.get(one.name, one.name.replace("-", "_")))
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(f"import {name}" for name in modules)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_base_brings_nothing_heavy_that_it_does_not_need() -> None:
    """What a release of a dependency may add without a word, as typer did with pydantic."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "install_size.py")], capture_output=True, text=True, check=True
    )
    brought = {line.split("|")[1].strip() for line in done.stdout.splitlines()[2:]}
    assert {"opencv-contrib-python-headless", "scipy", "onnxruntime", "numpy", "onnx"} <= brought
    heavy = {"pydantic", "pydantic_core", "pandas", "matplotlib", "scikit-learn", "scikit-image", "tensorflow", "torch"}
    assert not brought & heavy


def test_what_is_imported_is_declared() -> None:
    """Every package that the modules import is asked for by the base or by an extra."""
    declared = {
        Requirement(line).name.lower() for line in CONFIG["options"]["install_requires"].split("\n") if line.strip()
    }
    for extra in CONFIG["options.extras_require"]:
        declared |= {one.name.lower() for one in requirements(extra)}
    by_module = {
        module: {name.lower() for name in names} for module, names in metadata.packages_distributions().items()
    }
    optional = {"caffe", "cupy", "cupyx"}  # looked for, and told what to do without
    for path in (ROOT / "spherecv").rglob("*.py"):
        for found in re.findall(r"^\s*(?:import|from) ([a-z_0-9A-Z]+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            if found in sys.stdlib_module_names or found in optional or found == "spherecv" or found not in by_module:
                continue
            names = {re.sub(r"[-_.]+", "-", name) for name in by_module[found]}
            assert names & declared, (path, found, names)


def dockerfile() -> list[tuple[str, str]]:
    text = (ROOT / "docs" / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_containers_stages_are_in_order() -> None:
    lines = dockerfile()
    assert [rest for word, rest in lines if word == "FROM"] == ["python:3.12-slim AS build", "python:3.12-slim"]
    known = {
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "ENV",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert {word for word, _ in lines} <= known
    words = [word for word, _ in lines]
    last = len(words) - 1 - words[::-1].index("FROM")
    final = lines[last:]
    assert ("USER", "spherecv") in final  # not root
    for word in ("ENTRYPOINT", "CMD"):
        assert dict(final)[word].startswith("[")  # the exec form, which gets the signals
    assert all("--no-cache-dir" in rest for word, rest in lines if word == "RUN" and "pip install" in rest)
    copied = [
        part for word, rest in lines if word == "COPY" and not rest.startswith("--from") for part in rest.split()[:-1]
    ]
    assert all((ROOT / part).exists() for part in copied)


def test_what_the_container_copies_is_enough_to_build_it_and_its_commands_run(tmp_path: Path) -> None:
    lines = dockerfile()
    for word, rest in lines:
        if word == "COPY" and not rest.startswith("--from"):
            for part in rest.split()[:-1]:
                into = tmp_path / "source" / (part if (ROOT / part).is_dir() else "")
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
                if (ROOT / part).is_file():
                    into.mkdir(parents=True, exist_ok=True)
                copy(ROOT / part, into, **({"dirs_exist_ok": True} if (ROOT / part).is_dir() else {}))
    (install,) = [rest.split("&& ")[-1] for word, rest in lines if word == "RUN" and "pip install" in rest]
    words = shlex.split(install)
    assert words[1:] == ["install", "--no-cache-dir", ".[server,gallery]"]
    # The same without the packages that it asks for, which this environment has.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--target",
            str(tmp_path / "site"),
            ".",
        ],
        cwd=tmp_path / "source",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (command,) = [rest for word, rest in lines if word == "CMD"]
    options = [one for one in eval(command) if one.startswith("--")]
    helped = subprocess.run(
        [sys.executable, "-m", "spherecv", "serve", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    ).stdout
    assert options
    assert all(option in helped for option in options)


def test_the_communitys_files_can_be_read() -> None:
    import yaml

    elsewhere = [name for name in tracked_files() if name.endswith((".md", ".yml", ".cff", ".py", ".toml", ".cfg"))]
    assert [name for name in elsewhere if URL in (ROOT / name).read_text(encoding="utf-8")] == ["setup.cfg"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == metadata.version("spherecv")
    assert "repository-code" not in citation  # the address has one place: setup.cfg
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert path.stem == "config" or {"name", "description", "body"} <= set(form), path
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for word in ("versions:", "expected:", "seen:"):
        assert word in contributing
        for script in (ROOT / "findings").glob("*.sh"):
            assert f"# {word}" in script.read_text(encoding="utf-8"), (script, word)
