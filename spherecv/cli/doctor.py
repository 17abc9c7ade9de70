"""`spherecv doctor`: the state of this installation, and the fix for each fault."""

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
from spherecv.errors import BackendError, SphereCVError

State = Literal["ok", "note", "fault"]

_MARKS: dict[State, str] = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}


@dataclass(frozen=True)
class Finding:
    """One check: its state, and the command that fixes what is wrong."""

    about: str
    state: State
    detail: str
    mend: str = ""


def doctor(as_json: options.Json = False) -> None:
    """Check this machine: OpenCV, backends, devices, models, caches. Exit code 2 where something is broken."""
    findings = [_python(), *_opencv(), *_onnxruntime(), _cache(), _network(), *_models(), *_runtime()]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{_MARKS[finding.state]} {finding.about}: {finding.detail}")
            if finding.mend:
                typer.echo(f"      fix: {finding.mend}")
    if any(finding.state == "fault" for finding in findings):
        raise SphereCVError("something is broken: see the fixes above")


def _python() -> Finding:
    return Finding("spherecv", "ok", f"{__version__}, Python {platform.python_version()}, {platform.machine()}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _opencv() -> list[Finding]:
    from spherecv.runtime.devices import OPENCV_FLAVOURS, import_cv2, mend_of

    found = {name: version for name in OPENCV_FLAVOURS if (version := _version(name))}
    listed = ", ".join(f"{name} {version}" for name, version in found.items()) or "of unknown origin"
    try:
        cv2 = import_cv2()
    except BackendError as error:
        detail = str(error).partition(": pip install")[0]
        mend = mend_of(OPENCV_FLAVOURS, OPENCV_FLAVOURS[0])
        return [Finding("OpenCV", "fault", f"{detail}; installed: {listed}", mend)]
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
    """With the GPU's flavour, both are installed: retina-face asks for the other; whose files lie on top counts."""
    from spherecv.runtime.devices import ONNXRUNTIME_FLAVOURS, import_onnxruntime, mend_of, onnxruntime_cuda_missing

    found = {name: version for name in ONNXRUNTIME_FLAVOURS if (version := _version(name))}
    listed = ", ".join(f"{name} {version}" for name, version in found.items()) or "of unknown origin"
    mend = mend_of(ONNXRUNTIME_FLAVOURS, "onnxruntime")
    try:
        onnxruntime = import_onnxruntime()
    except BackendError as error:
        detail = str(error).partition(": pip install")[0]
        return [Finding("ONNX Runtime", "fault", f"{detail}; installed: {listed}", mend)]
    if len(found) > 1 and onnxruntime_cuda_missing(onnxruntime):
        detail = f"{onnxruntime.__version__} ({listed}): onnxruntime's files lie over those of onnxruntime-gpu"
        return [Finding("ONNX Runtime", "note", detail, mend)]
    return [Finding("ONNX Runtime", "ok", f"{onnxruntime.__version__} ({listed})")]


def _runtime() -> list[Finding]:
    from spherecv.runtime import available_backends, available_devices
    from spherecv.runtime.trial import trial

    findings = []
    for name, missing in available_backends().items():
        reason = missing or trial(name)
        findings.append(Finding(f"backend {name}", "note" if reason else "ok", reason or "ran a small net"))
    findings += [
        Finding(f"device {name}", "note" if reason else "ok", reason or "ran a small net")
        for name, reason in available_devices().items()
    ]
    return [*findings, _bfloat16()]


def _bfloat16() -> Finding:
    from spherecv.runtime.devices import bfloat16_missing

    missing = bfloat16_missing("openvino", "cpu")
    if missing is None:
        return Finding("precision bfloat16", "ok", "computed by this processor, through --backend openvino")
    reason, cure = missing
    return Finding("precision bfloat16", "note", reason, cure)


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
