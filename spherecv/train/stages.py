# ruff: noqa: D102 - a lane stage's methods are documented where it comes from
"""How a net's layers are walked through: all images at once, or every lane with its own share of them.

Where lanes meet, the one that is done early waits for the other. Layers that look at each image by itself need no
meeting: a run of them is one `LaneStage`, and lanes meet at its ends only.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from spherecv.train.backend.base import Array, Backend
from spherecv.train.layers.base import Layer
from spherecv.train.layers.convolution import Convolution
from spherecv.train.params import Param, Shape

Blobs = dict[str, Array]


class Stage:
    """Consecutive layers, run one after the other on all images.

    Parameters
    ----------
    layers : sequence of Layer
        With every blob name made once.
    backend : Backend
    """

    def __init__(self, layers: Sequence[Layer], backend: Backend) -> None:
        self.layers, self.backend = list(layers), backend
        self.makes = {top for layer in layers for top in layer.spec.tops}
        self.reads = {bottom for layer in layers for bottom in layer.spec.bottoms} - self.makes
        last = {name: index for index, layer in enumerate(layers) for name in (*layer.spec.bottoms, *layer.spec.tops)}
        self._last: list[list[str]] = [[] for _ in layers]
        for name, index in last.items():
            self._last[index].append(name)

    def forward(self, blobs: Blobs, keep: Collection[str], *, learn: bool) -> None:
        """Add what the layers make to the blobs, and drop what is read for the last time and not to be kept."""
        for layer, done in zip(self.layers, self._last, strict=True):
            tops = layer.forward([blobs[name] for name in layer.spec.bottoms])
            if not learn:
                layer.forget()
            blobs.update(zip(layer.spec.tops, tops, strict=True))
            del tops
            for name in done:
                if name not in keep:
                    blobs.pop(name, None)

    def backward(self, due: Blobs, needs: Collection[str]) -> None:
        """Turn the gradients that are due of what the layers make into those of what they read."""
        for layer in reversed(self.layers):
            arriving = [due.pop(top, None) for top in layer.spec.tops]
            needed = layer.needed(needs)
            learns = any(param.trainable for param in layer.params)
            if not layer.differentiable and any(needed) and any(grad is not None for grad in arriving):
                raise layer.spec.unsupported("it has no gradient: put propagate_down: false, or no loss after it")
            if all(grad is None for grad in arriving) or not (any(needed) or learns) or not layer.differentiable:
                layer.forget()
                continue
            leaving = layer.backward(arriving, needed)
            del arriving
            for name, need, grad in zip(layer.spec.bottoms, needed, leaving, strict=True):
                if need and grad is not None:
                    due[name] = self.backend.add(due[name], grad) if name in due else grad
            del leaving

    def forget(self) -> None:
        """Drop what was kept for a backward pass that will not come."""
        for layer in self.layers:
            layer.forget()


class LaneStage(Stage):
    """Consecutive layers that look at each image by itself: every lane carries its images through all of them.

    Each lane has twins of the layers, which share the parameters; gradients of parameters are added up in the order of
    the lanes, not of their completion, so that the same lanes give the same bits.

    Parameters
    ----------
    layers : sequence of Layer
    backend : Backend
        With several lanes.
    shapes : dict of str to tuple of int
        The shape of each blob; the number of images may be another.
    """

    def __init__(self, layers: Sequence[Layer], backend: Backend, shapes: Mapping[str, Shape]) -> None:
        super().__init__(layers, backend)
        self._shapes = shapes
        self._convolutions = [index for index, layer in enumerate(layers) if isinstance(layer, Convolution)]
        self._totals = [[_Total() for _ in layer.params] for layer in layers]
        self._lanes = [
            Stage([_twin(layer, lane, own, totals) for layer, totals in zip(layers, self._totals, strict=True)], own)
            for lane, own in enumerate(backend.lane_backends())
        ]

    def forward(self, blobs: Blobs, keep: Collection[str], *, learn: bool) -> None:
        images = blobs[next(iter(self.reads))].shape[0]
        shares = self.backend.cut(images)
        made = [name for name in keep if name in self.makes]
        whole = {name: self.backend.empty((images, *self._shapes[name][1:])) for name in made}
        self._prepare()

        def work(lane: int) -> None:
            share = slice(shares[lane].start, shares[lane].stop)
            local = {name: blobs[name][share] for name in self.reads}
            self._lanes[lane].forward(local, made, learn=learn)
            for name in made:
                whole[name][share] = local.pop(name)

        self.backend.lanewise(work)
        blobs.update(whole)
        for name in self.reads:
            if name not in keep:
                blobs.pop(name, None)

    def backward(self, due: Blobs, needs: Collection[str]) -> None:
        arriving = {name: due.pop(name) for name in self.makes if name in due}
        if not arriving:
            self.forget()
            return
        images = next(iter(arriving.values())).shape[0]
        shares = self.backend.cut(images)
        whole = {name: self.backend.empty((images, *self._shapes[name][1:])) for name in self.reads if name in needs}
        for total in (total for totals in self._totals for total in totals):
            total.clear()

        def work(lane: int) -> set[str]:
            share = slice(shares[lane].start, shares[lane].stop)
            local = {name: grad[share] for name, grad in arriving.items()}
            self._lanes[lane].backward(local, needs)
            for name, grad in local.items():
                whole[name][share] = grad
            return set(local)

        reached = self.backend.lanewise(work)[0]
        arriving.clear()
        for name in sorted(reached):
            due[name] = self.backend.add(due[name], whole[name]) if name in due else whole[name]
        for layer, totals in zip(reversed(self.layers), reversed(self._totals), strict=True):
            for param, total in zip(layer.params, totals, strict=True):
                if total.value is not None:
                    param.add_grad(self.backend, total.value)
                    total.clear()

    def forget(self) -> None:
        for lane in self._lanes:
            lane.forget()

    def _prepare(self) -> None:
        """Bring the weights into the form that their kernels want: once for all lanes, each lane some of the layers."""
        bins: list[list[int]] = [[] for _ in self._lanes]
        sizes = {index: self.layers[index].params[0].data.size for index in self._convolutions}
        loads = [0] * len(bins)
        for index in sorted(sizes, key=lambda index: -sizes[index]):
            lane = loads.index(min(loads))
            bins[lane].append(index)
            loads[lane] += sizes[index]

        def work(lane: int) -> None:
            for index in bins[lane]:
                ready = self._lanes[lane].layers[index].prepared()  # type: ignore[attr-defined]
                for twins in self._lanes:
                    twins.layers[index].ready = ready  # type: ignore[attr-defined]

        self.backend.lanewise(work)


class _Total:
    """The sum of one array of every lane, added up in the order of the lanes as they come in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.value: Array | None = None
        self._next = 0
        self._early: dict[int, Array] = {}

    def add(self, lane: int, term: Array) -> None:
        with self._lock:
            self._early[lane] = term
            while self._next in self._early:
                term = self._early.pop(self._next)
                if self.value is None:
                    self.value = term
                else:
                    self.value += term
                self._next += 1


