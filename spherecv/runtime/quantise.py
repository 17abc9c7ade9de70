"""int8 models: float32 ONNX to QDQ ONNX by ONNX Runtime's quantiser."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import BackendError, InvalidArgumentError, ModelFileError, SphereCVError
from spherecv.runtime.signature import Signature
from spherecv.runtime.variants import QUANTISED_KEY

_OPSET = 13
"""Below it DequantizeLinear knows no axis: the quantiser writes an invalid file for weights by channel, in silence."""
_OPERATORS = ("Conv", "Gemm", "Add")

Ranges = Mapping[str, tuple[float, float]]


def quantise(
    model: bytes, *, feeds: Iterable[NDArray[np.float32]] = (), ranges: Ranges | None = None, calibration: Any = None
) -> bytes:
    """Quantise a model: convolutions and products in int8, weights by channel, activations unsigned.

    Parameters
    ----------
    model : bytes
        Float32 ONNX with one input.
    feeds : iterable of ndarray of float32
        Batches of its input, to measure the ranges of activations on.
    ranges : mapping of str to (float, float), optional
        Ranges that were measured before, in place of `feeds`.
    calibration : JSON value, optional
        What the feeds were, for the metadata.

    Returns
    -------
    bytes
        QDQ ONNX of opset 13 or later, which every backend reads.

    Raises
    ------
    ModelFileError
        The model cannot be quantised.
    InvalidArgumentError
        Neither feeds nor ranges.
    BackendError
        onnxruntime.quantization is missing.
    """
    import onnx

    net = onnx.load_from_string(model)
    _prepare(net)
    with _quiet():
        try:
            measured = dict(_measured(net, feeds)) if ranges is None else dict(ranges)
            made = _quantised(net, measured)
        except ImportError as error:
            raise BackendError(f"onnxruntime.quantization cannot be imported: {error}") from None
        except SphereCVError:
            raise
        except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
            raise ModelFileError(f"the model cannot be quantised: {' '.join(str(error).split())[:200]}") from None
    told = {"calibration": calibration, "ranges": {name: list(ends) for name, ends in measured.items()}}
    entry = made.metadata_props.add()
    entry.key, entry.value = QUANTISED_KEY, json.dumps(told)
    return bytes(made.SerializeToString())


def ranges_of(signature: Signature) -> Ranges:
    """Read the ranges that `quantise` wrote into a model's metadata; empty for other models."""
    told = json.loads(signature.metadata.get(QUANTISED_KEY, "{}"))
    return {name: (float(low), float(high)) for name, (low, high) in told.get("ranges", {}).items()}


def _prepare(net: Any) -> None:
    """Bring a model into the form that the quantiser reads: weights off the inputs, named nodes, opset 13."""
    from onnx import version_converter

    graph = net.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [type(port).FromString(port.SerializeToString()) for port in graph.input if port.name not in weights]
    if len(inputs) != 1:
        raise ModelFileError(f"a model of {len(inputs)} inputs cannot be quantised, only of one")
    graph.ClearField("input")
    graph.input.extend(inputs)
    for number, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}-{number}"
    version = next((one.version for one in net.opset_import if one.domain in ("", "ai.onnx")), 1)
    if version < _OPSET:
        newer = version_converter.convert_version(net, _OPSET)
        net.CopyFrom(newer)


def _measured(net: Any, feeds: Iterable[NDArray[np.float32]]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Measure the least and largest value of every tensor that will be quantised."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    name = net.graph.input[0].name
    batches = iter(feeds)
    first = next(batches, None)
    if first is None:
        raise InvalidArgumentError("a model is quantised on images: give some to calibrate on")
    whole: NDArray[np.float32] = first

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        given = False

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            if not self.given:
                self.given = True
                return {name: whole}
            batch = next(batches, None)
            return None if batch is None else {name: batch}

    with tempfile.TemporaryDirectory(prefix="spherecv-") as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(net, str(path))
        calibrator = create_calibrator(
            path,
            list(_OPERATORS),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        for tensor, data in calibrator.compute_data().items():
            low, high = data.range_value
            yield tensor, (float(np.min(low)), float(np.max(high)))


def _quantised(net: Any, ranges: Ranges) -> Any:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    held = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantiser = QDQQuantizer(
        net, True, False, QuantType.QInt8, QuantType.QUInt8, TensorsData(CalibrationMethod.MinMax, held),
        [], _first_and_last(net), list(_OPERATORS), {},
    )  # fmt: skip
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    return quantiser.model.model


def _first_and_last(net: Any) -> list[str]:
    """Names of the first convolution and the last product, which stay in float32: a small share of the work.

    What is rounded in the first layer is wrong in all that follow, and the last one's output is the embedding.
    """
    products = [node.name for node in net.graph.node if node.op_type in ("Conv", "Gemm")]
    return [products[0], products[-1]] if len(products) > 2 else []


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice, which it gives through the root logger."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
