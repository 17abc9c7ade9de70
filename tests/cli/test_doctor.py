"""What `doctor` finds on machines that are in order, and on those that are not."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import onnxruntime
import pytest

from spherecv import __version__

HEADLESS, PLAIN = "opencv-contrib-python-headless", "opencv-python"
Findings = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of OpenCV's and ONNX Runtime's packages that seem to be installed, and no others of theirs."""
    installed = {HEADLESS: "5.0", "onnxruntime": "1.20"}
    ours, version = ("opencv", "onnxruntime"), importlib.metadata.version

    def seen(name: str) -> str:
        if not name.startswith(ours):
            return version(name)
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", seen)
    return installed


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """States of models, where they are not ready."""
    found: dict[str, str] = {}
    monkeypatch.setattr("spherecv.zoo.state_of", lambda name: found.get(name, "ready"))
    return found


@pytest.fixture
def findings(run, packages, states) -> Findings:
    """What `doctor --json` says, by what it is about; the exit code must say whether something is broken."""

    def look(*, broken: bool) -> dict[str, dict[str, str]]:
        result = run("doctor", "--json")
        found = {finding["about"]: finding for finding in json.loads(result.stdout.splitlines()[0])}
        assert any(finding["state"] == "fault" for finding in found.values()) == broken
        assert result.exit_code == (2 if broken else 0), result.output
        return found

    return look


def test_a_machine_in_order(findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "not" / "there" / "yet"))
    found = findings(broken=False)
    assert found["spherecv"]["state"] == "ok"
    assert found["spherecv"]["detail"].startswith(f"{__version__}, Python 3.")
    assert found["OpenCV"] == {
        "about": "OpenCV", "state": "ok", "detail": f"{cv2.__version__} ({HEADLESS} 5.0)", "mend": "",
    }  # fmt: skip
    assert found["backend opencv"] == {
        "about": "backend opencv", "state": "ok", "detail": "ran a small net", "mend": "",
    }  # fmt: skip
    assert (found["device cpu"]["state"], found["device cpu"]["detail"]) == ("ok", "ran a small net")
    assert found["model mtcnn"]["state"] == "ok"
    assert found["model mtcnn"]["detail"].startswith("ready; ")
    assert found["model mtcnn"]["mend"] == ""
    assert found["cache"]["detail"] == str(tmp_path / "not" / "there" / "yet")
    assert {"OpenCV flavours", "OpenCV version"}.isdisjoint(found)
    assert found["ONNX Runtime"]["state"] == "ok"


