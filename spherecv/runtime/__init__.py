"""Run ONNX models: one `Session` over OpenCV dnn, ONNX Runtime and OpenVINO. Knows nothing of faces.

Examples
--------
>>> from spherecv.runtime import Session, available_backends
>>> session = Session("net.onnx", backend="auto")                     # doctest: +SKIP
>>> session.run(batch)["fc5"].shape                                    # doctest: +SKIP
(7, 512)
>>> [name for name, reason in available_backends().items() if not reason]    # doctest: +SKIP
['opencv', 'onnxruntime', 'openvino']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spherecv.runtime.devices import available_backends
    from spherecv.runtime.session import Session
    from spherecv.runtime.trial import available_devices

__all__ = ["Session", "available_backends", "available_devices"]

_HOME = {"Session": "session", "available_backends": "devices", "available_devices": "trial"}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
