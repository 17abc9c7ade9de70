"""Reference of a check: a model in ONNX Runtime as its file says, opened at little cost for one or two calls."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.protobuf import Buffer, Span, encode_bytes, fields, messages
from spherecv.runtime.backend import FloatArray, Model, backend_error
from spherecv.runtime.devices import import_onnxruntime, usable_cores
from spherecv.runtime.onnxruntime_backend import under_way

_GRAPH, _INITIALIZER = 7, 5
_RAW, _EXTERNAL, _LOCATION = 9, 13, 14
_ELSEWHERE = bytes((_LOCATION << 3, 1))
"""TensorProto.data_location: EXTERNAL."""
_LARGE = 4096
_NOTHING_BELOW_FATAL = 4


class Reference:
    """A session of ONNX Runtime that computes node by node, without rewriting or packing anything.

    An ordinary one takes four times as long to open SphereFace-20 as to run it, for it copies the 90 MB of weights
    several times. Of a file they are mapped instead, by a net that names them where they lie.

    Parameters
    ----------
    model : Model
    outputs : sequence of str

    Raises
    ------
    BackendError
        ONNX Runtime is missing, or cannot open the model.
    """

    def __init__(self, model: Model, outputs: Sequence[str]) -> None:
        onnxruntime = import_onnxruntime()
        self._outputs, self._what = list(outputs), f"ONNX Runtime {onnxruntime.__version__} failed on {model.where}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _NOTHING_BELOW_FATAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = usable_cores()
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")

        def opened(source: bytes | str) -> Any:
            with under_way:
                return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

        if isinstance(model.source, Path):
            folder = str(model.source.absolute().parent)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            with suppress(Exception):  # links and old versions: opened as others are
                self._session = opened(_mapped(model.source))
                return
        try:
            self._session = opened(model.source if isinstance(model.source, bytes) else str(model.source))
        except Exception as error:  # its exceptions have no base of their own
            raise backend_error(self._what, error) from None

    def run(self, feeds: dict[str, FloatArray]) -> list[NDArray[np.generic]]:
        """Return the outputs; raises `BackendError`."""
        try:
            with under_way:
                answers: list[Any] = self._session.run(self._outputs, feeds)
        except Exception as error:
            raise backend_error(self._what, error) from None
        return answers


def _mapped(path: Path) -> bytes:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return without_weights(content, path.name)


def without_weights(model: Buffer, file: str) -> bytes:
    """Return a model whose large weights are named as parts of a file, in which they lie as they are.

    Parameters
    ----------
    model : bytes or mmap
        A serialised ONNX ModelProto.
    file : str
        Name of the file that holds it.
    """
    return b"".join(_replaced(model, (0, len(model)), _GRAPH, lambda span: _graph(model, span, file)))


def _graph(model: Buffer, span: Span, file: str) -> bytes:
    return b"".join(_replaced(model, span, _INITIALIZER, lambda one: _tensor(model, one, file)))


def _tensor(model: Buffer, span: Span, file: str) -> bytes:
    raw = next((part for number, part in messages(model, span) if number == _RAW), (0, 0))
    if raw[1] - raw[0] < _LARGE:
        return bytes(model[span[0] : span[1]])
    place = {"location": file, "offset": str(raw[0]), "length": str(raw[1] - raw[0])}
    told = [encode_bytes(_EXTERNAL, encode_bytes(1, key.encode()) + encode_bytes(2, value.encode()))
            for key, value in place.items()]  # fmt: skip
    rest = _replaced(model, span, _RAW, None)
    return b"".join((*rest, *told, _ELSEWHERE))


def _replaced(model: Buffer, span: Span, number: int, make: Any) -> Iterator[bytes]:
    """The parts of a message, the fields of one number made anew, or left out where nothing makes them."""
    at = span[0]
    for field in fields(model, span):
        if field.number == number:
            if make is not None:
                yield encode_bytes(number, make(field.span))
        else:
            yield bytes(model[at : field.end])
        at = field.end
