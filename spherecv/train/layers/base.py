"""What a layer is: shapes once, then forward and backward as often as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spherecv.caffe.graph import Layer as Spec
from spherecv.train.backend.base import Array, Backend
from spherecv.train.fillers import fill
from spherecv.train.params import BlobOrder, Param, Shape


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
    shared : dict of str to Param
        Parameters that a `param { name: ... }` block names: layers that name the same one share it.
    """

    backend: Backend
    rng: np.random.Generator
    train: bool = True
    exact_margin: bool = False
    shared: dict[str, Param] = field(default_factory=dict)


class Layer:
    """One layer of a net.

    A layer keeps between `forward` and `backward` what the gradient needs, and drops it afterwards. Maps are
    (images, height, width, channels) arrays, everything else is as in Caffe.

    Parameters
    ----------
    spec : spherecv.caffe.graph.Layer
        Name, bottoms, tops and settings.
    context : Context
    """

    differentiable = True  # False where no gradient goes to the bottoms: accuracy, data
    imagewise = False  # True where an image's tops depend on that image's bottoms alone, and on no chance

    def __init__(self, spec: Spec, context: Context) -> None:
        self.spec = spec
        self.name = spec.name
        self.context = context
        self.backend = context.backend
        self.params: list[Param] = []
        self._kept: Any = None

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Make the parameters for bottoms of these shapes and return the shapes of the tops."""
        raise NotImplementedError

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        """Return the tops."""
        raise NotImplementedError

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        """Return the bottoms' gradients (None where not needed) and add to those of the parameters."""
        raise NotImplementedError

    def state(self) -> dict[str, float]:
        """Return the numbers, beside the parameters, that a resumed run needs."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
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
        stated = specs[index] if index < len(specs) else None
        name = stated.name if stated is not None else ""
        if name in self.context.shared:
            param = self.context.shared[name]
            if param.order != order:
                raise self.spec.mistake(f"shares {name!r}, which is {param.order.caffe}, but needs {order.caffe}")
            self.params.append(param)
            return param
        lr_mult, decay_mult = (1.0, 1.0) if stated is None else (stated.lr_mult, stated.decay_mult)
        start = fill(order.caffe, filler, self.context.rng) if value is None else np.full(order.caffe, value)
        data = self.backend.asarray(order.to_internal(start))
        param = Param(f"{self.name}/{index}", data, order, lr_mult, decay_mult, learned=learned)
        if name:
            self.context.shared[name] = param
        self.params.append(param)
        return param
