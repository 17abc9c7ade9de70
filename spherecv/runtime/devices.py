"""Backends and devices of this machine, and why others cannot be used."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from spherecv.checks import check_choice, plain_number, shown
from spherecv.errors import BackendError, DeviceError, InvalidArgumentError, MissingDependencyError
from spherecv.runtime.processor import computes_bfloat16

BACKENDS = ("opencv", "onnxruntime", "openvino")
DEVICES = ("cpu", "cuda", "auto")
PRECISIONS = ("float32", "bfloat16", "int8", "auto")
OPENCV_FLAVOURS = (
    "opencv-contrib-python-headless", "opencv-contrib-python", "opencv-python-headless", "opencv-python",
)  # fmt: skip
"""All install a folder `cv2`; the first one is what SphereCV asks for."""
ONNXRUNTIME_FLAVOURS = ("onnxruntime-gpu", "onnxruntime")
_GUTTED = "uninstalling one of two flavours takes files of the other along"
_MOST_THREADS = 1024


def check_settings(backend: object, device: object, threads: object, precision: object = "float32") -> None:
    """Raise `InvalidArgumentError` for a backend, device, number of threads or precision that a Session cannot have."""
    choices = (("backend", backend, (*BACKENDS, "auto")), ("device", device, DEVICES))
    for option, value, values in (*choices, ("precision", precision, PRECISIONS)):
        check_choice(option, value, values)
    count = plain_number(threads)  # of NumPy's numbers too
    if threads is not None and not (type(count) is int and 1 <= count <= _MOST_THREADS):
        raise InvalidArgumentError(
            f"threads must be a whole number from 1 to {_MOST_THREADS}, but got {shown(threads)}"
        )


def usable_cores() -> int:
    """Count the processor cores that this process may use, which a container or `taskset` limits."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def available_backends() -> dict[str, str]:
    """Say which backends can be used here.

    Returns
    -------
    dict of str to str
        Of every backend: the reason why it cannot be used, with the cure; empty where it can.
    """
    reasons = {}
    for name, load in (("opencv", import_cv2), ("onnxruntime", import_onnxruntime), ("openvino", import_openvino)):
        try:
            load()
            reasons[name] = ""
        except (BackendError, MissingDependencyError) as error:
            reasons[name] = str(error)
    return reasons


def backends_for(backend: str, device: str, precision: str = "float32") -> list[tuple[str, str]]:
    """List the pairs of backend and device to try, best first, for what a Session was asked for.

    The first alone, unless the device is "auto", where a CUDA that turns out not to work gives way to the CPU.
    """
    if precision == "bfloat16":
        if missing := bfloat16_missing(backend, device):
            raise DeviceError(": ".join(missing))
        return [("openvino", "cpu")]
    if device == "cpu":
        return [(_fastest_on_cpu() if backend == "auto" else backend, "cpu")]
    # ONNX Runtime first: its CUDA provider comes with the wheel's own cuDNN and takes every operator.
    names = ("onnxruntime", "opencv") if backend == "auto" else (backend,)
    with_cuda = [(name, "cuda") for name in names if not _cuda_missing(name)]
    if device == "auto":
        return [*with_cuda, *backends_for(backend, "cpu")]
    return with_cuda[:1] or [(names[-1], "cuda")]


def usual_backend(device: str = "cpu", precision: str = "float32") -> str:
    """Name the backend for a net of a face stage where nobody names one: the fastest of what is always installed.

    OpenCV where ONNX Runtime was left out, as of programs that PyInstaller makes small; "auto" on another device or in
    another precision.

    Notes
    -----
    Measured by `benchmarks/precision.py speed`, 29 November 2026, 2 cores of a Xeon with AVX-512 and AMX, images a
    second in float32, OpenVINO 2026.4 / ONNX Runtime 1.32 / OpenCV 5.0.0.93, one at a time and 32 at a time:

    =============== ================== ==================
    net             one                32
    =============== ================== ==================
    SphereFace-20   75 / 70 / 45       101 / 91 / 54
    sphereface-mini 467 / 463 / 285    737 / 617 / 351
    MobileFaceNet   342 / 367 / 289    497 / 392 / 334
    SFace           180 / 153 / 109    204 / 175 / 121
    =============== ================== ==================

    MTCNN's nets, whose images change in size, are the fastest on ONNX Runtime: a portrait of 640x480 in 10 ms, 13 on
    OpenVINO, 16 on OpenCV.
    """
    if device != "cpu" or precision != "float32":
        return "auto"
    return "onnxruntime" if find_spec("onnxruntime") else "opencv"


def _fastest_on_cpu() -> str:
    return "openvino" if find_spec("openvino") else usual_backend()


