# ruff: noqa: D102 - these methods are documented where their interface is
"""InnerProduct: every output sees every input."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.params import BlobOrder, Shape


class InnerProduct(Layer):
    """Caffe's InnerProduct over all axes but the first."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, (count, *rest) = self.spec.param.inner_product_param, shapes[0]
        if settings.axis != 1 or settings.transpose or settings.normalize:
            raise self.spec.unsupported("only axis: 1, transpose: false and normalize: false are known")
        if settings.num_output < 1:
            raise self.spec.mistake("num_output must be at least 1")
        self.weight = self._param(0, settings.weight_filler, BlobOrder.dense(settings.num_output, tuple(rest)))
        order = BlobOrder.plain((settings.num_output,))
        self.bias = self._param(1, settings.bias_filler, order) if settings.bias_term else None
        self.length = math.prod(rest)
        return [(count, settings.num_output)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        x, xp = bottoms[0], self.backend.xp
        flat = xp.reshape(x, (x.shape[0], self.length))
        self._kept = (flat, x.shape)
        y = self.backend.matmul(flat, xp.matrix_transpose(self.weight.data))
        return [y if self.bias is None else y + self.bias.data]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, backend = self.backend.xp, self.backend
        dy = grads[0]
        assert dy is not None  # noqa: S101 - the net calls backward with a gradient for each top it needs
        flat, shape = self._take()
        if self.weight.trainable:
            self.weight.add_grad(backend, backend.matmul(xp.matrix_transpose(dy), flat))
        if self.bias is not None and self.bias.trainable:
            self.bias.add_grad(backend, xp.sum(dy, axis=0))
        if not needed[0]:
            return [None]
        return [xp.reshape(backend.matmul(dy, self.weight.data), shape)]
