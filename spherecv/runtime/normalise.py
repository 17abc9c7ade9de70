"""Foreign ONNX models in the form that every runtime reads alike, made once and kept in the cache.

What the standard says is written out where runtimes disagree (padding by `auto_pad`, Softmax before opset 13, a PRelu
slope of one axis), weights are taken off the list of inputs, which keeps runtimes from folding them, and BatchNorm is
folded into the convolution or product beside it. Their weights that are all but 0, which slow processors down, become
0; a weight that is NaN or infinite is an error.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import ModelFileError, StorageError
from spherecv.files import cache_dir, keep_newest, known_sha256, write_bytes
from spherecv.runtime.backend import Model
from spherecv.runtime.signature import read_signature
from spherecv.runtime.variants import drop_tiny

_EDITION = "4"
"""Part of every entry's name: raise it with any change to what comes out."""
_MOST_ENTRIES = 16
_LARGEST = 1 << 30
"""Bytes of a model beyond which it is left as it is: a protobuf message ends at twice this."""
_SUFFIX = ".onnx-cache"
_POOLS = ("MaxPool", "AveragePool", "LpPool")
_SOFTMAXES = ("Softmax", "LogSoftmax", "Hardmax")
_PASSING = ("Dropout", "Identity")

Array = NDArray[np.float64]


def normalised(source: bytes | Path, where: str) -> tuple[bytes | Path, str]:
    """Return a model in its plain form, and the SHA-256 of the file as it came.

    Parameters
    ----------
    source : bytes or Path
        A serialised ONNX ModelProto.
    where : str
        What to call it in errors.

    Returns
    -------
    bytes or Path, str
        A file in the cache; bytes where there is no cache.

    Raises
    ------
    ModelFileError
        It cannot be parsed, or has weights that are NaN or infinite.
    """
    if isinstance(source, bytes):
        digest, size = hashlib.sha256(source).hexdigest(), len(source)
    else:
        digest, size = known_sha256(source), source.stat().st_size
    if size > _LARGEST:
        return source, digest
    return kept(digest, lambda: normalise(source if isinstance(source, bytes) else source.read_bytes(), where)), digest


def kept(key: str, make: Callable[[], bytes]) -> bytes | Path:
    """Return the file that is kept in the cache under a key, a file's SHA-256 to begin with; make it where none is."""
    folder = cache_dir() / "normalised"
    stem = f"{key}-{_EDITION}-"
    with suppress(OSError):
        for entry in folder.glob(f"{stem}*{_SUFFIX}"):
            if known_sha256(entry, own=True).startswith(entry.name[len(stem) : -len(_SUFFIX)]):
                return entry
            entry.unlink()
    model = make()
    digest = hashlib.sha256(model).hexdigest()
    entry = folder / f"{stem}{digest[:16]}{_SUFFIX}"
    try:
        write_bytes(entry, model)
        known_sha256(entry, own=True)
    except (StorageError, OSError):  # then it is made again the next time
        return model
    keep_newest(folder, _MOST_ENTRIES)
    return entry


def kept_form(model: Model, name: str, make: Callable[[bytes], bytes]) -> bytes | Path:
    """Return another form of a model, made once; its file is read and hashed only where that is not known."""
    source = model.source
    if isinstance(source, bytes):
        key = model.digest or hashlib.sha256(source).hexdigest()
        return kept(f"{key}-{name}", lambda: make(source))
    return kept(f"{model.digest or known_sha256(source)}-{name}", lambda: make(source.read_bytes()))


def normalise(model: bytes, where: str) -> bytes:
    """Return a model in its plain form; see the module."""
    import onnx
    from google.protobuf.message import DecodeError

    net = onnx.ModelProto()
    try:
        net.ParseFromString(model)
    except DecodeError as error:
        raise ModelFileError(f"{where} is not a whole ONNX model: {error}") from None
    read_signature(model, where)  # an error where its weights lie in another file
    graph = _Graph(net, where)
    graph.check_weights()
    if any(attribute.HasField("g") or attribute.graphs for node in net.graph.node for attribute in node.attribute):
        return model  # a graph within the graph may read any name
    graph.take_weights_off_inputs()
    graph.write_out()
    graph.fold()
    return graph.finished()


