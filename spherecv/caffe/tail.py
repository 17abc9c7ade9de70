"""Layers that run after the net, in NumPy, as they are written into a model: see `spherecv.runtime.tail`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spherecv.brief import brief
from spherecv.caffe.graph import Array


@dataclass(frozen=True)
class Step:
    """What a layer computes after the net.

    Attributes
    ----------
    function : str
        The name of a function in `spherecv.runtime.steps`, or of one that was registered.
    settings : dict
        For the function: numbers, strings, booleans, None, and lists and dicts of such.
    arrays : tuple of float32 arrays
        For the function: weights, mostly.
    """

    function: str
    settings: dict[str, Any] = field(default_factory=dict)
    arrays: tuple[Array, ...] = ()

    __repr__ = brief


class TailWriter:
    """Collects the steps of a tail and renders them as text."""

    def __init__(self) -> None:
        self._steps: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def function(self, step: Step, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Add a function."""
        arrays = [_stored(array) for array in step.arrays]
        self._add(inputs, outputs, function=step.function, settings=step.settings, arrays=arrays)

    def net(self, model: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Add a net, as ONNX."""
        self._add(inputs, outputs, onnx=base64.b64encode(model).decode())

    def constant(self, array: Array, output: str) -> None:
        """Add an array that is always the same."""
        self._add((), (output,), constant=_stored(array))

    def render(
        self, outputs: Mapping[str, str], head: Sequence[str], inputs: Mapping[str, Sequence[int | str]]
    ) -> str:
        """Return the tail as JSON.

        Parameters
        ----------
        outputs : dict of str to str
            The blob behind each output's name.
        head : sequence of str
            The blobs that the net itself gives.
        inputs : dict of str to sequence of int or str
            The shapes of the model's inputs that only the tail reads; a size known only at run time is a name.
        """
        sizes = {name: list(shape) for name, shape in inputs.items()}
        return json.dumps({"inputs": sizes, "outputs": dict(outputs), "head": list(head), "steps": self._steps})

    def _add(self, inputs: Sequence[str], outputs: Sequence[str], **work: object) -> None:
        self._steps.append({"inputs": list(inputs), "outputs": list(outputs), **work})


def _stored(array: Array) -> dict[str, Any]:
    little = np.ascontiguousarray(array, "<f4")
    return {"shape": list(array.shape), "float32": base64.b64encode(little.tobytes()).decode()}
