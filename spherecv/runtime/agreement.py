"""Agreement: a backend is trusted with a model only after it was seen to compute what ONNX Runtime computes."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import BackendError, SphereCVError, StorageError
from spherecv.files import cache_dir, keep_newest, known_sha256, write_bytes
from spherecv.runtime.backend import Backend, FloatArray, Model, Settings
from spherecv.runtime.processor import identity
from spherecv.runtime.reference import Reference
from spherecv.runtime.signature import Batch
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
_EDITION = 2
"""Part of every verdict's key: raise it where other numbers are compared."""
_SIDES = (64, 96)
"""Height, width and other sizes that a model leaves open, in turn."""
_BATCH = 2
_LARGE = 8 << 20
"""Bytes of a model of which one item is computed, and then given twice: SphereFace-20 has 90 million."""
_MOST_VERDICTS = 256


def disagreement(model: Model, backend: Backend, settings: Settings) -> str:
    """Say how a backend differs from ONNX Runtime on a model; nothing where it agrees, or where that cannot be tried.

    Both run on fixed random numbers; of a model that takes batches of any size the backend runs two sizes in turn. The
    verdict is remembered in the cache: by the model's hash, the backend, its version and engine, the precision, and
    the processor.

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
        reference = Reference(model, settings.outputs)
        for mean, deviation in _RANGES[:1] if settings.precision == "float32" else _RANGES:
            difference = _in_turn(model, backend, settings, reference, (mean, deviation))
            found = difference and (found or difference)
            if not difference:
                break
    except BackendError as error:  # not installed, or it cannot run the model either: nothing to compare with
        return str(error) if backend.doubted else ""
    with suppress(StorageError):  # then it is compared again the next time
        write_bytes(place, json.dumps({"difference": found, "model": model.where}).encode())
        keep_newest(place.parent, _MOST_VERDICTS)
    return found


def _in_turn(
    model: Model, backend: Backend, settings: Settings, reference: Reference, numbers: tuple[float, float]
) -> str:
    """Compare at one size, then where sizes are open at another one: an engine may keep what it made of the first."""
    size = model.source.stat().st_size if isinstance(model.source, Path) else len(model.source)
    count = 1 if size > _LARGE else _BATCH
    feeds = _feeds(model, count, _SIDES[0], numbers)
    wanted = reference.run(feeds)
    found = _difference(model, backend, settings, feeds, wanted)
    if found or (size > _LARGE and not backend.doubted):
        return found
    if model.signature.batch(settings.outputs) is Batch.ANY:
        other = {name: _repeated(array, _BATCH + 1 - count) for name, array in feeds.items()}
        found = _difference(model, backend, settings, other, [_repeated(one, _BATCH + 1 - count) for one in wanted])
        if found:  # unless the items of a batch depend on each other
            found = _difference(model, backend, settings, other, reference.run(other))
    if not found and size <= _LARGE and not model.signature.fixed_size:
        other = _feeds(model, count, _SIDES[1], numbers)
        with suppress(BackendError):  # not every net runs at every size
            found = _difference(model, backend, settings, other, reference.run(other))
    return found


def _repeated(array: NDArray[Any], count: int) -> NDArray[Any]:
    """The first items of a batch, over and over."""
    return np.ascontiguousarray(array[np.arange(count) % len(array)])


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


def _feeds(model: Model, count: int, side: int, numbers: tuple[float, float]) -> dict[str, FloatArray]:
    feeds = {}
    for place, port in enumerate(model.signature.inputs):
        opened = (side if axis else count for axis in range(len(port.dims or ())))
        shape = [dim if isinstance(dim, int) else size for dim, size in zip(port.dims or (), opened, strict=True)]
        feeds[port.name] = _noise(shape, place, *numbers)
    return feeds


def _noise(shape: list[int], seed: int, mean: float, deviation: float) -> FloatArray:
    """Normal numbers, by Box and Muller from fractions of two roots: numpy.random takes 15 ms to import."""
    steps = np.arange(1, math.prod(shape) + 1) + 1e6 * seed
    across, turn = np.modf(steps * math.sqrt(2))[0], np.modf(steps * math.sqrt(3))[0]
    normal = np.sqrt(-2 * np.log(across + 1e-12)) * np.cos(2 * math.pi * turn)
    return np.asarray(mean + deviation * normal, np.float32).reshape(shape)


def _key(model: Model, backend: Backend, settings: Settings) -> str:
    if model.digest:  # of the file as it came, from which the rest follows
        digest = hashlib.sha256(model.digest.encode())
    elif isinstance(model.source, bytes):
        digest = hashlib.sha256(model.source)
    elif model.source.is_relative_to(cache_dir()):  # whose name says what it was made of, and has a checksum
        digest = hashlib.sha256(model.source.name.encode())
    else:
        digest = hashlib.sha256(known_sha256(model.source).encode())
    rest = (_EDITION, backend.version, settings.outputs, settings.winograd, settings.precision, _RANGES, *identity())
    digest.update(repr(rest).encode())
    return f"{backend.name}-{digest.hexdigest()[:32]}"
