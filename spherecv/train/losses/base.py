# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""What a loss is: an object that turns embeddings and their targets into a number, and back into a gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend.base import Array, Backend
from spherecv.train.params import BlobOrder, Param


@dataclass(frozen=True)
class LossValue:
    """What a forward pass of a loss gives.

    Attributes
    ----------
    value : float
    parts : dict of str to float
        What is worth a column in the log: lambda, the mean cosine, the share of active triplets.
    """

    value: float
    parts: dict[str, float] = field(default_factory=dict)


class Loss:
    """A loss on embeddings. `build` once, then `forward` and `backward` in turn.

    Attributes
    ----------
    name : str
        The layer under which its parameters are stored.
    layer_type : str
        What that layer calls itself.
    params : list of Param
        Empty for losses that learn nothing of their own.
    labels : bool
        Whether targets are whole-number labels; otherwise they are arrays of floating-point numbers.
    """

    name = "loss"
    layer_type = "InnerProduct"
    labels = True

    def __init__(self) -> None:
        self.params: list[Param] = []
        self.backend: Backend
        self._kept: Any = None

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        """Make the parameters for embeddings of `width` numbers."""
        self.backend = backend

    def forward(self, x: Array, target: Array) -> LossValue:
        """Return the loss of embeddings (count, width)."""
        raise NotImplementedError

    def backward(self, weight: float = 1.0) -> Array:
        """Return `weight` times the gradient of the embeddings, and add to that of the parameters."""
        raise NotImplementedError

    def imprint(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Start the class weights from the mean direction of each class's features, where there are such weights.

        A net that is trained already would unlearn while random class weights find their place. Weights that are
        rows of the features' width, one for each class, are class weights. Qi et al., "Low-Shot Learning with
        Imprinted Weights", CVPR 2018.

        Parameters
        ----------
        features : ndarray (count, width)
        labels : ndarray of int (count,)
            A class without a feature keeps its start value.
        """
        if not self.params or len(self.params[0].data.shape) != 2:
            return
        rows = np.array(self.backend.numpy(self.params[0].data), dtype=np.float64)
        if rows.shape[1:] != features.shape[1:] or labels.max(initial=0) >= len(rows):
            return
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        unit = features / np.where(lengths > 0, lengths, 1)
        for label in np.unique(labels):
            mean = unit[labels == label].mean(axis=0, dtype=np.float64)
            if np.linalg.norm(mean) > 0:
                rows[label] = mean / np.linalg.norm(mean)
        self.params[0].data = self.backend.asarray(rows)

    def state(self) -> dict[str, float]:
        """Return the numbers, beside the parameters, that a resumed run needs."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """Take back what `state` returned."""

    def _class_weights(self, classes: int, width: int, rng: np.random.Generator) -> Param:
        """Make one unit row per class, drawn evenly over the sphere."""
        if classes < 1:
            raise InvalidArgumentError(f"classes must be at least 1, but got {classes}")
        rows = rng.normal(size=(classes, width))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        param = Param(f"{self.name}/0", self.backend.asarray(rows), BlobOrder.plain((classes, width)))
        self.params = [param]
        return param

    def _take(self) -> Any:
        if self._kept is None:
            raise InvalidArgumentError("backward needs a forward pass before it")
        kept, self._kept = self._kept, None
        return kept


class WeightedSum(Loss):
    """Several losses on the same embeddings.

    Parameters
    ----------
    terms : sequence of (float, Loss)
        Each with its weight.
    """

    name = "sum"

    def __init__(self, terms: list[tuple[float, Loss]]) -> None:
        super().__init__()
        if not terms or len({loss.labels for _, loss in terms}) != 1:
            raise InvalidArgumentError("a sum needs losses, and all with the same kind of target")
        self.terms = terms
        self.labels = terms[0][1].labels

    def build(self, backend: Backend, width: int, rng: np.random.Generator) -> None:
        super().build(backend, width, rng)
        for index, (_, loss) in enumerate(self.terms):
            loss.name = f"{loss.name}{index or ''}"
            loss.build(backend, width, rng)
        self.params = [param for _, loss in self.terms for param in loss.params]

    def imprint(self, features: np.ndarray, labels: np.ndarray) -> None:
        for _, loss in self.terms:
            loss.imprint(features, labels)

    def forward(self, x: Array, target: Array) -> LossValue:
        values = [(weight, loss.forward(x, target)) for weight, loss in self.terms]
        parts: dict[str, float] = {}
        for (_, loss), (_, value) in zip(self.terms, values, strict=True):
            parts |= {loss.name: value.value, **value.parts}
        return LossValue(sum(weight * value.value for weight, value in values), parts)

    def backward(self, weight: float = 1.0) -> Array:
        total = None
        for share, loss in self.terms:
            term = loss.backward(weight * share)
            total = term if total is None else total + term
        return total

    def state(self) -> dict[str, float]:
        return {f"{loss.name}:{key}": value for _, loss in self.terms for key, value in loss.state().items()}

    def restore(self, state: dict[str, float]) -> None:
        for _, loss in self.terms:
            prefix = f"{loss.name}:"
            loss.restore({key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)})
