"""ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import DeviceError
from spherecv.runtime.backend import ChunkLimit, FloatArray, Model, Settings, backend_error
from spherecv.runtime.devices import import_onnxruntime, onnxruntime_cuda_missing, usable_cores
from spherecv.runtime.forks import Gate
from spherecv.runtime.normalise import kept_form
from spherecv.runtime.variants import without_prelu

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_NOTHING_BELOW_FATAL = 4

under_way = Gate()
"""Of every call of ONNX Runtime, also to open a model."""
if hasattr(os, "register_at_fork"):
    # A child that is forked in the middle of a call would wait for good for what other threads hold of its memory.
    os.register_at_fork(before=under_way.close, after_in_parent=under_way.open)


class OnnxRuntimeBackend:
    """One `InferenceSession`, which is thread-safe of itself."""

    name = "onnxruntime"
    doubted = False

    # Its time per item is flat from 32 items on.
    limit = ChunkLimit(items=64, numbers=1 << 21)

    def __init__(self, model: Model, device: str, settings: Settings) -> None:
        self._onnxruntime = onnxruntime = import_onnxruntime()
        self.version: str = onnxruntime.__version__
        self._where = model.where
        self._outputs = list(settings.outputs)
        cuda = device == "cuda"
        if cuda and (missing := onnxruntime_cuda_missing(onnxruntime)):
            raise DeviceError(f"backend 'onnxruntime' cannot use device 'cuda': {missing}")
        usable = usable_cores()
        self.threads = settings.threads or usable
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _NOTHING_BELOW_FATAL
        # Its threads spin between the nodes of a net, which is fast, and for a while after the last, which takes the
        # cores from the next session: the three nets of MTCNN in turn ran in 3.4 ms instead of 9.9.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Left alone, it takes the physical cores of the whole machine and pins a thread to each, which fails, loudly,
        # in a container that may use only some of them.
        if settings.threads or usable != os.cpu_count():
            options.intra_op_num_threads = self.threads
        try:
            if cuda and hasattr(onnxruntime, "preload_dlls"):
                with redirect_stdout(io.StringIO()):  # it prints what it does not find
                    onnxruntime.preload_dlls()  # of pip's nvidia packages
            providers = [_CUDA, _CPU] if cuda else [_CPU]
            faster = model.source if cuda else _faster(model)
            try:
                self._session = _opened(onnxruntime, faster, options, providers)
            except Exception:  # its exceptions have no base of their own
                if faster is model.source:
                    raise
                # Releases before 1.19 or so do not know the larger of two bytes.
                self._session = _opened(onnxruntime, model.source, options, providers)
        except Exception as error:  # its exceptions have no base of their own
            what = f"ONNX Runtime {onnxruntime.__version__} cannot load {model.where}"
            raise backend_error(what, _reason(error)) from None
        self._session.disable_fallback()
        # A provider whose libraries do not load is left out of the session without an error.
        if cuda and _CUDA not in self._session.get_providers():
            raise DeviceError(
                f"ONNX Runtime {onnxruntime.__version__} could not start its CUDA provider: "
                "check nvidia-smi, and that CUDA and cuDNN are of the versions that it was built with"
            )

    def run(self, feeds: dict[str, FloatArray]) -> list[NDArray[np.generic]]:
        """Run the session; see `Backend`."""
        try:
            with under_way:
                answers: list[Any] = self._session.run(self._outputs, feeds)
        except Exception as error:  # its exceptions have no base of their own
            version = self._onnxruntime.__version__
            raise backend_error(f"ONNX Runtime {version} failed on {self._where}", _reason(error)) from None
        return answers


def _opened(onnxruntime: Any, source: bytes | Path, options: Any, providers: list[str]) -> Any:
    content = source if isinstance(source, bytes) else str(source)
    with under_way:
        return onnxruntime.InferenceSession(content, options, providers=providers, enable_fallback=0)


def _faster(model: Model) -> bytes | Path:
    """The form of a model that it computes fastest on the CPU."""
    source = model.source
    if all(node.operator != "PRelu" for node in model.signature.nodes):
        return source
    return kept_form(model, "without-prelu-3", without_prelu)


def _reason(error: Exception) -> str:
    """What failed, without ONNX Runtime's code number."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ", "", str(error))
