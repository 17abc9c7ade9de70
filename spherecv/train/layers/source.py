# ruff: noqa: D102 - these methods are documented where their interface is
"""Layers without bottoms: DummyData and Parameter."""

from __future__ import annotations

from collections.abc import Sequence

from spherecv.caffe.spherecv_caffe_pb2 import FillerParameter
from spherecv.train.axes import internal_shape
from spherecv.train.backend.base import Array
from spherecv.train.fillers import fill
from spherecv.train.layers.base import MANY, Layer
from spherecv.train.params import BlobOrder, Shape


class DummyData(Layer):
    """Blobs of constants, or of random numbers that are drawn again in every pass."""

    takes = (0, 0)
    gives = (1, MANY)
    differentiable = False

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:  # noqa: ARG002
        settings, count = self.spec.param.dummy_data_param, len(self.spec.tops)
        old = [list(getattr(settings, name)) for name in ("num", "channels", "height", "width")]
        stated = [tuple(shape.dim) for shape in settings.shape] or list(zip(*old, strict=False))
        if settings.shape and any(old):
            raise self.spec.mistake("has shape, and num, channels, height or width: keep one kind")
        if len({len(sizes) for sizes in old}) != 1 or len(stated) not in (1, count):
            raise self.spec.mistake(f"gives {len(stated)} shapes for {count} tops: give one, or one for each")
        fillers = list(settings.data_filler)
        if len(fillers) not in (0, 1, count):
            raise self.spec.mistake(f"gives {len(fillers)} fillers for {count} tops: give one, or one for each")
        # Caffe's filler of a DummyData without one is the constant 0, a FillerParameter's own default.
        fillers = (fillers or [FillerParameter()]) * (count if len(fillers) < 2 else 1)
        stated = stated * (count if len(stated) == 1 else 1)
        if any(size < 1 for shape in stated for size in shape):
            raise self.spec.mistake(f"has a shape of sizes below 1: {stated}")
        self.orders = [_order(shape) for shape in stated]
        self.fillers = fillers
        self.constants = [
            self._filled(place) if filler.type == "constant" else None for place, filler in enumerate(fillers)
        ]
        return [order.internal for order in self.orders]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:  # noqa: ARG002
        return [self._filled(place) if constant is None else constant for place, constant in enumerate(self.constants)]

    def _filled(self, place: int) -> Array:
        order = self.orders[place]
        return self.backend.asarray(order.to_internal(fill(order.caffe, self.fillers[place], self.context.rng)))


class Parameter(Layer):
    """A learnable blob as the top.

    Its gradient is the top's: in Caffe both are one memory, so that with `iter_size` the last batch's gradient alone is
    left, and so it is here.
    """

    takes = (0, 0)

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:  # noqa: ARG002
        shape = tuple(self.spec.param.parameter_param.shape.dim)
        if any(size < 1 for size in shape):
            raise self.spec.mistake(f"has a shape of sizes below 1: {shape}")
        order = _order(shape)
        # Caffe fills it with nothing but zeros; weights come from a file.
        self.blob = self._param(0, FillerParameter(), order)
        return [internal_shape(shape)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:  # noqa: ARG002
        data = self.blob.data
        return [self.backend.xp.reshape(data, internal_shape(self.blob.order.caffe))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:  # noqa: ARG002
        if self.blob.trainable and grads[0] is not None:
            self.blob.grad = self.backend.xp.reshape(grads[0], self.blob.data.shape)
        return []


def _order(shape: Shape) -> BlobOrder:
    """Return the order of a blob that is handed on as a top: channels last where it has four axes."""
    if len(shape) != 4:
        return BlobOrder.plain(shape)
    return BlobOrder(shape, shape, (0, 2, 3, 1), internal_shape(shape))
