"""A Session: an ONNX model that is ready to run, on any backend."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import plain_number
from spherecv.errors import BackendError, DeviceError, InvalidArgumentError, ModelFileError
from spherecv.runtime.backend import Backend, FloatArray, Model, Settings, backend_error
from spherecv.runtime.devices import backends_for, check_settings
from spherecv.runtime.inputs import Inputs, listed
from spherecv.runtime.signature import CONVERTER, TAIL_KEY, Batch, Signature, read_signature, signature_of

if TYPE_CHECKING:
    from spherecv.runtime.tail import Tail

_signatures: dict[tuple[str, int, int, int, int, int], Signature] = {}
"""Of files that were opened before, by place, size and times: a fifth of the time that a small net takes to open."""
_MOST_SIGNATURES = 8
_SETTLED_NS = 2_000_000_000
"""Nanoseconds after which a file's times tell whether it was written again; they may be as coarse as two seconds."""
_FLOATING = ("float32", "float16", "float64")


class Session:
    """An ONNX model that is loaded and ready to run.

    May be used from any number of threads. A batch of any size can be given: a large one is run in chunks, so that
    memory is bounded, and a model whose batch is fixed at one is run item by item. Image sizes that the model leaves
    open may change from call to call.

    Parameters
    ----------
    onnx : bytes or path
        A serialised ONNX model, or the path of one.
    backend : {"opencv", "onnxruntime", "openvino", "auto"}
        What runs it. "auto" takes the one that was measured to be the fastest of those installed.
    device : {"cpu", "cuda", "auto"}
        "auto" takes CUDA where the backend has it. A device that is asked for by name is used or is an error.
    threads : int, optional
        How many threads one call may use; all usable cores by default. For OpenCV the number belongs to the whole
        process: it is set while the net runs and then put back, and calls with different numbers wait for each other.
        By default OpenCV runs with the number that `cv2.setNumThreads` was last given.
    precision : {"float32", "bfloat16", "int8", "auto"}
        What the net is computed in. "bfloat16" by OpenVINO, where the processor multiplies such numbers itself. "int8"
        of a model that is quantised, as `spherecv convert --precision int8` writes them. "auto" and "float32" are as
        the file says: of a bare file nobody measured what a lower precision would lose.
    outputs : sequence of str, optional
        Names of the model's outputs that are wanted, in the order wanted; all by default.
    winograd : bool, optional
        Whether OpenCV may use Winograd's transform for convolutions: faster, and about one digit less exact. The
        other backends never use it. OpenCV's own choice, yes, by default.

    Attributes
    ----------
    inputs : dict of str to tuple of (int or None)
        The shape of every input; None is a size that may change from call to call.
    outputs : tuple of str
        The names of what `run` returns.
    backend : str
        The name of the backend in use, never "auto".
    device : str
        "cpu" or "cuda".
    precision : str
        What the net is computed in: "float32", "bfloat16" or, of a quantised model, "int8".

    Raises
    ------
    InvalidArgumentError
        An option has a value it cannot have.
    ModelFileError
        The model cannot be read, is damaged, or takes or gives something other than floating-point arrays.
    BackendError
        The backend cannot load the model.
    DeviceError
        The device asked for is not there, or it or the backend does not compute in the precision asked for.
    MissingDependencyError
        The backend's package is not installed.

    Examples
    --------
    >>> session = Session("sphereface.onnx", backend="openvino", threads=2)       # doctest: +SKIP
    >>> session.inputs                                                             # doctest: +SKIP
    {'data': (None, 3, 112, 96)}
    >>> session.run(np.zeros((7, 3, 112, 96), np.float32))["fc5"].shape            # doctest: +SKIP
    (7, 512)
    """

    def __init__(
        self,
        onnx: bytes | bytearray | memoryview | str | os.PathLike[str],
        *,
        backend: str = "opencv",
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "float32",
        outputs: Sequence[str] | None = None,
        winograd: bool | None = None,
    ) -> None:
        check_settings(backend, device, threads, precision)
        threads = plain_number(threads)
        model = _model(onnx)
        self._where = model.where
        text = model.signature.metadata.get(TAIL_KEY)
        self._tail = None if text is None else _tail(text, model.where)
        if self._tail is None:
            self.outputs = self._head = _wanted(model, outputs)
        else:
            self.outputs = _chosen(model.where, self._tail.outputs, outputs)

            def net(part: bytes, some: Sequence[str]) -> Session:
                where: dict[str, Any] = {"backend": backend, "device": device, "precision": precision}
                return Session(part, outputs=some, threads=threads, winograd=winograd, **where)

            self._head = self._tail.open(self.outputs, net)
            if self._head:
                self._head = _wanted(model, self._head)
        self._net_inputs = [port.name for port in model.signature.inputs]
        fed = model
        if self._tail is not None:
            ports = (*model.signature.inputs, *self._tail.inputs)
            fed = replace(model, signature=replace(model.signature, inputs=ports))
        self._batch = fed.signature.batch(self._head)
        if self._tail is not None and self._batch is Batch.ONE:
            self._batch = Batch.NONE  # the tail counts images, and would take each for the first
        self._inputs = Inputs(fed, self._batch)
        self.inputs = self._inputs.shapes
        # A net that nothing is wanted of is loaded all the same: it says which backend runs.
        self.precision = _precision(model, precision)
        settings = Settings(self._head or (model.signature.outputs[0].name,), threads, winograd, self.precision)
        self._backend, self.device = _open(model, backend, device, settings)

    @property
    def backend(self) -> str:
        """The name of the backend in use."""
        return self._backend.name

    @property
    def threads(self) -> int:
        """How many threads one call may use."""
        return self._backend.threads

    def __repr__(self) -> str:
        inputs = ", ".join(f"{name} {shape}" for name, shape in self.inputs.items())
        return f"Session({inputs} -> {', '.join(self.outputs)}; {self.backend}, {self.device})"

    def run(self, inputs: NDArray[np.float32] | Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run the model.

        Parameters
        ----------
        inputs : ndarray of float32, or mapping of str to ndarray of float32
            One array for each input, by name; the array alone where there is one input. The values are not looked at:
            NaN goes in and NaN comes out.

        Returns
        -------
        dict of str to ndarray of float32
            The outputs, C-contiguous, the caller's own. A batch of none gives outputs of the right shape with no items.

        Raises
        ------
        InvalidArgumentError
            An input is missing, unknown, or of the wrong type or shape.
        BackendError
            The backend failed; with OpenCV also where it cannot compute a model that the others can.
        """
        feeds = self._inputs.check(inputs)
        if self._tail is None:
            return self._run_net(feeds)
        given = self._run_net(feeds) if self._head else {}
        return self._tail.run({**feeds, **given}, self.outputs)

    def _run_net(self, feeds: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the model's own net, in chunks."""
        size = next(iter(feeds.values())).shape[0] if self._batch is not Batch.NONE else None
        if size == 0:
            one = {name: np.zeros((1, *array.shape[1:]), np.float32) for name, array in feeds.items()}
            return {name: array[:0].copy() for name, array in self._forward(one, 1).items()}
        if size is None:
            return self._forward(feeds, None)
        chunks = [self._forward(part, stop - start) for start, stop, part in self._chunks(feeds, size)]
        if len(chunks) == 1:
            return chunks[0]
        try:
            return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in self._head}
        except ValueError as error:
            raise backend_error(f"{self._where} gives the items of a batch different shapes", error) from None

    def _forward(self, feeds: dict[str, FloatArray], size: int | None) -> dict[str, FloatArray]:
        # Only here, so that a strided view of many items is copied a chunk at a time.
        arrays = self._backend.run({name: np.asarray(feeds[name], order="C") for name in self._net_inputs})
        answers = {}
        for name, array in zip(self._head, arrays, strict=True):
            if size is not None and (not array.ndim or array.shape[0] != size):
                what = f"{self.backend} cannot run {self._where} in batches, try another backend"
                raise backend_error(what, f"output {name!r} has shape {array.shape} for {size} items")
            answers[name] = np.asarray(array, np.float32, order="C")
        return answers

    def _chunks(self, feeds: dict[str, FloatArray], size: int) -> Iterator[tuple[int, int, dict[str, FloatArray]]]:
        """Cut a batch into parts of nearly equal size, within the limit of the backend."""
        limit = self._backend.limit
        numbers = sum(array.size for array in feeds.values()) / size
        most = 1 if self._batch is Batch.ONE else max(1, min(limit.items, int(limit.numbers / max(numbers, 1))))
        count = math.ceil(size / most)
        for index in range(count):
            start, stop = size * index // count, size * (index + 1) // count
            yield start, stop, {name: array[start:stop] for name, array in feeds.items()}