def test_what_is_not_usable_is_a_note(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spherecv.runtime.available_backends", lambda: {"opencv": "", "openvino": "not installed"})
    monkeypatch.setattr("spherecv.runtime.available_devices", lambda: {"cpu": "", "cuda": "no GPU"})
    found = findings(broken=False)
    for about, state, detail in (
        ("backend opencv", "ok", "ran a small net"),
        ("backend openvino", "note", "not installed"),
        ("device cpu", "ok", "ran a small net"),
        ("device cuda", "note", "no GPU"),
    ):
        assert (found[about]["state"], found[about]["detail"]) == (state, detail)


def test_whether_bfloat16_is_computed_is_said(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spherecv.runtime.devices.find_spec", lambda _name: object())
    for computed, state, words in ((True, "ok", "--backend openvino"), (False, "note", "neither AMX nor AVX-512 BF16")):
        monkeypatch.setattr("spherecv.runtime.devices.computes_bfloat16", lambda computed=computed: computed)
        found = findings(broken=False)["precision bfloat16"]
        assert found["state"] == state
        assert words in found["detail"]
        assert "float32" not in found["detail"]
        assert ("--precision float32" in found["mend"]) is not computed


def test_an_opencv_that_cannot_be_imported(findings: Findings, packages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    packages.clear()
    broken = findings(broken=True)["OpenCV"]
    assert "cannot be imported" in broken["detail"]
    assert broken["detail"].endswith("installed: of unknown origin")
    assert broken["mend"] == "pip install --force-reinstall --no-deps opencv-contrib-python-headless"


def test_several_flavours_of_opencv(findings: Findings, packages) -> None:
    packages[PLAIN] = packages["opencv-contrib-python"] = "4.12"
    found = findings(broken=True)
    assert f"{HEADLESS} 5.0, opencv-contrib-python 4.12, {PLAIN} 4.12" in found["OpenCV"]["detail"]
    assert found["OpenCV flavours"]["state"] == "fault"
    mend = f"pip uninstall -y opencv-contrib-python {PLAIN} {HEADLESS} && pip install {HEADLESS}"
    assert found["OpenCV flavours"]["mend"] == mend


@pytest.mark.parametrize(
    ("version", "supported"),
    [("4.9.0", False), ("4.10.0", True), ("4.14.0-dev", True), ("5.9.1", True), ("6.0.0", False), ("3.11.0", False)],
)
def test_versions_of_opencv(findings: Findings, version: str, supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "__version__", version)
    found = findings(broken=not supported)
    assert ("OpenCV version" in found) is not supported
    if not supported:
        assert found["OpenCV version"]["detail"] == f"{version} is not within 4.10 to 5.x"
        assert found["OpenCV version"]["mend"] == "pip install 'opencv-contrib-python-headless>=4.10,<6'"


@pytest.mark.parametrize(("module", "about"), [("cv2", "OpenCV"), ("onnxruntime", "ONNX Runtime")])
def test_a_package_of_which_another_flavour_was_uninstalled(
    findings: Findings, run, failure, photos: Path, packages, module: str, about: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is a folder without its code, which Python imports as an empty namespace."""
    packages[{"cv2": PLAIN, "onnxruntime": "onnxruntime-gpu"}[module]] = "1.0"
    del packages[{"cv2": HEADLESS, "onnxruntime": "onnxruntime"}[module]]
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    found = findings(broken=True)[about]
    left = {"cv2": PLAIN, "onnxruntime": "onnxruntime-gpu"}[module]
    assert "is not whole" in found["detail"]
    assert found["mend"] == f"pip install --force-reinstall --no-deps {left}"
    if module == "cv2":
        assert found["mend"] in failure(run("verify", photos / "img1.jpg", photos / "img2.jpg"))


def test_two_onnx_runtimes(findings: Findings, packages, monkeypatch: pytest.MonkeyPatch) -> None:
    """retina-face asks for onnxruntime, so that both are there; the one whose files lie on top runs."""
    packages["onnxruntime-gpu"] = "1.20"
    under = findings(broken=False)["ONNX Runtime"]
    assert under["state"] == "note"
    assert under["mend"] == "pip install --force-reinstall --no-deps onnxruntime-gpu"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    on_top = findings(broken=False)
    assert (on_top["ONNX Runtime"]["state"], on_top["ONNX Runtime"]["mend"]) == ("ok", "")
    # A provider that is there has run nothing yet.
    assert on_top["device cuda"]["state"] == "note"


def test_models_that_are_not_ready(findings: Findings, states) -> None:
    states.update({"sphereface-20": "not downloaded"})
    found = findings(broken=False)["model sphereface-20"]
    assert (found["state"], found["mend"]) == ("note", "spherecv models download sphereface-20")
    states.update({"sphereface-20": "broken", "mtcnn": "not installed"})
    found = findings(broken=True)
    broken, absent = found["model sphereface-20"], found["model mtcnn"]
    assert (broken["state"], broken["mend"]) == ("fault", "spherecv models download sphereface-20")
    assert (absent["state"], absent["mend"]) == ("note", "pip install --force-reinstall spherecv")


def test_a_cache_that_cannot_be_written(findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_CACHE", str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode, **_: asked.append((Path(path), mode)))
    found = findings(broken=False)["cache"]
    assert (found["state"], found["detail"]) == ("note", f"{tmp_path / 'cache'} cannot be written")
    assert found["mend"] == "set SPHERECV_CACHE to a folder that can"
    assert (tmp_path, os.W_OK) in asked


def test_whether_downloads_are_allowed(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_OFFLINE", "1")
    assert findings(broken=False)["downloads"]["detail"] == "forbidden by SPHERECV_OFFLINE"
    monkeypatch.delenv("SPHERECV_OFFLINE")
    allowed = findings(broken=False)["downloads"]
    assert (allowed["state"], allowed["detail"]) == ("ok", "when a named model is first used")


def test_faults_are_marked_and_their_fix_follows(run, failure, packages, states) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert f"ok    OpenCV: {cv2.__version__}" in result.stdout
    assert "FAULT" not in result.stdout
    assert "fix:" not in result.stdout
    states["mtcnn"] = "broken"
    result = run("doctor")
    lines = result.stdout.splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("FAULT model mtcnn: broken; ")]
    assert lines[place + 1] == "      fix: spherecv models download mtcnn"
    assert "something is broken" in failure(result)
