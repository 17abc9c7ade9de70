"""Agreement: a backend is trusted with a model only after it was seen to compute what ONNX Runtime computes."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import BackendError, SphereCVError, StorageError
from spherecv.files import cache_dir, write_bytes
from spherecv.runtime.backend import Backend, FloatArray, Model, Settings
from spherecv.runtime.onnxruntime_backend import OnnxRuntimeBackend
from spherecv.runtime.processor import identity
from spherecv.runtime.variants import QUANTISED_KEY

_TOLERANCE = 1e-3
"""Largest difference, as a share of an output's largest value; Winograd's transform and sums in another order stay
below 1e-4, a wrong padding or axis is far above."""
_REDUCED_TOLERANCE = 0.1
"""The same for bfloat16, of eight bits, and for quantised nets, where a number that is rounded the other way is a whole
step off."""
_RANGES = ((0.0, 1.0), (127.5, 64.0))
"""Mean and deviation of the input: of crops that were normalised, and of pixels, for nets that take 0..255. In reduced
precision it is enough to agree in one of them, for out of its range a net may leave nothing but what was rounded: noise
of deviation 1 is one shade of black to SFace, whose bfloat16 is off there by 0.6 of the largest value; of pixels, 0.03.
A wrong kernel is wrong in both."""
_LEAST_COSINE = 0.8
"""In place of that, where OpenVINO rounds in fewer places than ONNX Runtime does: of noise, which saturates ranges that
were measured on images. What it computes of images is measured elsewhere; a wrong kernel gives cosines about 0."""
_SIDE = 64
"""Height, width and other sizes that a model leaves open."""
_BATCH = 2
_MOST_VERDICTS = 256


def disagreement(model: Model, backend: Backend, settings: Settings) -> str:
    """Say how a backend differs from ONNX Runtime on a model; nothing where it agrees, or where that cannot be tried.

    Both run once, on fixed random numbers, in reduced precision once more where they differ, on numbers in the range of
    pixels. The verdict is remembered in the cache: by the model's hash, the backend, its version and engine, the
    precision, and the processor.

    Parameters
    ----------
    model : Model
    backend : Backend
        With the model loaded.
    settings : Settings
        With the outputs that are compared.
    """
    place = cache_dir() / "agreement" / f"{_key(model, backend, settings)}.json"
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(place.read_text(encoding="utf-8"))["difference"])
    found = ""
    try:
        reference = OnnxRuntimeBackend(model, "cpu", replace(settings, threads=None))
        for mean, deviation in _RANGES[:1] if settings.precision == "float32" else _RANGES:
            feeds = _feeds(model, mean, deviation)
            difference = _difference(model, backend, settings, feeds, reference.run(feeds))
            found = difference and (found or difference)
            if not difference:
                break
    except BackendError:  # not installed, or it cannot run the model either: nothing to compare with
        return ""
    with suppress(StorageError):  # then it is compared again the next time
        write_bytes(place, json.dumps({"difference": found, "model": model.where}).encode())
        _prune(place.parent)
    return found


def _difference(
    model: Model, backend: Backend, settings: Settings, feeds: dict[str, FloatArray], wanted: list[NDArray[np.generic]]
) -> str:
    try:
        given = backend.run(feeds)
    except SphereCVError as error:
        return str(error)
    rounds_less = backend.name == "openvino" and QUANTISED_KEY in model.signature.metadata
    tolerance = _TOLERANCE if settings.precision == "float32" else _REDUCED_TOLERANCE
    for name, one, other in zip(settings.outputs, given, wanted, strict=True):
        if one.shape != other.shape:
            return f"output {name!r} has shape {one.shape}, not {other.shape}"
        got, want = np.asarray(one, np.float64), np.asarray(other, np.float64)
        if not np.array_equal(np.isfinite(got), np.isfinite(want)):
            return f"output {name!r} is finite in other places"
        finite = np.isfinite(want)
        largest = float(np.abs(want[finite]).max(initial=0.0))
        off = float(np.abs(got[finite] - want[finite]).max(initial=0.0))
        if rounds_less and _cosine(got, want) >= _LEAST_COSINE:
            continue
        if off > tolerance * max(largest, 1e-6):
            return f"output {name!r} differs by {off:.3g}, where its largest value is {largest:.3g}"
    return ""


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / lengths if lengths else 0.0


def _feeds(model: Model, mean: float, deviation: float) -> dict[str, FloatArray]:
    random = np.random.default_rng(0)
    feeds = {}
    for port in model.signature.inputs:
        opened = (_SIDE if axis else _BATCH for axis in range(len(port.dims or ())))
        shape = [dim if isinstance(dim, int) else size for dim, size in zip(port.dims or (), opened, strict=True)]
        feeds[port.name] = (mean + deviation * random.standard_normal(shape)).astype(np.float32)
    return feeds


def _key(model: Model, backend: Backend, settings: Settings) -> str:
    digest = hashlib.sha256(model.digest.encode())
    if model.digest:
        pass  # of the file as it came, from which the rest follows
    elif isinstance(model.source, bytes):
        digest.update(model.source)
    else:
        with model.source.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
    rest = (backend.version, settings.outputs, settings.winograd, settings.precision, _RANGES, *identity())
    digest.update(repr(rest).encode())
    return f"{backend.name}-{digest.hexdigest()[:32]}"


def _prune(folder: Path) -> None:
    """Keep the verdicts that were made last."""
    with suppress(OSError):
        entries = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in entries[:-_MOST_VERDICTS]:
            path.unlink(missing_ok=True)
