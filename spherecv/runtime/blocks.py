"""Weights stored as blocks of small integers, resolved to floating point before a backend sees the model.

`DequantizeLinear` with a `block_size` (ONNX opset 21) keeps one scale and one zero point for each block of a weight
along one axis: y = (x - zero_point) scale. OpenCV 5.0 and OpenVINO 2026.4 refuse it. Such files are made to be small,
not to compute in integers: resolved, they are ordinary models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import ModelFileError
from spherecv.runtime.signature import Signature


def has_blocks(signature: Signature) -> bool:
    """Whether a model holds weights in blocks."""
    return any(node.operator == "DequantizeLinear" and node.integer("block_size", 0) > 0 for node in signature.nodes)


def resolve_blocks(model: bytes, where: str) -> bytes:
    """Return a model with its block-quantised weights as float32.

    Parameters
    ----------
    model : bytes
        A serialised ONNX ModelProto.
    where : str
        What to call the model in errors.

    Returns
    -------
    bytes
        The same graph without those nodes, without the reshaping of what they gave, and without inputs that only
        stood for the weights before they were quantised.

    Raises
    ------
    ModelFileError
        Blocks are not of constants, or do not fit.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model)
    except DecodeError as error:
        raise ModelFileError(f"{where} is not a whole ONNX model: {error}") from None
    graph = proto.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    resolved: dict[str, NDArray[Any]] = {}
    kept = []
    for node in graph.node:
        settings = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "DequantizeLinear" and settings.get("block_size", 0) > 0:
            missing = [name for name in node.input if name not in stored]
            if missing:
                raise ModelFileError(f"{where}: blocks of {missing[0]!r}, which is no constant, cannot be resolved")
            values = [numpy_helper.to_array(stored[name]) for name in node.input]
            resolved[node.output[0]] = _dequantized(values, settings.get("axis", 1), settings["block_size"], where)
        elif node.op_type == "Reshape" and node.input[0] in resolved and node.input[1] in stored:
            shape = numpy_helper.to_array(stored[node.input[1]])
            resolved[node.output[0]] = _reshaped(resolved[node.input[0]], shape, settings.get("allowzero", 0), where)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input} | {output.name for output in graph.output}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    tensors += [numpy_helper.from_array(values, name) for name, values in resolved.items() if name in used]
    inputs = [port for port in graph.input if port.name not in resolved and port.name in used]
    for field, entries in (("node", kept), ("initializer", tensors), ("input", inputs)):
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)
    return bytes(proto.SerializeToString())


def _dequantized(values: list[NDArray[Any]], axis: int, block: int, where: str) -> NDArray[np.float32]:
    """Return (x - zero_point) scale, with each scale and zero point repeated over its block."""
    whole, scale, *rest = values
    axis = axis + whole.ndim if axis < 0 else axis
    blocks = tuple(-(-size // block) if place == axis else size for place, size in enumerate(whole.shape))
    if not 0 <= axis < whole.ndim or scale.shape != blocks or any(part.shape != blocks for part in rest):
        raise ModelFileError(
            f"{where}: scales of shape {scale.shape} do not fit blocks of {block} along axis {axis} of {whole.shape}"
        )
    length = whole.shape[axis]

    def spread(part: NDArray[Any]) -> NDArray[np.float32]:
        return np.repeat(part, block, axis=axis).take(range(length), axis=axis).astype(np.float32)

    centred = whole.astype(np.float32) - (spread(rest[0]) if rest else np.float32(0))
    return np.asarray(centred * spread(scale), dtype=np.float32)


def _reshaped(values: NDArray[Any], shape: NDArray[Any], allow_zero: int, where: str) -> NDArray[Any]:
    sizes = [int(size) for size in shape]
    if not allow_zero:  # then 0 means the size that is there
        sizes = [values.shape[place] if size == 0 and place < values.ndim else size for place, size in enumerate(sizes)]
    try:
        return values.reshape(sizes)
    except ValueError:
        raise ModelFileError(f"{where}: weights of shape {values.shape} cannot have the shape {sizes}") from None
