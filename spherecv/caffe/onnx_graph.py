"""An ONNX graph in the making: nodes and constants, and the model's bytes at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Opset 13 is read by every OpenCV from 4.10, ONNX Runtime from 1.6 and OpenVINO; nothing newer is needed.
OPSET = 13
IR_VERSION = 7

Attribute = int | float | Sequence[int]


@dataclass(frozen=True)
class _Node:
    operator: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Attribute]


class OnnxGraph:
    """Nodes and constants, named after the layer that they come from."""

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self._taken: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._layer = ""

    def begin(self, layer: str) -> None:
        """Name what follows after a layer."""
        self._layer = layer

    def reserve(self, names: Sequence[str]) -> None:
        """Keep names, of inputs and outputs, from being given to inner values."""
        self._taken.update(names)

    def node(self, operator: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Add a node and return the name of its one output."""
        output = self._fresh(operator)
        self._nodes.append(_Node(operator, output, tuple(inputs), output, attributes))
        return output

    def operator_of(self, value: str) -> str:
        """Return what computes a value; nothing for an input or a constant."""
        return next((node.operator for node in reversed(self._nodes) if node.output == value), "")

    def constant(self, array: npt.ArrayLike, label: str) -> str:
        """Add a constant and return its name."""
        name = self._fresh(label)
        self._constants[name] = np.asarray(array)
        return name

    def reshape(self, value: str, target: Sequence[int]) -> str:
        """Add a Reshape."""
        return self.node("Reshape", [value, self.constant(np.array(target, np.int64), "shape")])

    def slice(self, value: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int]) -> str:
        """Add a Slice of step one."""
        bounds = {"starts": starts, "ends": ends, "axes": axes}
        constants = [self.constant(np.array(numbers, np.int64), label) for label, numbers in bounds.items()]
        return self.node("Slice", [value, *constants])

    def gather(self, value: str, indices: npt.ArrayLike, axis: int) -> str:
        """Add a Gather of constant indices along an axis."""
        return self.node("Gather", [value, self.constant(np.array(indices, np.int64), "indices")], axis=axis)

    def name_output(self, value: str, output: str) -> None:
        """Give a value the name of a net's output, through an Identity."""
        self._nodes.append(_Node("Identity", output, (value,), output, {}))

    def _fresh(self, label: str) -> str:
        plain = name = f"{self._layer}/{label}"
        while name in self._taken:
            self._counts[plain] += 1
            name = f"{plain}_{self._counts[plain] + 1}"
        self._taken.add(name)
        return name

    def serialize(
        self,
        name: str,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, Sequence[int | str]],
        producer_version: str,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the model as bytes: equal graphs as equal bytes.

        Parameters
        ----------
        name : str
            Of the graph.
        inputs, outputs : dict of str to sequence of int or str
            Their float32 shapes; a size known only at run time is a name. Inputs that no node reads are left out.
        producer_version : str
            Stored in the model.
        metadata : dict of str to str, optional
            Stored in the model too.
        """
        from onnx import TensorProto, helper

        nodes = _live(_direct_outputs(self._nodes), outputs)
        read = {value for node in nodes for value in node.inputs}
        graph = helper.make_graph(
            [helper.make_node(n.operator, n.inputs, [n.output], name=n.name, **n.attributes) for n in nodes],
            name or "net",
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, inputs[key]) for key in inputs if key in read],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
        )
        model = helper.make_model(
            graph,
            producer_name="spherecv",
            producer_version=producer_version,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        for key, value in (metadata or {}).items():
            model.metadata_props.add(key=key, value=value)
        # The weights come last, and straight into the model: make_model copies the graph.
        for key, array in self._constants.items():
            if key not in read:
                continue
            tensor = model.graph.initializer.add(name=key, dims=array.shape)
            tensor.data_type = TensorProto.INT64 if array.dtype == np.int64 else TensorProto.FLOAT
            little = array.astype("<i8" if array.dtype == np.int64 else "<f4", copy=False)
            tensor.raw_data = np.ascontiguousarray(little).tobytes()
        return bytes(model.SerializeToString(deterministic=True))


def _live(nodes: Sequence[_Node], outputs: Iterable[str]) -> list[_Node]:
    """Return the nodes that some output needs. A blob that only gave Crop its size, for one, is not needed."""
    needed, live = set(outputs), []
    for node in reversed(nodes):
        if node.output in needed:
            needed.update(node.inputs)
            live.append(node)
    return live[::-1]


def _direct_outputs(nodes: Sequence[_Node]) -> list[_Node]:
    """Let the node that computes a value carry the output's name, and drop the Identity where one name is enough."""
    made = {node.output for node in nodes}
    renamed: dict[str, str] = {}
    for node in nodes:
        if node.operator == "Identity" and node.inputs[0] in made and node.inputs[0] not in renamed:
            renamed[node.inputs[0]] = node.output
    direct = []
    for node in nodes:
        if node.operator == "Identity" and renamed.get(node.inputs[0]) == node.output:
            continue
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        output = renamed.get(node.output, node.output)
        direct.append(_Node(node.operator, node.name, inputs, output, node.attributes))
    return direct
