"""The site and README: examples run, links lead somewhere, nothing is left out."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md"))
SERVICE = "http://127.0.0.1:8000"
_FENCE = re.compile(
    r"(?:^<!-- (?P<skip>not run: [^\n]+) -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
# Pages whose examples other tests run, on files of their own making.
ELSEWHERE = {"caffe-on-opencv5.md": "tests/caffe/test_migration.py", "caffe.md": "tests/caffe/test_docs.py"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Examples that are run: kind and code."""
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [(one["kind"], one["code"]) for one in found if not one["skip"] and one["kind"] in ("python", "sh", "js")]


def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages name: public-domain portraits that lie in other packages' wheels, and a net."""
    import cv2
    import numpy as np

    from spherecv.cli.samples import altered_copy, sample_portrait
    from spherecv.watch import VideoFile
    from spherecv.zoo import models_dir

    folder = tmp_path_factory.mktemp("samples")
    grace, eileen = sample_portrait("grace-hopper"), sample_portrait("eileen-collins")
    again = altered_copy(grace)
    height = min(grace.shape[0], eileen.shape[0])
    party = np.hstack([grace[:height], eileen[:height]])
    images = {
        "a.jpg": grace, "b.jpg": again, "c.jpg": eileen, "ann1.jpg": grace, "ann2.jpg": again, "party.jpg": party,
        "group1.jpg": party, "group2.jpg": party, "photo.jpg": grace, "people/Ann/1.jpg": grace,
        "people/Ann/2.jpg": again, "people/Ben/1.jpg": eileen, "people/Ben/2.jpg": altered_copy(eileen),
        "holiday/1.jpg": grace, "holiday/2.jpg": again, "holiday/3.jpg": eileen, "known/Grace.jpg": grace,
    }  # fmt: skip
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), image)
    size = (640, 480)
    # Not by cv2.VideoWriter: FFmpeg keeps the log level for good that it finds when it is first used.
    with VideoFile(folder / "door.avi", rate=25) as video:
        for number in range(12):
            frame = np.full((size[1], size[0], 3), 90, np.uint8)
            face = cv2.resize(grace, (320, 380))
            frame[50:430, 100 + 4 * number : 420 + 4 * number] = face
            video.write(frame)
    for name in ("sphereface_deploy", "net"):
        shutil.copy(models_dir() / "sphereface-mini.prototxt", folder / f"{name}.prototxt")
    for name in ("sphereface_model", "net"):
        shutil.copy(models_dir() / "sphereface-mini.caffemodel", folder / f"{name}.caffemodel")
    return folder