def _model(onnx: object) -> Model:
    """Take the model as bytes or as a path, and read its signature."""
    if isinstance(onnx, bytes | bytearray | memoryview):
        source = bytes(onnx)
        return _plain(Model(source, read_signature(source, "the model"), "the model"))
    if not isinstance(onnx, str | os.PathLike):
        kind = type(onnx).__name__
        raise InvalidArgumentError(f"onnx must be the bytes or the path of an ONNX model, but got {kind}")
    path = Path(os.fspath(onnx))
    return _plain(Model(path, _signature(path), str(path)))


def _signature(path: Path) -> Signature:
    """The signature of a file; one that was read before is remembered."""
    try:
        state = path.stat()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    key = (str(path), state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if key in _signatures:
        return _signatures[key]
    signature = signature_of(path)
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) >= _SETTLED_NS:
        if len(_signatures) >= _MOST_SIGNATURES:
            _signatures.clear()
        _signatures[key] = signature
    return signature


def _plain(model: Model) -> Model:
    """Return a foreign model in the form that all backends read alike, its weights no longer in blocks."""
    if model.signature.producer == CONVERTER:
        return model
    from spherecv.runtime.blocks import has_blocks, resolve_blocks
    from spherecv.runtime.normalise import normalised

    if has_blocks(model.signature):
        data = model.source if isinstance(model.source, bytes) else model.source.read_bytes()
        model = replace(model, source=resolve_blocks(data, model.where))
    source, digest = normalised(model.source, model.where)
    signature = _signature(source) if isinstance(source, Path) else read_signature(source, model.where)
    return Model(source, signature, model.where, digest)


