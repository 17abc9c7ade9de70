# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""InnerProduct, where every output sees every input, and Embed, a table of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from spherecv.train.axes import caffe_shape, internal_shape, to_caffe, to_internal
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import CaffeOrderLayer, Layer
from spherecv.train.params import BlobOrder, Shape


class InnerProduct(Layer):
    """Caffe's InnerProduct over all axes from `axis` on."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings, shape = self.spec.param.inner_product_param, shapes[0]
        first, outputs = self.axis(settings.axis, len(shape)), settings.num_output
        if outputs < 1:
            raise self.spec.mistake("num_output must be at least 1")
        outer, inner = caffe_shape(shape)[:first], caffe_shape(shape)[first:]
        self.first, self.length, self.transposed = first, math.prod(inner), settings.transpose
        # From the first axis on, the weight's columns take the order of the numbers in memory, and no map is moved.
        self.direct = first == 1
        columns = shape[1:] if self.direct else (self.length,)
        order = (BlobOrder.dense_transposed if self.transposed else BlobOrder.dense)(outputs, columns)
        self.weight = self._param(0, settings.weight_filler, order)
        plain = BlobOrder.plain((outputs,))
        self.bias = self._param(1, settings.bias_filler, plain) if settings.bias_term else None
        return [internal_shape((*outer, outputs))]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        x, xp = bottoms[0], self.backend.xp
        flat = xp.reshape(x if self.direct else to_caffe(xp, x), (-1, self.length))
        self._kept = (flat, x.shape)
        y = self.backend.matmul(flat, xp.matrix_transpose(self.weight.data))
        y = y if self.bias is None else y + self.bias.data
        outer = caffe_shape(x.shape)[: self.first]
        return [y if self.direct else to_internal(xp, xp.reshape(y, (*outer, y.shape[1])))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        xp, backend = self.backend.xp, self.backend
        dy = grads[0]
        assert dy is not None  # noqa: S101 - the net calls backward with a gradient for each top it needs
        flat, shape = self._take()
        if not self.direct:
            dy = xp.reshape(to_caffe(xp, dy), (flat.shape[0], -1))
        if self.weight.trainable:
            self.weight.add_grad(backend, backend.matmul(xp.matrix_transpose(dy), flat))
        if self.bias is not None and self.bias.trainable:
            self.bias.add_grad(backend, xp.sum(dy, axis=0))
        if not needed[0]:
            return [None]
        dx = backend.matmul(dy, self.weight.data)
        return [xp.reshape(dx, shape) if self.direct else to_internal(xp, xp.reshape(dx, caffe_shape(shape)))]


class Embed(CaffeOrderLayer):
    """The row of a learnt table for each whole number of the bottom, which has no gradient."""

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.embed_param
        rows, width = settings.input_dim, settings.num_output
        if rows < 1 or width < 1:
            raise self.spec.mistake("input_dim and num_output must be at least 1")
        self.weight = self._param(0, settings.weight_filler, BlobOrder.plain((rows, width)))
        plain = BlobOrder.plain((width,))
        self.bias = self._param(1, settings.bias_filler, plain) if settings.bias_term else None
        return [(*shapes[0], width)]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, backend, table = self.backend.xp, self.backend, self.weight.data
        wanted = backend.numpy(bottoms[0]).astype(np.int64)
        bad = wanted[(wanted < 0) | (wanted >= table.shape[0])]
        if bad.size:
            raise self.spec.mistake(f"asks for row {int(bad[0])} of {table.shape[0]}")
        index = backend.asindex(wanted.reshape(-1))
        self._kept = index
        y = xp.take(table, index, axis=0)
        y = y if self.bias is None else y + self.bias.data
        return [xp.reshape(y, (*wanted.shape, table.shape[1]))]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp, backend, index = self.backend.xp, self.backend, self._take()
        rows = xp.reshape(grads[0], (-1, self.weight.data.shape[1]))
        if self.weight.trainable:
            self.weight.add_grad(backend, backend.add_rows(backend.zeros(self.weight.data.shape), index, rows))
        if self.bias is not None and self.bias.trainable:
            self.bias.add_grad(backend, xp.sum(rows, axis=0))
        return [None]
