"""`spherecv doctor`: the state of this installation, and the mend for each fault."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Literal

import typer

from spherecv import __version__
from spherecv.cli import options
from spherecv.errors import SphereCVError

State = Literal["ok", "note", "fault"]

_OPENCV_FLAVOURS = (
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-python",
)
_MARKS: dict[State, str] = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it is, and the command that mends it where something is wrong."""

    about: str
    state: State
    detail: str
    mend: str = ""


def doctor(as_json: options.Json = False) -> None:
    """Look over this machine: OpenCV, backends, devices, models, caches. Exit code 2 where something is broken."""
    findings = [_python(), *_opencv(), *_onnxruntime(), *_runtime(), *_models(), _cache(), _network()]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{_MARKS[finding.state]} {finding.about}: {finding.detail}")
            if finding.mend:
                typer.echo(f"      mend: {finding.mend}")
    if any(finding.state == "fault" for finding in findings):
        raise SphereCVError("something is broken: see the mends above")


def _python() -> Finding:
    return Finding("spherecv", "ok", f"{__version__}, Python {platform.python_version()}, {platform.machine()}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _opencv() -> list[Finding]:
    found = {name: version for name in _OPENCV_FLAVOURS if (version := _version(name))}
    listed = ", ".join(f"{name} {version}" for name, version in found.items()) or "of unknown origin"
    try:
        import cv2
    except ImportError as error:
        mend = "pip install --force-reinstall opencv-contrib-python-headless"
        return [Finding("OpenCV", "fault", f"cannot be imported ({error}); installed: {listed}", mend)]
    findings = [Finding("OpenCV", "ok", f"{cv2.__version__} ({listed})")]
    if len(found) > 1:
        keep = next(iter(found))
        others = " ".join(name for name in found if name != keep)
        mend = f"pip uninstall -y {others} {keep} && pip install {keep}"
        findings.append(Finding("OpenCV flavours", "fault", "several overwrite each other's cv2", mend))
    major, minor = (int(part) for part in cv2.__version__.split(".")[:2])
    if not (4, 10) <= (major, minor) < (6, 0):
        mend = "pip install 'opencv-contrib-python-headless>=4.10,<6'"
        findings.append(Finding("OpenCV version", "fault", f"{cv2.__version__} is not within 4.10 to 5.x", mend))
    return findings


def _onnxruntime() -> list[Finding]:
    plain, gpu = _version("onnxruntime"), _version("onnxruntime-gpu")
    if plain and gpu:
        mend = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        detail = "onnxruntime and onnxruntime-gpu are both installed and overwrite each other"
        return [Finding("ONNX Runtime", "fault", detail, mend)]
    return []


def _runtime() -> list[Finding]:
    from spherecv.runtime import available_backends, available_devices

    findings = [
        Finding(f"backend {name}", "note" if reason else "ok", reason or "usable")
        for name, reason in available_backends().items()
    ]
    findings += [
        Finding(f"device {name}", "note" if reason else "ok", reason or "usable")
        for name, reason in available_devices().items()
    ]
    return findings


def _models() -> list[Finding]:
    from spherecv.zoo import model_info, model_names, state_of

    findings = []
    for name in model_names():
        state = state_of(name)
        ready = state == "ready"
        mend = "" if ready else f"spherecv models download {name}"
        if state == "not installed":
            mend = "pip install --force-reinstall spherecv"
        how: State = "ok" if ready else "fault" if state == "broken" else "note"
        findings.append(Finding(f"model {name}", how, f"{state}; {model_info(name).terms}", mend))
    return findings


def _cache() -> Finding:
    from spherecv.zoo import cache_dir

    folder = cache_dir()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if os.access(existing, os.W_OK):
        return Finding("cache", "ok", str(folder))
    return Finding("cache", "note", f"{folder} cannot be written", "set SPHERECV_CACHE to a folder that can")


def _network() -> Finding:
    offline = bool(os.environ.get("SPHERECV_OFFLINE"))
    return Finding(
        "downloads", "ok", "forbidden by SPHERECV_OFFLINE" if offline else "when a named model is first used"
    )
