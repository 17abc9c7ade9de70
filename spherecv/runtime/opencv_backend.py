"""OpenCV's dnn module, 4.10 to 5.x."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import DeviceError
from spherecv.runtime.backend import ChunkLimit, FloatArray, Model, Settings, backend_error
from spherecv.runtime.devices import import_cv2, opencv_cuda_missing
from spherecv.runtime.forks import ForkLock
from spherecv.runtime.normalise import kept_form
from spherecv.runtime.opencv_settings import nets
from spherecv.runtime.signature import Signature
from spherecv.runtime.variants import with_float_weights

_ONLY = 0
"""In place of an engine, where OpenCV has but one."""


class OpenCVBackend:
    """One `cv2.dnn.Net` behind a lock.

    A Net is not thread-safe. One net per thread was measured against one net and a lock, with 1 to 4 calling threads on
    2 cores: with all cores per call the lock costs 0 to 10 %, and a second SphereFace-20 would cost 350 MB. Callers who
    want calls side by side open one Session per thread, each with `threads=1`.
    """

    name = "opencv"

    # Above this, OpenCV's time per item grows (R-net of MTCNN: +25 % at 256 items): the activations leave the cache.
    limit = ChunkLimit(items=32, numbers=1 << 20)

    def __init__(self, model: Model, device: str, settings: Settings, *, engine: int | None = None) -> None:
        self._cv2 = cv2 = import_cv2()
        self._where = model.where
        self._outputs = settings.outputs
        self._threads = settings.threads
        self._lock = ForkLock()
        self._ranks = {port.name: len(port.dims) for port in model.signature.outputs if port.dims is not None}
        if device == "cuda" and (missing := opencv_cuda_missing(cv2)):
            raise DeviceError(f"backend 'opencv' cannot use device 'cuda': {missing}")
        model = replace(model, source=_plainer(model)) if model.signature.quantised else model
        try:
            with nets.running(cv2, None):
                engines = _engines(cv2, model.signature, device) if engine is None else [engine]
                self._net, engine = _load(cv2, model, engines)
                # Winograd's transform doubles the speed of SphereFace-20 (3x3 convolutions of stride 1) in the classic
                # engine and in 4.x, costs the sixth digit, and does nothing in the new engine: on, as OpenCV has it.
                self._net.enableWinograd(settings.winograd is not False)
                if device == "cuda":
                    self._net.setPreferableBackend(cv2.dnn.DNN_BACKEND_CUDA)
                    self._net.setPreferableTarget(cv2.dnn.DNN_TARGET_CUDA)
            self.version = f"{cv2.__version__} engine {engine}"
            # Of OpenCV 5 the classic engine is wrong in more places than the new one, and is tested no more.
            self.doubted = engine != _ONLY and engine == getattr(cv2.dnn, "ENGINE_CLASSIC", None) and device == "cpu"
            self.others = engines[engines.index(engine) + 1 :]
            """Engines that may be asked for instead, the fastest first."""
            # The new engine gives all outputs or none; the others compute only what is asked for.
            new = engine != _ONLY and engine == cv2.dnn.ENGINE_NEW
            self._computed = tuple(port.name for port in model.signature.outputs) if new else settings.outputs
        except cv2.error as error:
            raise backend_error(f"OpenCV {cv2.__version__} cannot load {model.where}", _reason(error)) from None

    @property
    def threads(self) -> int:
        """How many threads one call may use: what was asked for, or the process's number at the moment."""
        return self._threads or int(self._cv2.getNumThreads())

    def run(self, feeds: dict[str, FloatArray]) -> list[NDArray[np.generic]]:
        """Run the net; see `Backend`."""
        cv2 = self._cv2
        try:
            with self._lock, nets.running(cv2, self._threads):
                for name, array in feeds.items():
                    self._net.setInput(_as_mat(cv2, array), name)
                # The binding copies every Mat into an array of NumPy's own: the next forward does not touch it.
                arrays = dict(zip(self._computed, self._net.forward(self._computed), strict=True))
                if any(array is None for array in arrays.values()):
                    raise backend_error(f"OpenCV {cv2.__version__} failed on {self._where}", "an output is empty")
        except cv2.error as error:
            raise backend_error(f"OpenCV {cv2.__version__} failed on {self._where}", _reason(error)) from None
        return [_of_rank(arrays[name], self._ranks.get(name)) for name in self._outputs]


def _plainer(model: Model) -> bytes | Path:
    return kept_form(model, "float-weights", with_float_weights)