def _tail(text: str, where: str) -> Tail:
    from spherecv.runtime.tail import Tail

    return Tail(text, where)


def _precision(model: Model, asked: str) -> str:
    """Settle what a model is computed in."""
    if model.signature.quantised:
        if asked == "bfloat16":
            raise InvalidArgumentError(f"{model.where} is quantised: it runs in int8, not in bfloat16")
        return "int8"
    if asked == "int8":
        raise InvalidArgumentError(
            f"{model.where} is not quantised: make a file that is with `spherecv convert --precision int8 --calibrate`"
        )
    return "float32" if asked == "auto" else asked


def _wanted(model: Model, outputs: Sequence[str] | None) -> tuple[str, ...]:
    """Check the outputs asked for; all of the model's by default."""
    ports = {port.name: port for port in model.signature.outputs}
    names = _chosen(model.where, tuple(ports), outputs)
    for name in names:
        kind = ports[name].type_name
        if kind not in _FLOATING:
            raise ModelFileError(f"output {name!r} of {model.where} is {kind}: a Session gives float32 only")
    return names


def _chosen(where: str, there: Sequence[str], outputs: Sequence[str] | None) -> tuple[str, ...]:
    """Check names of outputs; all that are there by default."""
    if isinstance(outputs, str) or (outputs is not None and not outputs):
        raise InvalidArgumentError(f"outputs must be a sequence of names, but got {outputs!r}")
    names = tuple(there) if outputs is None else tuple(dict.fromkeys(outputs))
    for name in names:
        if name not in there:
            raise InvalidArgumentError(f"{where} has no output {name!r}: it has {listed(there)}")
    return names


def _open(model: Model, backend: str, device: str, settings: Settings) -> tuple[Backend, str]:
    """Open the first pair of backend and device that works; only with device "auto" are there several to try."""
    pairs = backends_for(backend, device, settings.precision)
    for name, on in pairs[:-1]:
        with suppress(DeviceError):
            return _trusted(name, model, on, settings), on
    name, on = pairs[-1]
    return _trusted(name, model, on, settings), on


def _trusted(name: str, model: Model, device: str, settings: Settings) -> Backend:
    """Load a model into a backend that was seen to compute it as ONNX Runtime does."""
    held = name == "onnxruntime" or (model.signature.producer == CONVERTER and settings.precision == "float32")
    found = ""
    for backend in _candidates(name, model, device, settings):
        if held and not backend.doubted:
            return backend
        from spherecv.runtime.agreement import disagreement

        difference = disagreement(model, backend, settings)
        if not difference:
            return backend
        found = found or f"{name} {backend.version} computes {model.where} otherwise than ONNX Runtime: {difference}"
    raise BackendError(f"{found}; use backend='onnxruntime' (--backend onnxruntime)")


def _candidates(name: str, model: Model, device: str, settings: Settings) -> Iterator[Backend]:
    """Load a model into a backend; OpenCV has several engines, the fastest first."""
    if name == "opencv":
        from spherecv.runtime.opencv_backend import OpenCVBackend

        first = OpenCVBackend(model, device, settings)
        yield first
        for engine in first.others:
            with suppress(BackendError):
                yield OpenCVBackend(model, device, settings, engine=engine)
        return
    if name == "onnxruntime":
        from spherecv.runtime.onnxruntime_backend import OnnxRuntimeBackend

        yield OnnxRuntimeBackend(model, device, settings)
        return
    from spherecv.runtime.openvino_backend import OpenVINOBackend

    yield OpenVINOBackend(model, device, settings)
