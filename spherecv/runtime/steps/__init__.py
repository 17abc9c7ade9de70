"""What a model's tail can compute in NumPy, by name; one module for each kind of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.runtime.steps.detection import detection_output
from spherecv.runtime.steps.proposal import proposal
from spherecv.runtime.steps.recurrent import lstm, lstm_unit, rnn
from spherecv.runtime.steps.regions import psroi_pooling, roi_pooling
from spherecv.runtime.steps.selection import (
    argmax,
    batch_reindex,
    embed,
    filter_items,
    max_pool_with_mask,
    max_unpool,
    reduction,
)

__all__ = ["FUNCTIONS", "Function"]

Function = Callable[
    [Sequence[NDArray[np.float32]], Mapping[str, Any], Sequence[NDArray[np.float32]]], Sequence[NDArray[np.float32]]
]
"""Takes the inputs, the settings and the weights, and returns the outputs: new float32 arrays."""

FUNCTIONS: dict[str, Function] = {
    "ArgMax": argmax,
    "BatchReindex": batch_reindex,
    "DetectionOutput": detection_output,
    "Embed": embed,
    "Filter": filter_items,
    "LSTM": lstm,
    "LSTMUnit": lstm_unit,
    "MaxPoolWithMask": max_pool_with_mask,
    "MaxUnPool": max_unpool,
    "PSROIPooling": psroi_pooling,
    "Proposal": proposal,
    "RNN": rnn,
    "ROIPooling": roi_pooling,
    "Reduction": reduction,
}
