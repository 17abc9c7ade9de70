"""The tail of a model: what runs after its net because ONNX has no word for it, in NumPy or in further nets.

A converted Caffe net may end in layers like DetectionOutput, whose number of results depends on the numbers. They
travel in the model's bytes, as JSON under the key `spherecv.tail` of the ONNX file's metadata, so that other programs
can still run the file: they get what the net gives, a Session gives what the tail makes of it.

The JSON has `inputs`, the shapes of those that only the tail reads, `outputs`, the blob behind the name of each that
the model gives, `head`, the blobs that the net itself gives, and `steps`, in the order in which they run. A step reads
and makes blobs by name: `function` with `settings` and `arrays` is one of `spherecv.runtime.steps` or one that was
registered, `onnx` is a net, and `constant` an array. Arrays and nets are in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from spherecv.errors import BackendError, ModelFileError, SphereCVError
from spherecv.runtime.backend import FloatArray
from spherecv.runtime.signature import FLOAT, Port
from spherecv.runtime.steps import FUNCTIONS, Function

_MOST_AXES = 32


@dataclass(frozen=True)
class _Step:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[list[FloatArray]], Sequence[FloatArray]]


class Net(Protocol):
    """What runs a net of the tail: a Session is one."""

    inputs: Mapping[str, Any]

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the outputs by name."""


class Tail:
    """The steps that make the model's outputs from what its net gives.

    Parameters
    ----------
    text : str
        The JSON.
    where : str
        What to call the model in errors.

    Attributes
    ----------
    inputs : tuple of Port
        What only the tail reads.
    outputs : tuple of str
        The names of all that the model gives.

    Raises
    ------
    ModelFileError
        The JSON is damaged, or names a function that is not registered.
    """

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        try:
            content = json.loads(text)
            self.inputs = tuple(Port(name, FLOAT, tuple(map(_dim, dims))) for name, dims in content["inputs"].items())
            self._outputs = dict(content["outputs"])
            self.outputs = tuple(_words(list(self._outputs)))
            _words(list(self._outputs.values()))
            self._head = frozenset(_words(content["head"]))
            self._parts = [(tuple(_words(part["inputs"])), tuple(_words(part["outputs"])), part)
                           for part in content["steps"]]  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged(error) from None
        self._steps: list[_Step] = []

    def open(self, wanted: Sequence[str], net: Callable[[bytes, Sequence[str]], Net]) -> tuple[str, ...]:
        """Make ready what the outputs wanted need, and return the names of what the model's own net must give.

        Parameters
        ----------
        wanted : sequence of str
            Outputs of the model.
        net : callable
            Loads an ONNX model from bytes, for some of its outputs.
        """
        needed = {self._outputs[name] for name in wanted}
        steps = []
        for inputs, outputs, part in reversed(self._parts):
            used = [name for name in outputs if name in needed]
            if used:
                needed.update(inputs)
                try:
                    steps.append(_Step(inputs, outputs, self._runner(part, inputs, outputs, used, net)))
                except (ValueError, KeyError, TypeError, binascii.Error) as error:
                    raise self._damaged(error) from None
        self._steps = steps[::-1]
        return tuple(sorted(needed & self._head))

    def run(self, values: dict[str, FloatArray], wanted: Sequence[str]) -> dict[str, FloatArray]:
        """Return the outputs wanted, from the model's inputs and what its net gave."""
        values = dict(values)
        try:
            for step in self._steps:
                made = step.run([values[name] for name in step.inputs])
                if len(made) < len(step.outputs):
                    raise ValueError(f"a step made {len(made)} of {len(step.outputs)} blobs")
                values.update(zip(step.outputs, made, strict=False))  # of two tops the second may be left out
            return {name: np.array(values[self._outputs[name]], np.float32, order="C") for name in wanted}
        except SphereCVError:
            raise
        except KeyError as error:
            raise ModelFileError(f"the tail of {self._where} reads a blob {error} that nothing makes") from None
        except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
            raise BackendError(f"the tail of {self._where} failed: {error}") from error

    def _runner(
        self,
        part: Mapping[str, Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
        used: Sequence[str],
        net: Callable[[bytes, Sequence[str]], Net],
    ) -> Callable[[list[FloatArray]], Sequence[FloatArray]]:
        if "constant" in part:
            constant = _array(part["constant"])
            return lambda _: [constant]
        if "onnx" in part:
            session = net(base64.b64decode(part["onnx"], validate=True), used)

            def run_net(arrays: list[FloatArray]) -> list[FloatArray]:
                given = dict(zip(inputs, arrays, strict=True))
                # A blob that a layer reads for its size alone, as Crop does, is no input of the net.
                made = session.run({name: given[name] for name in session.inputs})
                return [made.get(name, np.empty(0, np.float32)) for name in outputs]

            return run_net
        name = str(part["function"])
        function: Function | None = FUNCTIONS.get(name)
        if function is None:
            raise ModelFileError(
                f"{self._where} ends in a layer of type {name[:80]!r}, which this program does not know: call "
                "spherecv.caffe.register for it before the model is opened"
            )
        chosen, settings, weights = function, dict(part["settings"]), [_array(array) for array in part["arrays"]]
        return lambda arrays: chosen(arrays, settings, weights)

    def _damaged(self, error: Exception) -> ModelFileError:
        reason = f"{type(error).__name__} {str(error)[:100]}"
        return ModelFileError(f"the tail of {self._where} is damaged ({reason}): convert the model again")


def _dim(size: object) -> int | str:
    if not isinstance(size, int | str) or (isinstance(size, int) and size < 1):
        raise TypeError("sizes must be numbers from 1 or names")
    return size


def _words(names: object) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("names must be a list of strings")
    return names


def _array(stored: Mapping[str, Any]) -> FloatArray:
    shape = tuple(int(size) for size in stored["shape"])
    numbers = np.frombuffer(base64.b64decode(stored["float32"], validate=True), "<f4")
    if len(shape) > _MOST_AXES or math.prod(shape) != numbers.size or min(shape, default=1) < 0:
        raise ValueError(f"an array of shape {shape[:4]} holds {numbers.size} numbers")
    return numbers.reshape(shape)
