"""A training at rest: weights, history and counters, as a trainer gives and takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.caffe.spherecv_caffe_pb2 import NetParameter


@dataclass(frozen=True)
class Rest:
    """What resuming with the same bits needs, and Caffe's files have no field for.

    Attributes
    ----------
    next_batch : int
        The number of the batch that comes next.
    lanes, ranks : int
        CPU threads and processes: they decide in which order numbers are added.
    layers, loss : dict
        What layers and the loss count, such as lambda's t.
    rng : dict
        The state of the net's random numbers.
    recent : sequence of float
        The losses that the smoothed one is made of.
    exact : dict of str to array
        In double precision: ``data:NAME`` and ``history0:NAME``, ``history1:NAME`` of each parameter.
    settings : dict of str to str
        What the training was given, in words, to name what is changed on resuming; empty in older snapshots.
    """

    next_batch: int
    lanes: int
    ranks: int
    layers: Mapping[str, Any]
    loss: Mapping[str, Any]
    rng: Mapping[str, Any]
    recent: Sequence[float]
    exact: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    def changed(self, settings: Mapping[str, str]) -> list[str]:
        """Name the settings that are others now: ``base_lr 0.1 -> 0.01``."""
        both = ((name, before, settings.get(name, before)) for name, before in self.settings.items())
        return [f"{name} {_short(before)} -> {_short(now)}" for name, before, now in both if before != now]


def _short(value: str) -> str:
    """A solver's number as its prototxt has it: 0.0005, where the float of 32 bits is 0.0005000000237487257."""
    try:
        return value if value.isdecimal() else str(np.float32(value))
    except ValueError:
        return value


@dataclass(frozen=True)
class TrainingState:
    """Where a training is.

    Attributes
    ----------
    model : NetParameter
        The layers with their weights.
    history : sequence of array
        Of the solver, in Caffe's shapes: the first slot of every parameter, then the second one of every parameter.
    iteration : int
        How many updates there were.
    current_step : int
        The counter of the policies ``step`` and ``multistep`` at the last update.
    rest : Rest or None
        None in a snapshot that Caffe wrote.
    origin : str
        Where it comes from, for errors.
    """

    model: NetParameter
    history: Sequence[npt.NDArray[np.float32]]
    iteration: int
    current_step: int
    rest: Rest | None
    origin: str = "the state"