class _LaneParam:
    """A parameter as one lane sees it: the same values, and a gradient that goes to the sum over lanes."""

    def __init__(self, param: Param, lane: int, total: _Total) -> None:
        self._param, self._lane, self._total = param, lane, total

    @property
    def data(self) -> Array:
        return self._param.data

    @property
    def trainable(self) -> bool:
        return self._param.trainable

    def add_grad(self, backend: Backend, term: Array) -> None:  # noqa: ARG002 - the interface of Param
        self._total.add(self._lane, term)


def _twin(layer: Layer, lane: int, backend: Backend, totals: Sequence[_Total]) -> Layer:
    """Return a copy of a layer that computes in one lane and shares the layer's parameters."""
    own = {id(param): _LaneParam(param, lane, total) for param, total in zip(layer.params, totals, strict=True)}
    twin = copy.copy(layer)
    twin.backend = backend
    for name, value in vars(layer).items():
        if isinstance(value, Param):
            setattr(twin, name, own[id(value)])
    twin.params = [own[id(param)] for param in layer.params]  # type: ignore[misc]
    return twin


def stages_of(layers: Sequence[Layer], backend: Backend, shapes: Mapping[str, Shape], images: int) -> Iterator[Stage]:
    """Cut a net's layers into stages for a number of images.

    A lane stage has a convolution in it: for less, starting the lanes costs more than it gives.
    """
    if backend.lanes == 1 or images < backend.lanes:
        yield Stage(layers, backend)
        return
    waiting: list[Any] = []
    for imagewise, group in groupby(layers, key=lambda layer: layer.imagewise):
        run = list(group)
        counts = {shapes[name][:1] for layer in run for name in (*layer.spec.bottoms, *layer.spec.tops)}
        if imagewise and len(counts) == 1 and any(isinstance(layer, Convolution) for layer in run):
            if waiting:
                yield Stage(waiting, backend)
            waiting = []
            yield LaneStage(run, backend, shapes)
        else:
            waiting += run
    if waiting:
        yield Stage(waiting, backend)
