"""The proof of a conversion: one Caffe net on random inputs in every runtime and importer that is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import BackendError, SphereCVError

if TYPE_CHECKING:
    from spherecv.caffe import CaffeNet

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]

CAFFE = "caffe"
IMPORTER = "opencv's caffe importer"
_REFERENCES = (CAFFE, "onnxruntime", "openvino", "opencv", IMPORTER)
# Small numbers, as after a mean and a scale; pixels; pixels less a mean.
_RANGES = ((-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0))
_SEED = 20260211
_LONGEST_REASON = 200


@dataclass(frozen=True)
class Difference:
    """How far one runtime is from the reference in one output.

    Attributes
    ----------
    output, runtime : str
    largest : float
        The largest difference over all inputs tried; infinite where shapes differ, or only one has NaN.
    relative : float
        The same as a share of the output's largest value.
    """

    output: str
    runtime: str
    largest: float
    relative: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what is infinite is None."""
        numbers = {"largest": self.largest, "relative": self.relative}
        plain = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {"output": self.output, "runtime": self.runtime, **plain}


@dataclass(frozen=True)
class Parity:
    """What the runtimes make of one net.

    Attributes
    ----------
    reference : str
        What the others are compared with: real Caffe where it is importable, else ONNX Runtime.
    differences : tuple of Difference
    failures : dict of str to str
        The runtimes that could not run the net, and why.
    """

    reference: str
    differences: tuple[Difference, ...]
    failures: dict[str, str]

    def agrees(self, tolerance: float) -> bool:
        """Tell whether no output differs by more than a share of its largest value."""
        return all(difference.relative <= tolerance for difference in self.differences)


def compare(net: CaffeNet, prototxt: Path, caffemodel: Path) -> Parity:
    """Run a net everywhere and measure the differences.

    Where the number of rows of an output depends on numbers, as that of detections does, the blobs are compared that it
    is made from: noise finds boxes that are all alike, whose order rests on the last digit, and what follows is the
    same NumPy for every backend.

    Parameters
    ----------
    net : CaffeNet
    prototxt, caffemodel : Path
        What the net was read from, for the importers of others.

    Raises
    ------
    BackendError
        If fewer than two could run the net: there is nothing to compare.
    """
    net = replace(net, outputs=_of_fixed_shape(net))
    model = net.to_onnx()
    feeds = [_random(net, index) for index in range(len(_RANGES))]
    answers: dict[str, list[Arrays]] = {}
    failures: dict[str, str] = {}
    for name, open_runtime in _runtimes(net, model, prototxt, caffemodel):
        try:
            with _faults_of_others():
                run = open_runtime()
                answers[name] = [run(feed) for feed in feeds]
        except SphereCVError as error:
            failures[name] = " ".join(str(error).split())[:_LONGEST_REASON]
    if len(answers) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise BackendError(f"{' '.join(answers) or 'nothing'} alone ran the net: nothing to compare with ({reasons})")
    reference = next(name for name in _REFERENCES if name in answers)
    differences = [
        _difference(output, name, given, answers[reference])
        for name, given in answers.items()
        if name != reference
        for output in net.outputs
        if output in given[0]
    ]
    return Parity(reference, tuple(differences), failures)


def _of_fixed_shape(net: CaffeNet) -> tuple[str, ...]:
    """Return the net's outputs, with what open ones are made from in their place."""
    from spherecv.caffe.layers import kind_of

    sources: dict[str, tuple[str, ...]] = {}  # what every open blob is made from
    for layer in net.layers:
        behind = [blob for bottom in layer.bottoms for blob in sources.get(bottom, ())]
        if behind or kind_of(layer).open_axis is not None:
            made_from = [bottom for bottom in layer.bottoms if bottom not in sources and bottom not in net.inputs]
            sources.update(dict.fromkeys(layer.tops, (*behind, *made_from)))
    return tuple(dict.fromkeys(blob for output in net.outputs for blob in sources.get(output, (output,))))


