"""Nets that are tested while another one learns, with its weights: Caffe's `test_iter` and `test_interval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.errors import InvalidArgumentError
from spherecv.train.feed import Batches, Feed
from spherecv.train.net import Net


@dataclass(frozen=True)
class TestResult:
    """What a test found.

    Attributes
    ----------
    loss : float
        The mean over batches.
    outputs : dict of str to array
        The net's outputs, each the mean over batches.
    """

    __test__ = False

    loss: float
    outputs: dict[str, npt.NDArray[Any]]

    def lines(self, losses: dict[str, float]) -> list[str]:
        """Return what Caffe's log says of it; `losses` are the weights of outputs that are losses."""
        found: list[str] = []
        for name, values in self.outputs.items():
            for value in np.ravel(values):
                weight = losses.get(name)
                note = "" if weight is None else f" (* {weight:g} = {weight * value:.6g} loss)"
                found.append(f"    Test net output #{len(found)}: {name} = {value:.6g}{note}")
        return found


class NetTest:
    """A net in phase TEST, and the batches that it is tested with.

    Parameters
    ----------
    net : Net
    batches : Batches
    feed : Feed
    iterations : int
        How many batches a test takes; the next test goes on where it ended.
    """

    def __init__(self, net: Net, batches: Batches, feed: Feed, iterations: int) -> None:
        self.net, self.batches, self.feed, self.iterations = net, batches, feed, iterations

    def run(self, learned: Net) -> TestResult:
        """Test with the weights that a net has learned."""
        self._take_weights(learned)
        loss, sums = 0.0, dict.fromkeys(self.net.outputs, np.zeros(()))
        for _ in range(self.iterations):
            inputs = self.feed.inputs(self.batches.next(), self.net.backend)
            outputs = self.net.forward(inputs, learn=False)
            loss += outputs.loss
            sums = {name: sums[name] + self.net.backend.numpy(outputs.blobs[name]) for name in sums}
        return TestResult(loss / self.iterations, {name: total / self.iterations for name, total in sums.items()})

    def _take_weights(self, learned: Net) -> None:
        known = {layer.name: layer for layer in learned.layers}
        for layer in self.net.layers:
            given = known[layer.name].params if layer.name in known else layer.params
            if [param.order.caffe for param in given] != [param.order.caffe for param in layer.params]:
                raise InvalidArgumentError(f"{layer.spec}: the net that learns has other weights under this name")
            for param, source in zip(layer.params, given, strict=True):
                if param.order == source.order:
                    param.data = source.data
                else:
                    param.from_caffe(self.net.backend, source.to_caffe(learned.backend))