@pytest.fixture(scope="module")
def service(samples: Path) -> Iterator[str]:
    """A running service with a gallery."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "spherecv", "serve", "--port", str(port), "--gallery", "served.db"]
    with (samples / "service.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=samples, env=surroundings(), stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/healthz", timeout=5).close()
            break
        except OSError:
            assert running.poll() is None, (samples / "service.log").read_text()
            time.sleep(0.1)
    yield address
    running.terminate()
    running.wait(60)


def surroundings() -> dict[str, str]:
    """The environment of an example: `spherecv` and `python` are this environment's, the code is the checkout's."""
    tools = Path(sys.executable).parent
    paths = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT), "SPHERECV_MODELS": str(ROOT / "build" / "own-models")}


def as_python(kind: str, code: str) -> str:
    """A block as lines of the page's one program; of a shell's lines, what installs is left out."""
    if kind == "python":
        return code
    if kind == "js":
        return f"import subprocess\nsubprocess.run(['node', '--input-type=module', '-e', {code!r}], check=True)\n"
    left_out = ("pip ", "make ", ".ci/", "spherecv --install-completion")
    lines = "\n".join(line for line in code.splitlines() if not line.startswith(left_out))
    return f"import subprocess\nsubprocess.run(['bash', '-euc', {lines!r}], check=True)\n"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_the_examples_of_a_page_run(
    page: Path, samples: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if page.name in ELSEWHERE:
        assert page.name in (ROOT / ELSEWHERE[page.name]).read_text(encoding="utf-8")
        return
    found = blocks(page)
    if page.parent == DOCS and f" {page.name}\n" not in (ROOT / "mkdocs.yml").read_text(encoding="utf-8"):
        return  # a page in depth that names itself
    assert found, "no example that is run"
    if any(SERVICE in code for _, code in found):
        pytest.importorskip("fastapi")
        address = request.getfixturevalue("service")
        found = [(kind, code.replace(SERVICE, address)) for kind, code in found if kind != "js" or shutil.which("node")]
    folder = tmp_path / "examples"
    shutil.copytree(samples, folder)
    program = "\n".join(as_python(kind, code) for kind, code in found)
    (folder / "page.py").write_text(program)
    command = [sys.executable, "-W", "error::ResourceWarning", "page.py"]
    done = subprocess.run(command, cwd=folder, env=surroundings(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_every_link_leads_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "models").glob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if target.startswith(("http://", "https://", "mailto:", "#")):
                continue
            assert (page.parent / target.partition("#")[0]).exists(), (page, target)


_SCRIPT = re.compile(r"`(?:python |\.\.\. )?((?:\w+/)*\w+\.py)(?: (\w+))?[^`]*`")
_FIGURE = re.compile(r"\d\s?(?:%|(?:x|ms|s|minutes|images/s|frames/s|requests/s|MB|GB|GiB)\b)|\d\.\d")


def scripts_of(text: str) -> list[Path]:
    """The scripts of benchmarks/ and tests/ that a text names; a word after one must be known to it."""
    found = []
    for name, word in _SCRIPT.findall(text):
        folders = (ROOT, ROOT / "benchmarks", ROOT / "benchmarks" / "reliability", DOCS)
        places = [folder / name for folder in folders if (folder / name).is_file()]
        assert places, f"{name} is nowhere"
        assert not word or word.isupper() or word in places[0].read_text(encoding="utf-8"), f"{name} knows no {word}"
        found.append(places[0])
    return found


def test_every_measured_figure_has_its_script() -> None:
    """Each paragraph and table with figures names what prints them, or follows one in its section that does."""
    bare = []
    for section in re.split(r"^## ", (DOCS / "measured.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, *parts = section.split("\n\n")
        named = False
        for part in parts:
            named = bool(scripts_of(part)) or (named and not part.startswith("| what"))
            if _FIGURE.search(part) and not named and "`spherecv " not in part:
                bare.append((title, part[:80]))
    assert not bare


def test_the_headline_figures_are_those_of_the_tables() -> None:
    """README's figures stand on the page of measured tables too, or on a model's card."""
    pages = [DOCS / "measured.md", *(ROOT / "models").glob("*.md")]
    told = " ".join(" ".join(page.read_text(encoding="utf-8") for page in pages).split()).replace("e-0", "e-")
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Measured")[2].partition("## Limits")[0]
    rows = re.findall(r"^\| .* \| (.*\d.*) \|$", table, re.MULTILINE)
    assert len(rows) >= 6
    figures = [figure for row in rows for figure in re.findall(r"\d[\d.,]*(?:e-\d+)?(?: (?:%|ms|s)(?!\w))?", row)]
    assert [figure for figure in figures if figure not in told] == []


def test_every_variable_and_every_extra_is_told() -> None:
    told = (DOCS / "environment.md").read_text(encoding="utf-8")
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "spherecv").rglob("*.py"))
    read = set(re.findall(r"\b(?:SPHERECV|DEEPFACE)_[A-Z_]+[A-Z]\b", source)) - {"DEEPFACE_MODEL", "DEEPFACE_DETECTOR"}
    read -= {"DEEPFACE_BACKEND_ENGINE"}  # set for the package retina-face, never read
    tests = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    read |= {name for name in re.findall(r"SPHERECV_[A-Z_]+", tests) if not name.endswith("_")}
    assert {name for name in read if f"`{name}`" not in told} == set()
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    page = (DOCS / "extras.md").read_text(encoding="utf-8")
    assert {name for name in config["options.extras_require"] if f"`{name}`" not in page} == set()


def test_every_public_name_has_a_docstring_and_a_place() -> None:
    griffe = pytest.importorskip("griffe")
    made = hooks()
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    modules = re.findall(r"public names of ([\w.]+)", pages)
    packages = {f"spherecv.{path.parent.name}" for path in (ROOT / "spherecv").glob("[!_]*/__init__.py")}
    assert packages - set(modules) <= {"spherecv.cli", "spherecv.compat", "spherecv.detect"}
    package = griffe.load("spherecv", search_paths=[ROOT], resolve_aliases=True, resolve_external=False)
    silent = []
    for module in modules:
        for path in made.public_names(module):
            found = package[path.removeprefix("spherecv.")]
            parts = [one for name, one in found.members.items() if found.is_class and not name.startswith("_")]
            told = [one for one in [found, *parts] if one.is_class or one.is_function]
            silent += [one.path for one in told if not one.has_docstring]
    assert not silent


def test_names_that_differ_in_json_are_told() -> None:
    """The table of names: what it says is so, and of the records that it names nothing is left out."""
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", page, re.MULTILINE)
    told: dict[str, tuple[set[str], set[str]]] = {}
    for record, in_json, in_python in table:
        theirs, ours = told.setdefault(record, (set(), set()))
        theirs |= set(re.findall(r"`(\w+)`", in_json.partition(", in `")[0]))
        ours |= set(re.findall(r"`(\w+)`", in_python))
    found = set()
    for path in (ROOT / "spherecv").rglob("*.py"):
        for record in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(record, ast.ClassDef) or record.name not in told:
                continue
            parts = [part for part in record.body if isinstance(part, ast.FunctionDef)]
            writes = [part for part in parts if part.name == "to_dict"]
            if not writes:
                continue
            fields = {part.target.id for part in record.body if isinstance(part, ast.AnnAssign)}
            names = fields | {part.name for part in parts}
            keys = {key.value for one in ast.walk(writes[0]) if isinstance(one, ast.Dict) for key in one.keys if key}
            theirs, ours = told[record.name]
            assert ours <= names, record.name
            assert keys - names - {"img1", "img2", "image", "error"} <= theirs <= keys, record.name
            found.add(record.name)
    assert found == set(told)


def test_every_command_is_in_the_reference() -> None:
    text = hooks().commands()
    for words in ("verify", "gallery remove", "train finetune", "evaluate lfw", "models add"):
        assert re.search(rf"^#+ spherecv {words}$", text, re.MULTILINE), words
    assert "\\|" in text or "--far" in text
    assert text.count("| --- |") > 40


def test_the_site_builds_with_warnings_as_errors(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text(encoding="utf-8"))
    titles = {entry["title"] for entry in index["docs"]}
    assert {"Getting started", "FaceVerifier", "spherecv verify"} <= {re.sub("<[^>]+>", "", title) for title in titles}
