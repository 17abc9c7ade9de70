# ruff: noqa: D102 - a view's methods are documented where they come from
"""Learnable arrays, and how their order in memory relates to Caffe's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from spherecv.train.backend.base import Array, Backend

Shape = tuple[int, ...]


@dataclass(frozen=True)
class BlobOrder:
    """Caffe's shape of a blob and the order of its axes here.

    Attributes
    ----------
    caffe : tuple of int
        The shape in files.
    split : tuple of int
        The same, with merged axes taken apart.
    axes : tuple of int
        The axes of `split` in our order.
    internal : tuple of int
        Our shape, after the axes have been put in order.
    """

    caffe: Shape
    split: Shape
    axes: Shape
    internal: Shape

    @classmethod
    def plain(cls, shape: Shape) -> BlobOrder:
        """Return the order of a blob that is stored as Caffe stores it; a number without axes has one here."""
        return cls(shape, shape, tuple(range(len(shape))), shape or (1,))

    @classmethod
    def convolution(cls, filters: int, channels: int, height: int, width: int) -> BlobOrder:
        """Return the order of a convolution's weight: filters last here, first in Caffe."""
        shape = (filters, channels, height, width)
        return cls(shape, shape, (2, 3, 1, 0), (height, width, channels, filters))

    @classmethod
    def dense(cls, filters: int, bottom: Shape) -> BlobOrder:
        """Return the order of an inner product's weight; over maps its columns run channel by channel in Caffe."""
        length = math.prod(bottom)
        if len(bottom) != 3:
            return cls.plain((filters, length))
        height, width, channels = bottom
        return cls((filters, length), (filters, channels, height, width), (0, 2, 3, 1), (filters, length))

    @classmethod
    def dense_transposed(cls, filters: int, bottom: Shape) -> BlobOrder:
        """Return the order of an inner product's weight that files hold with a row per input; a row per output here."""
        length = math.prod(bottom)
        if len(bottom) != 3:
            return cls((length, filters), (length, filters), (1, 0), (filters, length))
        height, width, channels = bottom
        return cls((length, filters), (channels, height, width, filters), (3, 1, 2, 0), (filters, length))

    def flat(self, xp: Any, values: Array) -> Array:
        """Return an array of our order as one row in Caffe's."""
        inner = xp.reshape(values, tuple(self.split[axis] for axis in self.axes))
        return xp.reshape(xp.permute_dims(inner, tuple(int(axis) for axis in np.argsort(self.axes))), (-1,))

    def unflat(self, xp: Any, row: Array) -> Array:
        """Undo `flat`."""
        return xp.reshape(xp.permute_dims(xp.reshape(row, self.split), self.axes), self.internal)

    def to_internal(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array of Caffe's order in ours."""
        return np.ascontiguousarray(values.reshape(self.split).transpose(self.axes)).reshape(self.internal)

    def to_caffe(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array of our order in Caffe's."""
        inner = values.reshape(tuple(self.split[axis] for axis in self.axes))
        return np.ascontiguousarray(inner.transpose(np.argsort(self.axes))).reshape(self.caffe)


@dataclass
class Param:
    """One learnable array.

    Attributes
    ----------
    name : str
        ``layer/0`` for the first blob of a layer.
    data : array
        In our order.
    order : BlobOrder
    lr_mult, decay_mult : float
        Factors on the solver's learning rate and weight decay; a rate of 0 freezes the array.
    grad : array or None
        What the backward passes since the last update have added up.
    learned : bool
        False for running statistics, which a solver never touches and a blob list still holds.
    """

    name: str
    data: Array
    order: BlobOrder
    lr_mult: float = 1.0
    decay_mult: float = 1.0
    grad: Array | None = field(default=None, repr=False)
    learned: bool = True

    @property
    def owner(self) -> Param:
        """The parameter that the solver sees: of several layers that share one, the first one's."""
        return self

    @property
    def trainable(self) -> bool:
        """Whether the solver changes it."""
        return self.learned and self.lr_mult != 0

    def add_grad(self, backend: Backend, term: Array) -> None:
        """Add a gradient to what is there."""
        if self.grad is None:
            self.grad = term
        else:
            self.grad = backend.add(self.grad, term)

    def to_caffe(self, backend: Backend) -> npt.NDArray[Any]:
        """Return the values in Caffe's shape and order."""
        return self.order.to_caffe(backend.numpy(self.data))

    def from_caffe(self, backend: Backend, values: npt.NDArray[Any]) -> None:
        """Take values in Caffe's order."""
        self.data = backend.asarray(self.order.to_internal(values))


class ParamView(Param):
    """Another layer's parameter in a shape or an order of its own, for layers that share it.

    Parameters
    ----------
    owner : Param
    order : BlobOrder
        With as many numbers as the owner has.
    backend : Backend
    """

    def __init__(self, owner: Param, order: BlobOrder, backend: Backend) -> None:
        self._owner, self.order, self._xp = owner, order, backend.xp
        self.name = owner.name

    @property
    def owner(self) -> Param:
        return self._owner

    @property
    def trainable(self) -> bool:
        return self._owner.trainable

    @property
    def lr_mult(self) -> float:
        return self._owner.lr_mult

    @lr_mult.setter
    def lr_mult(self, value: float) -> None:
        self._owner.lr_mult = value

    @property
    def data(self) -> Array:
        return self.order.unflat(self._xp, self._owner.order.flat(self._xp, self._owner.data))

    @data.setter
    def data(self, values: Array) -> None:
        self._owner.data = self._theirs(values)

    @property
    def grad(self) -> Array | None:
        grad = self._owner.grad
        return None if grad is None else self.order.unflat(self._xp, self._owner.order.flat(self._xp, grad))

    @grad.setter
    def grad(self, values: Array | None) -> None:
        self._owner.grad = None if values is None else self._theirs(values)

    def add_grad(self, backend: Backend, term: Array) -> None:
        self._owner.add_grad(backend, self._theirs(term))

    def _theirs(self, values: Array) -> Array:
        return self._owner.order.unflat(self._xp, self.order.flat(self._xp, values))