class _Graph:
    """A model that is being rewritten."""

    def __init__(self, net: Any, where: str) -> None:
        from onnx import helper

        self._net, self._where, self._helper = net, where, helper
        self.nodes = list(net.graph.node)
        self.weights = {tensor.name: tensor for tensor in net.graph.initializer}
        self._opset = next((one.version for one in net.opset_import if one.domain in ("", "ai.onnx")), 1)
        self._ends = {port.name for port in net.graph.output}
        self._known: dict[str, list[int | None]] | None = None

    def check_weights(self) -> None:
        """Refuse weights that are NaN or infinite; a single infinite number may be a bound."""
        from onnx import numpy_helper

        constants = [
            (node.output[0], attribute.t)
            for node in self.nodes if node.op_type == "Constant"
            for attribute in node.attribute if attribute.name == "value"
        ]  # fmt: skip
        plain = [
            (node.output[0], np.array(attribute.floats or [attribute.f], np.float32))
            for node in self.nodes if node.op_type == "Constant"
            for attribute in node.attribute if attribute.name in ("value_float", "value_floats")
        ]  # fmt: skip
        for name, tensor in [*self.weights.items(), *constants]:
            if tensor.data_type in (1, 10, 11):  # float, float16, double
                try:
                    plain.append((name, numpy_helper.to_array(tensor)))
                except (ValueError, TypeError) as error:
                    raise ModelFileError(f"{self._where}: the weights {name!r} are damaged: {error}") from None
        for name, values in plain:
            whole = np.isnan(values).any() or (values.size > 1 and not np.isfinite(values).all())
            if whole:
                raise ModelFileError(
                    f"{self._where} holds weights {name!r} that are NaN or infinite: its training blew up, or the file "
                    "is damaged; take another one"
                )

    def take_weights_off_inputs(self) -> None:
        """Before ONNX IR 4 weights were inputs too, which nobody feeds, and which runtimes may not fold."""
        graph = self._net.graph
        inputs = [_copy(port) for port in graph.input if port.name not in self.weights]
        if len(inputs) < len(graph.input):
            graph.ClearField("input")
            graph.input.extend(inputs)
            self._net.ir_version = max(self._net.ir_version, 4)

    def write_out(self) -> None:
        """Say in full what runtimes read differently."""
        self.nodes = [new for node in self.nodes for new in self._written(node)]

    def _written(self, node: Any) -> Iterator[Any]:
        kind, settings = node.op_type, _attributes(node)
        if node.domain not in ("", "ai.onnx"):
            yield node
        elif kind in ("Conv", "ConvTranspose", *_POOLS) and settings.get("auto_pad", b"NOTSET") != b"NOTSET":
            yield self._padded(node, settings)
        elif kind in ("MaxPool", "AveragePool") and settings.get("ceil_mode"):
            yield from self._whole_windows(node, settings)
        elif kind in _SOFTMAXES and self._opset < 13:
            yield from self._softmax(node, settings)
        elif kind == "Softplus":
            yield from self._softplus(node)
        elif kind == "Tanh" and self._opset >= 6:
            yield from self._tanh(node)
        elif kind == "PRelu":
            yield from self._prelu(node)
        elif kind == "Elu" and self._divides(node.input[0]):
            yield from self._elu(node)
        else:
            yield node

    def _padded(self, node: Any, settings: dict[str, Any]) -> Any:
        shape, kernel = self._shape(node.input[0]), self._kernel(node, settings)
        if kernel is None or shape is None or len(shape) != len(kernel) + 2:
            return node
        steps = settings.get("strides", [1] * len(kernel))
        spread = settings.get("dilations", [1] * len(kernel))
        spare = settings.get("output_padding", [0] * len(kernel))
        if node.op_type == "LpPool" and self._opset < 18:
            spread = [1] * len(kernel)
        mode, heads, tails = settings["auto_pad"], [], []
        if mode != b"VALID" and ("output_shape" in settings or set(spread) != {1}):
            return node  # of a pool with gaps ONNX Runtime reads another padding than the standard says
        for size, k, step, gap, extra in zip(shape[2:], kernel, steps, spread, spare, strict=True):
            reach = (k - 1) * gap + 1
            if mode == b"VALID":
                total = 0
            elif size is None:
                return node
            elif node.op_type == "ConvTranspose":
                total = step * (size - 1) + extra + reach - size * step
            else:
                total = max((math.ceil(size / step) - 1) * step + reach - size, 0)
            if total < 0:
                return node
            less, more = total // 2, total - total // 2
            heads.append(less if mode == b"SAME_UPPER" else more)
            tails.append(more if mode == b"SAME_UPPER" else less)
        made = _copy(node)
        for attribute in [one for one in made.attribute if one.name in ("auto_pad", "pads")]:
            made.attribute.remove(attribute)
        made.attribute.append(self._helper.make_attribute("pads", [*heads, *tails]))
        return made

    def _whole_windows(self, node: Any, settings: dict[str, Any]) -> Iterator[Any]:
        """Of sizes that are rounded up the last window is what the four answers differ in: say how far it reaches."""
        shape, kernel = self._shape(node.input[0]), settings["kernel_shape"]
        across = range(len(kernel))
        if shape is None or len(shape) != len(kernel) + 2 or None in shape[2:] or len(node.output) > 1:
            yield node
            return
        steps, spread = (settings.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
        pads = settings.get("pads", [0] * 2 * len(kernel))
        heads, ends = pads[: len(kernel)], pads[len(kernel) :]
        counted = bool(settings.get("count_include_pad")) and node.op_type == "AveragePool"
        if counted and any(pads) and self._opset < 11:
            yield node
            return
        reach = [(k - 1) * gap + 1 for k, gap in zip(kernel, spread, strict=True)]
        tails = []
        for axis in across:
            size, step = int(shape[axis + 2] or 0), steps[axis]
            count = math.ceil((size + heads[axis] + ends[axis] - reach[axis]) / step) + 1
            count -= (count - 1) * step >= size + heads[axis]  # no window starts beyond the image
            tails.append(max((count - 1) * step + reach[axis] - size - heads[axis], 0))
        if any(tail >= k for tail, k in zip(tails, kernel, strict=True)):
            yield node  # ONNX Runtime refuses as much, though gaps make the window wider
            return
        made, name = _copy(node), node.output[0]
        for attribute in [one for one in made.attribute if one.name in ("ceil_mode", "pads", "count_include_pad")]:
            made.attribute.remove(attribute)
        if counted and any(pads):
            by = self._constant(f"{name}/pads", np.array([0, 0, *heads, 0, 0, *ends], np.int64))
            yield self._helper.make_node("Pad", [node.input[0], by], [f"{name}/padded"])
            made.input[0] = f"{name}/padded"
            tails = [max(tail - end, 0) for tail, end in zip(tails, ends, strict=True)]
            heads = [0] * len(kernel)
        made.attribute.append(self._helper.make_attribute("pads", [*heads, *tails]))
        yield made

    def _kernel(self, node: Any, settings: dict[str, Any]) -> list[int] | None:
        if "kernel_shape" in settings:
            return list(settings["kernel_shape"])
        tensor = self.weights.get(node.input[1]) if len(node.input) > 1 else None
        return None if tensor is None else list(tensor.dims[2:])

    def _softmax(self, node: Any, settings: dict[str, Any]) -> Iterator[Any]:
        """Before opset 13: over all axes from `axis` on together."""
        shape, axis = self._shape(node.input[0]), settings.get("axis", 1)
        if shape is None:
            yield node
            return
        axis = axis + len(shape) if axis < 0 else axis
        if not shape or all(size == 1 for size in shape[axis + 1 :]):
            made = _copy(node)  # one axis alone
            for attribute in list(made.attribute):
                made.attribute.remove(attribute)
            made.attribute.append(self._helper.make_attribute("axis", axis))
            yield made
            return
        if any(size is None for size in shape[1:]) or (shape[0] is None and axis == 0):
            yield node
            return
        name = node.output[0]
        goal = self._constant(f"{name}/shape", np.array([-1, *shape[1:]], np.int64))
        make = self._helper.make_node
        yield make("Flatten", [node.input[0]], [f"{name}/flat"], axis=axis)
        yield make(node.op_type, [f"{name}/flat"], [f"{name}/rows"], axis=1)
        yield make("Reshape", [f"{name}/rows", goal], [name])

    def _tanh(self, node: Any) -> Iterator[Any]:
        """OpenCV 5.0 gives NaN for 45 and more; beyond 20 it is 1 in float32 anyway."""
        name = node.output[0]
        ends = [self._constant(f"{name}/{word}", np.float32(end)) for word, end in (("least", -20), ("most", 20))]
        make = self._helper.make_node
        if self._opset >= 11:
            yield make("Clip", [node.input[0], *ends], [f"{name}/cut"])
        else:
            yield make("Clip", [node.input[0]], [f"{name}/cut"], min=-20.0, max=20.0)
        yield make("Tanh", [f"{name}/cut"], [name])

    def _elu(self, node: Any) -> Iterator[Any]:
        """OpenCV 5.0 ends the process where Elu lies between a division and a product, which it takes for Celu."""
        between = f"{node.output[0]}/apart"
        yield self._helper.make_node("Identity", [node.input[0]], [between])
        apart = _copy(node)
        apart.input[0] = between
        yield apart

    def _divides(self, name: str) -> bool:
        return any(node.op_type == "Div" and name in node.output for node in self._net.graph.node)

    def _softplus(self, node: Any) -> Iterator[Any]:
        """OpenCV 5.0 gives infinity for 89 and more: max(x, 0) + log(1 + exp(-|x|)) is the same and has no such end."""
        name = node.output[0]
        make = self._helper.make_node
        yield make("Abs", [node.input[0]], [f"{name}/size"])
        yield make("Neg", [f"{name}/size"], [f"{name}/below"])
        yield make("Softplus", [f"{name}/below"], [f"{name}/bend"])
        yield make("Relu", [node.input[0]], [f"{name}/above"])
        yield make("Add", [f"{name}/above", f"{name}/bend"], [name])

    def _prelu(self, node: Any) -> Iterator[Any]:
        """A slope of one axis belongs to the last one, though some runtimes take it for the channels."""
        shape, slope = self._shape(node.input[0]), self.weights.get(node.input[1])
        plain = slope is None or shape is None or len(shape) < 2
        dims = [] if slope is None else list(slope.dims)
        if plain or math.prod(dims) == 1 or len(shape or ()) == len(dims) or (len(shape or ()) == 2):
            yield node
            return
        if len(dims) == len(shape or ()) - 1 and all(size == 1 for size in dims[1:]):
            # (C, 1, 1) of (N, C, H, W), as PyTorch writes it: all read that alike.
            yield node
            return
        name = node.output[0]
        values = self._values(node.input[1])
        full = values.reshape([1] * (len(shape or ()) - len(dims)) + dims)
        held = self._constant(f"{name}/slope", full.astype(np.float32))
        make = self._helper.make_node
        yield make("Relu", [node.input[0]], [f"{name}/above"])
        yield make("Neg", [node.input[0]], [f"{name}/negated"])
        yield make("Relu", [f"{name}/negated"], [f"{name}/below"])
        yield make("Mul", [f"{name}/below", held], [f"{name}/sloped"])
        yield make("Sub", [f"{name}/above", f"{name}/sloped"], [name])

    def fold(self) -> None:
        """Fold every BatchNorm that stands right after a convolution or product, or right before a product."""
        readers: dict[str, list[Any]] = {}
        makers = {}
        for node in self.nodes:
            makers.update(dict.fromkeys(node.output, node))
            for name in node.input:
                readers.setdefault(name, []).append(node)

        def alone(name: str) -> Any:
            found = readers.get(name, ())
            return found[0] if len(found) == 1 and name not in self._ends else None

        gone: set[int] = set()
        renamed: dict[str, str] = {}
        for norm in self.nodes:
            line = self._line(norm)
            if line is None:
                continue
            given = norm.input[0]
            maker = makers.get(given)
            if maker is not None and id(maker) not in gone and alone(given) is norm and self._fold_after(maker, line):
                gone.add(id(norm))
                maker.output[0] = norm.output[0]
                makers[norm.output[0]] = maker
                continue
            if self._fold_before(norm, line, alone):
                gone.add(id(norm))
                renamed[norm.output[0]] = given
                readers[given] = [one for one in readers[given] if one is not norm] + readers.get(norm.output[0], [])
        self.nodes = [node for node in self.nodes if id(node) not in gone]
        for node in self.nodes:
            for place, name in enumerate(node.input):
                while name in renamed:
                    name = renamed[name]
                node.input[place] = name

    def _line(self, norm: Any) -> tuple[Array, Array] | None:
        """Factor and term by channel of a BatchNorm of constants."""
        settings = _attributes(norm)
        if norm.op_type != "BatchNormalization" or settings.get("training_mode", 0) or settings.get("spatial", 1) != 1:
            return None
        if any(norm.output[1:]) or not all(name in self.weights for name in norm.input[1:5]):
            return None
        scale, bias, mean, variance = (self._values(name) for name in norm.input[1:5])
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(variance + settings.get("epsilon", 1e-5))
            term = bias - mean * factor
        return (factor, term) if np.isfinite(factor).all() and np.isfinite(term).all() else None

    def _fold_after(self, maker: Any, line: tuple[Array, Array]) -> bool:
        """Put a line by channel into the convolution or product that comes before it."""
        factor, term = line
        if maker.op_type not in ("Conv", "Gemm") or not self._own(maker):
            return False
        weights = self._values(maker.input[1])
        transposed = maker.op_type == "Conv" or _attributes(maker).get("transB", 0)
        if maker.op_type == "Gemm" and (not _plain_gemm(maker) or weights.ndim != 2):
            return False
        if weights.shape[0 if transposed else 1] != len(factor):
            return False
        bias = self._values(maker.input[2]).reshape(-1) if _has_bias(maker) else np.zeros(1)
        shaped = factor.reshape(-1, *[1] * (weights.ndim - 1)) if transposed else factor
        self._replace(maker, weights * shaped, np.broadcast_to(bias, factor.shape) * factor + term)
        return True

    def _fold_before(self, norm: Any, line: tuple[Array, Array], alone: Callable[[str], Any]) -> bool:
        """Put a line by channel into the product that comes after it, behind what only flattens."""
        factor, term = line
        reader = alone(norm.output[0])
        flat = False
        while reader is not None and reader.op_type in (*_PASSING, "Flatten"):
            if reader.op_type == "Flatten" and _attributes(reader).get("axis", 1) != 1:
                return False
            if any(reader.output[1:]):
                return False
            flat = flat or reader.op_type == "Flatten"
            reader = alone(reader.output[0])
        if reader is None or reader.op_type != "Gemm" or not _plain_gemm(reader) or not self._own(reader):
            return False
        weights = self._values(reader.input[1])
        transposed = bool(_attributes(reader).get("transB", 0))
        columns = weights if transposed else weights.T
        if columns.ndim != 2 or columns.shape[1] % len(factor) or (not flat and columns.shape[1] != len(factor)):
            return False
        times = columns.shape[1] // len(factor)
        bias = self._values(reader.input[2]).reshape(-1) if _has_bias(reader) else np.zeros(1)
        shift = columns @ np.repeat(term, times)
        scaled = columns * np.repeat(factor, times)
        self._replace(reader, scaled if transposed else scaled.T, np.broadcast_to(bias, shift.shape) + shift)
        return True

    def _own(self, node: Any) -> bool:
        """Whether weights and bias are float32 constants."""
        return all(name in self.weights and self.weights[name].data_type == 1 for name in node.input[1:] if name)

    def _replace(self, node: Any, weights: Array, bias: Array) -> None:
        name = node.output[0]
        node.input[1] = self._constant(f"{name}/folded weights", weights.astype(np.float32))
        held = self._constant(f"{name}/folded bias", bias.astype(np.float32))
        if len(node.input) > 2:
            node.input[2] = held
        else:
            node.input.append(held)

    def _values(self, name: str) -> Array:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.weights[name]), np.float64)

    def _constant(self, name: str, values: NDArray[Any] | np.float32) -> str:
        from onnx import numpy_helper

        self.weights[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def _shape(self, name: str) -> list[int | None] | None:
        if self._known is None:
            from onnx import shape_inference

            try:
                inferred = shape_inference.infer_shapes(self._net).graph
            except Exception:  # it has many ways to fail on a graph that runs
                inferred = self._net.graph
            ports = [*inferred.value_info, *inferred.input, *inferred.output]
            self._known = {
                port.name: [dim.dim_value or None for dim in port.type.tensor_type.shape.dim]
                for port in ports if port.type.tensor_type.HasField("shape")
            }  # fmt: skip
        return self._known.get(name)

    def finished(self) -> bytes:
        """The model with its new nodes, and without weights that nobody reads."""
        graph = self._net.graph
        read = self._ends | {name for node in self.nodes for name in node.input}
        nodes = [_copy(node) for node in self.nodes]
        kept = [_copy(tensor) for name, tensor in self.weights.items() if name in read]
        for field, entries in (("node", nodes), ("initializer", kept)):
            graph.ClearField(field)
            getattr(graph, field).extend(entries)
        drop_tiny(graph)
        graph.ClearField("value_info")
        return bytes(self._net.SerializeToString())


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _has_bias(node: Any) -> bool:
    return len(node.input) > 2 and bool(node.input[2])


def _plain_gemm(node: Any) -> bool:
    settings = _attributes(node)
    ones = settings.get("alpha", 1.0) == 1.0 and settings.get("beta", 1.0) == 1.0
    return ones and not settings.get("transA", 0)