def bfloat16_missing(backend: str, device: str) -> tuple[str, str] | None:
    """Say why nets cannot be computed in bfloat16, and what to do; None if they can."""
    cure = "use precision='float32' (--precision float32)"
    if backend not in ("openvino", "auto") or device == "cuda":
        return (
            f"backend {backend!r} on device {device!r} does not compute in bfloat16, only OpenVINO on the CPU",
            f"take backend='openvino' (--backend openvino), or {cure}",
        )
    if not find_spec("openvino"):
        return "bfloat16 is computed by OpenVINO, which is missing", f"pip install 'spherecv[openvino]', or {cure}"
    if not computes_bfloat16():
        return "this processor does not compute in bfloat16 (it has neither AMX nor AVX-512 BF16)", cure
    return None


def import_cv2() -> Any:
    """Import OpenCV, or say in one line why that fails."""
    try:
        import cv2
    except ImportError as error:
        raise BackendError(f"OpenCV cannot be imported ({error}): pip install opencv-contrib-python-headless") from None
    if not hasattr(cv2, "dnn"):
        raise BackendError(f"OpenCV is not whole: {mend_of(OPENCV_FLAVOURS, OPENCV_FLAVOURS[0])}; {_GUTTED}")
    return cv2


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without what it prints meanwhile, or say in one line why that fails."""
    if hasattr(sys.modules.get("onnxruntime"), "InferenceSession"):
        return sys.modules["onnxruntime"]
    try:
        # In containers and WSL its native part warns of GPUs that it cannot identify, before any setting can stop it.
        with _without_lines_of("onnxruntime"):
            module = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(f"ONNX Runtime cannot be imported ({error}): pip install onnxruntime") from None
    if not hasattr(module, "InferenceSession"):
        raise BackendError(f"ONNX Runtime is not whole: {mend_of(ONNXRUNTIME_FLAVOURS, 'onnxruntime')}; {_GUTTED}")
    return module


def mend_of(flavours: Sequence[str], wanted: str) -> str:
    """The command that makes a package whole of which another flavour was uninstalled.

    Parameters
    ----------
    flavours : sequence of str
        Distributions that share one folder; the first that is installed counts.
    wanted : str
        What to install where none of them is.
    """
    there = [name for name in flavours if _is_installed(name)] or [wanted]
    return f"pip install --force-reinstall --no-deps {there[0]}"


def _is_installed(package: str) -> bool:
    from importlib import metadata  # with all of email: as long as NumPy's core to import

    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def import_openvino() -> Any:
    """Import OpenVINO, or name the extra that installs it."""
    if not find_spec("openvino"):
        raise MissingDependencyError("openvino", "openvino", "backend='openvino'")
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise BackendError(f"OpenVINO cannot be imported ({error}): pip install 'spherecv[openvino]'") from None


def opencv_cuda_missing(cv2: Any) -> str:
    """Say why OpenCV cannot run nets on CUDA; nothing if it can."""
    if cv2.dnn.DNN_TARGET_CUDA not in cv2.dnn.getAvailableTargets(cv2.dnn.DNN_BACKEND_CUDA):
        return (
            f"OpenCV {cv2.__version__} was built without CUDA, as all of pip's wheels are: take "
            "backend='onnxruntime' (--backend onnxruntime) with spherecv[gpu], or build OpenCV with CUDA"
        )
    if cv2.cuda.getCudaEnabledDeviceCount() < 1:
        return "OpenCV sees no CUDA device: check nvidia-smi and CUDA_VISIBLE_DEVICES"
    if hasattr(cv2.dnn, "ENGINE_NEW") and not hasattr(cv2.dnn, "ENGINE_CLASSIC"):
        return f"the dnn of OpenCV {cv2.__version__} runs on the CPU only: use backend='onnxruntime'"
    return ""


def onnxruntime_cuda_missing(onnxruntime: Any) -> str:
    """Say why ONNX Runtime cannot run nets on CUDA; nothing if it has a provider for it, which may yet fail to load."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return ""
    return (
        f"ONNX Runtime {onnxruntime.__version__} has no CUDA provider: pip install 'spherecv[gpu]', then "
        "pip install --force-reinstall --no-deps onnxruntime-gpu, so that its files lie over onnxruntime's"
    )


def _cuda_missing(backend: str) -> str:
    if backend == "opencv":
        return opencv_cuda_missing(import_cv2())
    if backend == "onnxruntime":
        return onnxruntime_cuda_missing(import_onnxruntime())
    return "OpenVINO runs on the CPU here"


@contextmanager
def _without_lines_of(origin: str) -> Iterator[None]:
    """Take the lines that name `origin` out of what native code writes to stderr."""
    try:
        written = tempfile.TemporaryFile()  # noqa: SIM115 (closed below; failing to open it must not stop the import)
        kept = os.dup(2)
    except OSError:  # nowhere to write to, or a process without stderr
        yield
        return
    with written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            written.seek(0)
            for line in written:
                if origin.encode() not in line:
                    os.write(kept, line)
            os.close(kept)