def _load(cv2: Any, model: Model, engines: list[int]) -> tuple[Any, int]:
    """Read the net with the first engine that knows all its operators."""
    if engines == [_ONLY] and any(port.dims == () for port in model.signature.outputs):
        # OpenCV 4 crashes on a Mat without axes.
        raise backend_error(f"OpenCV {cv2.__version__} cannot load {model.where}", "an output is a single number")
    for engine in engines:
        try:
            net = _read(cv2, model.source, engine)
        except cv2.error:
            if engine == engines[-1]:
                raise
        else:
            if not net.empty():  # how the new engine says that it does not know an operator
                return net, engine
    raise backend_error(f"OpenCV {cv2.__version__} cannot load {model.where}", "it does not know all its operators")


def _engines(cv2: Any, signature: Signature, device: str) -> list[int]:
    """Rank the two engines of OpenCV 5 for a model: the new one, and the classic one where that does not know all.

    Measured with OpenCV 5.0, 2 cores, time of classic / new: `sphereface-mini` 1.0 at batch 1 and 2, 0.88 at 32;
    MobileFaceNet (depthwise) 1.7; a P-net pyramid of a 1920x1080 photograph 1.3. CUDA is there in the classic one only.
    """
    if not hasattr(cv2.dnn, "ENGINE_NEW"):
        return [_ONLY]
    new: int = cv2.dnn.ENGINE_NEW
    if not hasattr(cv2.dnn, "ENGINE_CLASSIC"):  # later 5.x releases drop it
        return [new]
    classic: int = cv2.dnn.ENGINE_CLASSIC
    if device == "cuda":
        return [classic]
    return [new, classic] if classic_reads_inside(signature) else [new]


def classic_reads_inside(signature: Signature) -> bool:
    """Whether OpenCV 5's classic engine keeps to its memory: at the last row and column of a Resize it reads beyond.

    What lies there is multiplied by 0, so that no check can tell: mostly nothing happens, now and then a number is NaN.
    """
    return all(node.operator != "Resize" for node in signature.nodes)


def _read(cv2: Any, source: bytes | Path, engine: int) -> Any:
    """Read the net from a file, even if it is bytes.

    OpenCV's binding copies a buffer one number at a time (SphereFace-20: 300 ms against 150 ms), and OpenCV 5.0 does
    not heed the engine asked for when it reads from a buffer.
    """
    options = [] if engine == _ONLY else [engine]
    with ExitStack() as stack:
        path = _path_of(source, stack)
        if path is None:
            buffer = source if isinstance(source, bytes) else source.read_bytes()
            return cv2.dnn.readNetFromONNX(np.frombuffer(buffer, np.uint8), *options)
        return cv2.dnn.readNetFromONNX(path, *options)


def _path_of(source: bytes | Path, stack: ExitStack) -> str | None:
    """Give a path that OpenCV can open, until the stack is closed; None where there is none."""
    if isinstance(source, Path):
        # On Windows, OpenCV opens files by names in the system's code page.
        return str(source) if sys.platform != "win32" or str(source).isascii() else None
    try:
        if hasattr(os, "memfd_create"):
            file = stack.enter_context(os.fdopen(os.memfd_create("spherecv-net"), "wb"))
            path = Path(f"/proc/self/fd/{file.fileno()}")
        else:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spherecv-"))) / "net.onnx"
            file = stack.enter_context(path.open("wb"))
        file.write(source)
        file.flush()
        return _path_of(path, stack) if path.exists() else None
    except OSError:  # no room, or no /proc
        return None


def _as_mat(cv2: Any, array: FloatArray) -> Any:
    """Keep OpenCV from reading an array of three axes as an image with channels."""
    return array if array.ndim == 4 else cv2.Mat(array, wrap_channels=False)


def _of_rank(array: NDArray[np.generic], rank: int | None) -> NDArray[np.generic]:
    """Undo that a Mat has two axes at least: give arrays of fewer the rank that the model states."""
    if rank is not None and rank < 2 and array.ndim != rank:
        return array.reshape(-1) if rank else array.reshape(())
    return array


def _reason(error: Any) -> str:
    """What failed, without the positions in OpenCV's source that surround it.

    Not `error.err`: the binding keeps that with the class, so it may be what failed in another thread.
    """
    return re.sub(r"OpenCV\(\S+\) \S+ error: \([^)]*\)|in function '[^']*'|(?m:^>)", "", str(error))
