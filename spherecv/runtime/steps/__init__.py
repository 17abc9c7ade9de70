"""What a model's tail can compute in NumPy, by name; one module for each kind of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.runtime.steps.detection import detection_output
from spherecv.runtime.steps.proposal import proposal

__all__ = ["FUNCTIONS", "Function"]

Function = Callable[
    [Sequence[NDArray[np.float32]], Mapping[str, Any], Sequence[NDArray[np.float32]]], Sequence[NDArray[np.float32]]
]
"""Takes the inputs, the settings and the weights, and returns the outputs: float32 arrays, made anew."""

FUNCTIONS: dict[str, Function] = {
    "DetectionOutput": detection_output,
    "Proposal": proposal,
}
