"""OpenVINO, on the CPU."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import DeviceError
from spherecv.runtime.backend import ChunkLimit, FloatArray, Model, Settings, backend_error
from spherecv.runtime.devices import import_openvino
from spherecv.runtime.forks import ForkLock
from spherecv.runtime.variants import QUANTISED_KEY, chained


class OpenVINOBackend:
    """One inference request behind a lock.

    The model is compiled for latency: one stream that uses all threads, 1.8 times as fast for one caller as the
    throughput hint, whose streams have a core each. With one stream, further requests wait for it anyway: with 4
    callers they were measured no faster than the lock.
    """

    name = "openvino"
    doubted = False

    # Its time per item falls with the batch up to here (R-net: -20 % from 64 to 512 items).
    limit = ChunkLimit(items=512, numbers=1 << 21)

    def __init__(self, model: Model, device: str, settings: Settings) -> None:
        openvino = import_openvino()
        self.version: str = openvino.__version__.split("-")[0]
        self._where = model.where
        self._lock = ForkLock()
        if device != "cpu":
            raise DeviceError(
                f"backend 'openvino' cannot use device {device!r}, only 'cpu': use backend='onnxruntime'"
            )
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # Unasked, it would compute in bfloat16 on processors with AMX or AVX-512 BF16.
            "INFERENCE_PRECISION_HINT": "bf16" if settings.precision == "bfloat16" else "f32",
            # It keeps what it made ready for every size of image that it saw, without end; repeated sizes cost no more.
            "CPU_RUNTIME_CACHE_CAPACITY": "0",
        }
        if settings.threads:
            config["INFERENCE_NUM_THREADS"] = settings.threads
        try:
            core = openvino.Core()
            if QUANTISED_KEY in model.signature.metadata:
                data = model.source if isinstance(model.source, bytes) else model.source.read_bytes()
                network = core.read_model(chained(data), b"")
            elif isinstance(model.source, bytes):
                network = core.read_model(model.source, b"")
            else:
                network = core.read_model(str(model.source))
            compiled = core.compile_model(network, "CPU", config)
            self._request = compiled.create_infer_request()
            self.threads = settings.threads or int(compiled.get_property("INFERENCE_NUM_THREADS"))
            places = {name: index for index, port in enumerate(compiled.outputs) for name in port.get_names()}
            self._inputs = {name: index for index, port in enumerate(compiled.inputs) for name in port.get_names()}
            self._outputs = [places[name] for name in settings.outputs]
        except (RuntimeError, KeyError) as error:
            raise backend_error(f"OpenVINO {self.version} cannot load {model.where}", _reason(error)) from None

    def run(self, feeds: dict[str, FloatArray]) -> list[NDArray[np.generic]]:
        """Run the request; see `Backend`."""
        numbered = {self._inputs[name]: array for name, array in feeds.items()}
        try:
            with self._lock:
                # It reads the inputs where they are, and copies the outputs out of its own memory.
                answers = self._request.infer(numbered, share_inputs=True)
                return [answers[index] for index in self._outputs]
        except RuntimeError as error:
            raise backend_error(f"OpenVINO {self.version} failed on {self._where}", _reason(error)) from None


def _reason(error: Exception) -> str:
    """What failed, without the positions in OpenVINO's source that lead to it."""
    return re.sub(r"(Exception from|Check '.*' failed at) [^\n]*:\n?", "", str(error))