def _random(net: CaffeNet, index: int) -> dict[str, NDArray[np.float32]]:
    low, high = _RANGES[index]
    numbers = np.random.default_rng(_SEED + index)
    return {name: numbers.uniform(low, high, shape).astype(np.float32) for name, shape in net.inputs.items()}


def _difference(output: str, name: str, given: list[Arrays], right: list[Arrays]) -> Difference:
    largest = relative = 0.0
    for ours, theirs in zip(given, right, strict=True):
        a, b = np.asarray(ours[output], np.float64), np.asarray(theirs[output], np.float64)
        if a.size == b.size and name == IMPORTER:
            a = a.reshape(b.shape)  # it keeps axes of one that Caffe drops
        if a.shape != b.shape:
            return Difference(output, name, math.inf, math.inf)
        apart = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        with np.errstate(invalid="ignore"):
            gap = np.abs(a - b)[apart].max(initial=0.0)
        gap = float(gap) if math.isfinite(gap) else math.inf
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0)) or 1.0
        largest, relative = max(largest, gap), max(relative, gap / scale)
    return Difference(output, name, largest, relative)


@contextmanager
def _faults_of_others() -> Iterator[None]:
    """Turn what other people's importers raise into one kind of error."""
    try:
        yield
    except SphereCVError:
        raise
    except Exception as error:
        raise BackendError(str(error) or type(error).__name__) from None


def _runtimes(net: CaffeNet, model: bytes, prototxt: Path, caffemodel: Path) -> Iterator[tuple[str, Callable[[], Run]]]:
    import cv2

    from spherecv.runtime import Session, available_backends

    for name, missing in available_backends().items():
        if not missing:
            yield name, lambda name=name: _of_session(Session(model, backend=name))  # type: ignore[misc]
    # OpenCV 5 has no importer for Caffe; a function of this name is then somebody's own.
    if cv2.__version__.startswith("4") and hasattr(cv2.dnn, "readNetFromCaffe"):
        yield IMPORTER, lambda: _of_importer(net, prototxt, caffemodel)
    if importlib.util.find_spec("caffe") is not None:
        yield CAFFE, lambda: _of_caffe(net, prototxt, caffemodel)


def _of_session(session: Any) -> Run:
    def run(feeds: Arrays) -> Arrays:
        outputs: Arrays = session.run({name: feeds[name] for name in session.inputs})
        return outputs

    return run


def _of_importer(net: CaffeNet, prototxt: Path, caffemodel: Path) -> Run:
    import cv2

    read: Any = vars(cv2.dnn)["readNetFromCaffe"]
    files = (np.frombuffer(path.read_bytes(), np.uint8) for path in (prototxt, caffemodel))
    opencv = read(*files)
    known = set(opencv.getLayerNames())
    # It asks for layers, not blobs: for the last that writes a blob, and then its first top.
    writers = {layer.tops[0]: layer.name for layer in net.layers if layer.tops and layer.name in known}
    wanted = [(blob, writers[blob]) for blob in net.outputs if blob in writers]
    if not wanted:
        raise BackendError("it names no layer that makes an output")

    def run(feeds: Arrays) -> Arrays:
        for name, values in feeds.items():
            opencv.setInput(values, name)
        answers = opencv.forward([layer for _, layer in wanted])
        return {blob: np.array(answer) for (blob, _), answer in zip(wanted, answers, strict=True)}

    return run


def _of_caffe(net: CaffeNet, prototxt: Path, caffemodel: Path) -> Run:
    import caffe  # type: ignore[import-not-found]

    caffe.set_mode_cpu()
    real = caffe.Net(str(prototxt), str(caffemodel), caffe.TEST)

    def run(feeds: Arrays) -> Arrays:
        for name, values in feeds.items():
            real.blobs[name].reshape(*values.shape)
            real.blobs[name].data[...] = values
        real.forward()
        return {blob: np.array(real.blobs[blob].data) for blob in net.outputs}

    return run
