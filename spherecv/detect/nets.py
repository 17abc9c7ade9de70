"""Nets of the cascade: one copy for each worker, outputs by what they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import ModelFileError
from spherecv.runtime.devices import usable_cores
from spherecv.runtime.forks import renew

FloatArray = NDArray[np.float32]

_CHANNELS = {"scores": 2, "offsets": 4, "points": 10}


class Net(Protocol):
    """What the cascade needs of a `spherecv.runtime.Session`."""

    def run(self, inputs: FloatArray, /) -> dict[str, FloatArray]:
        """Take `(N, 3, H, W)`; give the named outputs."""


class Outputs(NamedTuple):
    """What a net of the cascade says of N images, or of N maps of squares."""

    scores: FloatArray
    offsets: FloatArray
    points: FloatArray


class NetPool:
    """Copies of one net, made when they are first needed, so that several threads can run it side by side.

    There are at most as many as cores: with more, nothing is faster, and each holds the buffers of the largest image.

    Parameters
    ----------
    load : callable
        Makes a copy.
    name : str
        What messages call the net.
    wanted : tuple of str
        Which of `scores`, `offsets` and `points` it must give.
    """

    def __init__(self, load: Callable[[], Net], name: str, wanted: tuple[str, ...]) -> None:
        self._load = load
        self._name = name
        self._wanted = wanted
        self._channels = {_CHANNELS[one] for one in wanted}
        self._most = usable_cores()
        self._free = threading.Condition()
        self._idle = [load()]
        self._made = 1
        renew(self)

    def forked(self) -> None:
        """Begin again in a child process, where the copies that were at work never come back."""
        self._free = threading.Condition()
        self._made = len(self._idle)

    def run(self, pictures: FloatArray) -> Outputs:
        """Run an idle copy, or a new one; where there are as many as cores, the next that is idle.

        Raises
        ------
        ModelFileError
            The net does not give what this net of MTCNN must give.
        """
        net = self._taken()
        try:
            outputs = net.run(pictures)
        finally:
            self._give_back(net)
        by_channels = {array.shape[1]: array for array in outputs.values() if array.ndim >= 2}
        if not self._channels <= by_channels.keys():
            missing = [name for name in self._wanted if _CHANNELS[name] not in by_channels]
            shapes = {name: array.shape for name, array in outputs.items()}
            raise ModelFileError(f"this is not the {self._name} of MTCNN: no {', '.join(missing)} among {shapes}")
        nothing = np.empty((len(pictures), 0), np.float32)
        return Outputs(*(by_channels.get(channels, nothing) for channels in _CHANNELS.values()))

    def _taken(self) -> Net:
        with self._free:
            while not self._idle and self._made >= self._most:
                self._free.wait()
            if self._idle:
                return self._idle.pop()  # the one used last: the others' buffers may lie still
            self._made += 1
        try:
            return self._load()
        except BaseException:
            with self._free:
                self._made -= 1
                self._free.notify()
            raise

    def _give_back(self, net: Net) -> None:
        with self._free:
            self._idle.append(net)
            self._free.notify()
