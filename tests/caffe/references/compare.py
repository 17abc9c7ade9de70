"""Every deployed net of the golden set through SphereCV, against what real Caffe gave: agree, refused or differ.

    python tests/caffe/references/compare.py FOLDER [--backend onnxruntime] [--only SUBSTRING]

FOLDER holds the golden set (index.json and the files that it names). Prints what does not agree, and counts.
"""

from __future__ import annotations

import argparse
import collections
import json
from pathlib import Path

import numpy as np

from spherecv.caffe import load
from spherecv.errors import SphereCVError
from spherecv.runtime import Session

GROUPS = ("layers", "files")
TOLERANCE = {"onnxruntime": 1e-5, "openvino": 1e-4, "opencv": 1e-4}


def cases(folder: Path):
    """Yield the entry and the parts of every case that is a deployed net."""
    stored = {}
    for entry in json.loads((folder / "index.json").read_text(encoding="utf8")):
        if entry["group"] not in GROUPS or entry["phase"] != "TEST":
            continue
        if entry["file"] not in stored:
            with np.load(folder / entry["file"]) as parts:
                stored[entry["file"]] = {key: parts[key] for key in parts.files}
        prefix = entry["name"] + "|"
        yield entry, {key[len(prefix) :]: v for key, v in stored[entry["file"]].items() if key.startswith(prefix)}


def answer(case: dict, backend: str) -> dict | str:
    """Return the outputs, or the refusal."""
    caffemodel = case["caffemodel"].tobytes() if "caffemodel" in case else None
    inputs = {key[3:]: np.asarray(value, np.float32) for key, value in case.items() if key.startswith("in:")}
    try:
        net = load(str(case["net"]).encode(), caffemodel)
        outputs = [key[4:] for key in case if key.startswith("out:")]
        session = Session(net.to_onnx(outputs=outputs or None), backend=backend)
        return session.run({name: inputs[name] for name in session.inputs})
    except SphereCVError as error:
        return f"{type(error).__name__}: {error}"


def same(got: np.ndarray, right: np.ndarray, tolerance: float) -> bool:
    """Tell whether two arrays are equal to within a part of the largest number; what is not finite must be equal."""
    if got.shape != right.shape:
        return False
    finite = np.isfinite(right)
    if not np.array_equal(got[~finite], right[~finite], equal_nan=True):
        return False
    largest = np.abs(right[finite]).max(initial=0)
    return bool((np.abs(got[finite] - right[finite]) <= tolerance * max(largest, 1e-30)).all())


def verdict(entry: dict, case: dict, backend: str, tolerance: float) -> tuple[str, str]:
    """Return how a case ends, and why."""
    got = answer(case, backend)
    if "refused" in entry:
        return ("agree", "both refuse") if isinstance(got, str) else ("taken", entry["refused"])
    if isinstance(got, str):
        return "refused", got
    for key, right in case.items():
        if key.startswith("out:") and not same(got[key[4:]], right, tolerance):
            off = np.abs(got[key[4:]] - right).max() if got[key[4:]].shape == right.shape else got[key[4:]].shape
            return "differ", f"{key[4:]} {right.shape}: off by {off}, largest {np.abs(right).max(initial=0)}"
    return "agree", ""


def main() -> None:
    """Run all cases and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--only", default="")
    parser.add_argument("--tolerance", type=float)
    options = parser.parse_args()
    tolerance = options.tolerance or TOLERANCE[options.backend]
    counts = collections.Counter()
    for entry, case in cases(options.folder):
        if options.only not in entry["name"]:
            continue
        end, why = verdict(entry, case, options.backend, tolerance)
        counts[entry["group"], end] += 1
        if end != "agree":
            print(f"{end:8} {entry['name']:32} {why[:200]}", flush=True)
    for (group, end), count in sorted(counts.items()):
        print(f"{group:8} {end:8} {count}")


if __name__ == "__main__":
    main()
