# ruff: noqa: D102 - the interface is documented once
"""What a layer is: shapes once, then forward and backward as often as wanted."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spherecv.caffe.graph import Layer as Spec
from spherecv.caffe.graph import fits_a_blob
from spherecv.caffe.spherecv_caffe_pb2 import ParamSpec
from spherecv.train.axes import caffe_shape, internal_shape, to_caffe, to_internal
from spherecv.train.backend.base import Array, Backend
from spherecv.train.fillers import fill
from spherecv.train.params import BlobOrder, Param, ParamView, Shape

MANY = 1 << 30  # as a number of bottoms or tops: however many
_MULTIPLIERS = ("lr_mult", "decay_mult")


@dataclass
class Shared:
    """A parameter that layers share by the name in their `param` blocks, and which multipliers one of them states."""

    param: Param
    stated: set[str]


@dataclass
class Context:
    """What all layers of a net share.

    Attributes
    ----------
    backend : Backend
    rng : numpy Generator
        Fills weights and draws dropout masks; its state is part of a snapshot.
    train : bool
        Whether dropout drops and batch normalisation uses the batch's own statistics.
    exact_margin : bool
        Whether margin layers give the true derivative instead of the released one.
    forced : bool
        Whether the net has `force_backward`, which passes gradients on where `propagate_down` says not to.
    shared : dict of str to Shared
        Parameters that a `param { name: ... }` block names: layers that name the same one share it.
    """

    backend: Backend
    rng: np.random.Generator
    train: bool = True
    exact_margin: bool = False
    forced: bool = False
    shared: dict[str, Shared] = field(default_factory=dict)


class Layer:
    """One layer of a net.

    A layer keeps between `forward` and `backward` what the gradient needs, and drops it afterwards. Maps are
    (images, height, width, channels) arrays, everything else is as in Caffe.

    Parameters
    ----------
    spec : spherecv.caffe.graph.Layer
        Name, bottoms, tops and settings.
    context : Context

    Raises
    ------
    PrototxtError
        The type takes or gives another number of blobs.
    """

    takes = (1, 1)  # the least and the greatest number of bottoms
    gives = (1, 1)  # and of tops
    ungraded: tuple[int, ...] = ()  # bottoms to which no gradient goes, such as labels
    is_loss = False  # True where the first top counts with loss_weight: 1 unless something else is stated
    differentiable = True  # False where no gradient goes to the bottoms: accuracy, data
    imagewise = False  # True where an image's tops depend on that image's bottoms alone, and on no chance

    def __init__(self, spec: Spec, context: Context) -> None:
        self.spec = spec
        self.name = spec.name
        self.context = context
        self.backend = context.backend
        self.params: list[Param] = []
        self._kept: Any = None
        for what, (least, most), names in (("bottom", self.takes, spec.bottoms), ("top", self.gives, spec.tops)):
            if not least <= len(names) <= most:
                wanted = str(least) if least == most else f"{least} to {most}" if most < MANY else f"{least} or more"
                raise spec.mistake(f"has {len(names)} {what}{'s' * (len(names) != 1)}, but takes {wanted}")

    def needed(self, needs: Collection[str]) -> list[bool]:
        """Return for each bottom whether its gradient is needed and, by `propagate_down`, wanted."""
        stated = () if self.context.forced else self.spec.param.propagate_down
        return [name in needs and (not stated or stated[place]) for place, name in enumerate(self.spec.bottoms)]

    def not_in_place(self) -> None:
        """Refuse to write over the bottom, for types for which Caffe does."""
        if list(self.spec.param.bottom) == list(self.spec.param.top):
            raise self.spec.mistake("does not work in place: give its top a name of its own")

    def axis(self, stated: int, rank: int, what: str = "axis") -> int:
        """Return an axis in Caffe's order, counted from 0; a negative one counts from the end."""
        if not -rank <= stated < rank:
            raise self.spec.mistake(f"{what} {stated} is not one of the {rank} axes")
        return stated % rank

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Make the parameters for bottoms of these shapes and return the shapes of the tops."""
        raise NotImplementedError

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        """Return the tops."""
        raise NotImplementedError

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        """Return the bottoms' gradients (None where not needed) and add to those of the parameters."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return the numbers, beside the parameters, that a resumed run needs."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""

    def forget(self) -> None:
        """Drop what was kept for a backward pass that will not come."""
        self._kept = None

    def _take(self) -> Any:
        kept, self._kept = self._kept, None
        return kept

    def _param(self, index: int, filler: Any, order: BlobOrder, *, learned: bool = True, value: Any = None) -> Param:
        """Make the layer's next parameter, with the multipliers its `param` block of the same index states."""
        specs = self.spec.param.param
        stated = specs[index] if index < len(specs) else ParamSpec()
        if not fits_a_blob(order.caffe):
            raise self.spec.mistake(f"needs a blob of {order.caffe}, which is more than Caffe's can hold")
        if stated.name in self.context.shared:
            param = self._shared(stated, order)
        else:
            start = fill(order.caffe, filler, self.context.rng) if value is None else np.full(order.caffe, value)
            data = self.backend.asarray(order.to_internal(start))
            name = f"{self.name}/{index}"
            param = Param(name, data, order, stated.lr_mult, stated.decay_mult, learned=learned)
            if stated.name:
                given = {multiplier for multiplier in _MULTIPLIERS if stated.HasField(multiplier)}
                self.context.shared[stated.name] = Shared(param, given)
        self.params.append(param)
        return param

    def _shared(self, stated: ParamSpec, order: BlobOrder) -> Param:
        """Return a parameter that an earlier layer made, by Caffe's rules of what may differ."""
        shared, name = self.context.shared[stated.name], stated.name
        owner = shared.param
        for multiplier in _MULTIPLIERS:
            if not stated.HasField(multiplier):
                continue
            value, before = getattr(stated, multiplier), getattr(owner, multiplier)
            if multiplier in shared.stated and value != before:
                raise self.spec.mistake(
                    f"shares {name!r} with {multiplier} {value:g}, but {before:g} was stated before"
                )
            setattr(owner, multiplier, value)
            shared.stated.add(multiplier)
        same = owner.order.caffe == order.caffe
        if stated.share_mode == ParamSpec.PERMISSIVE:
            same = math.prod(owner.order.caffe) == math.prod(order.caffe)
        if not same:
            raise self.spec.mistake(f"shares {name!r}, which is {owner.order.caffe}, but needs {order.caffe}")
        return owner if owner.order == order else ParamView(owner, order, self.backend)


class CaffeOrderLayer(Layer):
    """A layer that works on Caffe's order of axes: `shapes_of`, `run` and `back` see and give nothing else."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [internal_shape(shape) for shape in self.shapes_of([caffe_shape(shape) for shape in shapes])]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp = self.backend.xp
        tops = self.run([to_caffe(xp, bottom) for bottom in bottoms])
        self._made = [top.shape for top in tops]
        return [to_internal(xp, top) for top in tops]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp = self.backend.xp
        arriving = [
            self.backend.zeros(shape) if grad is None else to_caffe(xp, grad)
            for grad, shape in zip(grads, self._made, strict=True)
        ]
        leaving = self.back(arriving, needed)
        return [None if grad is None else to_internal(xp, grad) for grad in leaving]

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Make the parameters for bottoms of these shapes and return the shapes of the tops."""
        raise NotImplementedError

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        """Return the tops."""
        raise NotImplementedError

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        """Return the bottoms' gradients; a top that leads to no loss has one of zeros."""
        raise NotImplementedError
