# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Convolution, Deconvolution and Im2col."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spherecv.train.axes import caffe_shape, internal_shape, to_caffe, to_internal
from spherecv.train.backend.base import Array
from spherecv.train.geometry import Window
from spherecv.train.layers.base import MANY, CaffeOrderLayer, Layer
from spherecv.train.layers.sliding import sliding_of
from spherecv.train.params import BlobOrder, Param, Shape


class Kernel(Layer):
    """What convolutions over maps have in common: settings, weight, bias, and several bottoms through one kernel.

    Attributes
    ----------
    ready : Any
        The weight as `prepared` returned it, where the caller has called that before; used up by `forward`.
    """

    takes = (1, MANY)
    gives = (1, MANY)
    imagewise = True
    ready: Any = None
    window: Window
    weight: Param
    bias: Param | None

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.convolution_param
        if len(set(shapes)) != 1 or len(shapes) != len(self.spec.tops):
            raise self.spec.mistake(f"needs bottoms of one shape, and as many tops, but got {list(shapes)}")
        shape = caffe_shape(shapes[0])
        axis = self.axis(settings.axis, len(shape))
        self.outer, channels, sizes = shape[:axis], shape[axis], shape[axis + 1 :]
        self.sliding = sliding_of(self.spec, len(sizes))
        filters, group = settings.num_output, settings.group
        if filters < 1 or channels % group or filters % group:
            raise self.spec.mistake(f"{channels} channels and {filters} filters cannot be cut into {group} groups")
        # Maps of images are what the backend has its own kernels for; anything else runs tap by tap.
        self.fast = len(shape) == 4 and axis == 1
        self.imagewise = self.fast
        if self.fast:
            self.window = self.sliding.window()
        self.maps = shapes[0]
        self.make_weight(channels, filters, group)
        self.bias = self._param(1, settings.bias_filler, BlobOrder.plain((filters,))) if settings.bias_term else None
        made = self.sizes(sizes)
        if min(made, default=1) < 1:
            raise self.spec.mistake(f"a kernel of {self.sliding.kernel} does not fit maps of {sizes}")
        return [internal_shape((*self.outer, filters, *made))] * len(shapes)

    def make_weight(self, channels: int, filters: int, group: int) -> None:
        """Make the first parameter."""
        raise NotImplementedError

    def sizes(self, sizes: Shape) -> Shape:
        """Return the sizes of the top's maps."""
        raise NotImplementedError

    def prepared(self) -> Any:
        """Return the weight in the form in which this shape's convolution wants it."""
        raise NotImplementedError

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        ready = None
        if self.fast:
            ready = self.prepared() if self.ready is None else self.ready
            self.ready = None
        self._kept = (list(bottoms), ready)
        return [self.one(bottom, ready) if self.fast else self._slow(bottom) for bottom in bottoms]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        bottoms, ready = self._take()
        xp = self.backend.xp
        out: list[Array | None] = []
        dweights: list[Array] = []
        dbiases: list[Array] = []
        for x, dy, need in zip(bottoms, grads, needed, strict=True):
            if dy is None:
                out.append(None)
                continue
            dx, dweight = self.one_back(x, dy, ready, need) if self.fast else self._slow_back(x, dy, need)
            out.append(dx)
            dweights.append(dweight)
            if self.bias is not None and self.bias.trainable:
                rows = dy if self.fast else self._rows(dy)
                dbiases.append(self.backend.blocks(lambda part: xp.sum(part, axis=0), (rows,), news=0, sums=1))
        # Once for all bottoms: a lane hands in each gradient once.
        if self.weight.trainable:
            self.weight.add_grad(self.backend, sum(dweights[1:], start=dweights[0]))
        if self.bias is not None and dbiases:
            self.bias.add_grad(self.backend, sum(dbiases[1:], start=dbiases[0]))
        return out

    def one(self, x: Array, ready: Any) -> Array:
        """Return the top of one bottom of maps."""
        raise NotImplementedError

    def one_back(self, x: Array, dy: Array, ready: Any, need: bool) -> tuple[Array | None, Array | None]:
        """Return the gradients of one bottom of maps and of the weight, each where it is needed."""
        raise NotImplementedError

    def _slow(self, bottom: Array) -> Array:
        x = self._rows(bottom)
        y = self.general(x)
        if self.bias is not None:
            y = y + self.bias.data
        return self._blob(y, bottom)

    def _slow_back(self, bottom: Array, grad: Array, need: bool) -> tuple[Array | None, Array]:
        dx, dweight = self.general_back(self._rows(bottom), self._rows(grad), need)
        return None if dx is None else self._blob(dx, bottom), dweight

    def general(self, x: Array) -> Array:
        """Return the top for any number of sliding axes: both (outer, sizes..., channels), without the bias."""
        raise NotImplementedError

    def general_back(self, x: Array, dy: Array, need: bool) -> tuple[Array | None, Array]:
        """Return the gradients of `general`'s argument, where it is needed, and of the weight."""
        raise NotImplementedError

    def _rows(self, blob: Array) -> Array:
        """Return a blob as (outer, sizes..., channels)."""
        xp = self.backend.xp
        blob = to_caffe(xp, blob)
        first = len(self.outer)
        whole = xp.reshape(blob, (math.prod(blob.shape[:first]), *blob.shape[first:]))
        return xp.permute_dims(whole, (0, *range(2, whole.ndim), 1))

    def _blob(self, rows: Array, like: Array) -> Array:
        """Undo `_rows`, with the outer axes of a blob."""
        xp = self.backend.xp
        rows = xp.permute_dims(rows, (0, rows.ndim - 1, *range(1, rows.ndim - 1)))
        outer = caffe_shape(like.shape)[: len(self.outer)]
        return to_internal(xp, xp.reshape(rows, (*outer, *rows.shape[1:])))


class Convolution(Kernel):
    """Caffe's Convolution with kernel, stride, pad, dilation and group, over any number of axes."""

    def make_weight(self, channels: int, filters: int, group: int) -> None:
        shape = (filters, channels // group, *self.sliding.kernel)
        order = BlobOrder.convolution(*shape) if self.fast else BlobOrder.plain(shape)
        self.weight = self._param(0, self.spec.param.convolution_param.weight_filler, order)

    def sizes(self, sizes: Shape) -> Shape:
        return self.sliding.output(sizes)

    def prepared(self) -> Any:
        return self.backend.prepare_convolution(self.maps, self.weight.data, self.window)

    def one(self, x: Array, ready: Any) -> Array:
        bias = None if self.bias is None else self.bias.data
        return self.backend.convolve(x, self.weight.data, bias, self.window, ready=ready)

    def one_back(self, x: Array, dy: Array, ready: Any, need: bool) -> tuple[Array | None, Array | None]:
        return self.backend.convolve_backward(
            x, self.weight.data, dy, self.window, need_x=need, need_weight=self.weight.trainable, ready=ready
        )

    def general(self, x: Array) -> Array:
        return self.sliding.forward(self.backend.xp, x, self.weight.data)

    def general_back(self, x: Array, dy: Array, need: bool) -> tuple[Array | None, Array]:
        dx, dweight = self.sliding.backward(self.backend.xp, x, self.weight.data, dy)
        return dx if need else None, dweight


class Deconvolution(Kernel):
    """The convolution's transpose: it runs forwards as a convolution's gradient of the maps, and backwards as one."""

    def make_weight(self, channels: int, filters: int, group: int) -> None:
        shape = (channels, filters // group, *self.sliding.kernel)
        order = BlobOrder.convolution(*shape) if self.fast else BlobOrder.plain(shape)
        self.weight = self._param(0, self.spec.param.convolution_param.weight_filler, order)
        self.filters = filters

    def sizes(self, sizes: Shape) -> Shape:
        self.made = self.sliding.spread(sizes)
        return self.made

    def prepared(self) -> Any:
        maps = (self.maps[0], *self.made, self.filters)
        return self.backend.prepare_convolution(maps, self.weight.data, self.window)

    def one(self, x: Array, ready: Any) -> Array:
        like = self.backend.empty((x.shape[0], *self.made, self.filters))
        y, _ = self.backend.convolve_backward(
            like, self.weight.data, x, self.window, need_x=True, need_weight=False, ready=ready
        )
        return y if self.bias is None else y + self.bias.data

    def one_back(self, x: Array, dy: Array, ready: Any, need: bool) -> tuple[Array | None, Array | None]:
        dweight = None
        if self.weight.trainable:
            _, dweight = self.backend.convolve_backward(dy, self.weight.data, x, self.window, need_x=False)
        dx = self.backend.convolve(dy, self.weight.data, None, self.window, ready=ready) if need else None
        return dx, dweight

    def general(self, x: Array) -> Array:
        like = self.backend.zeros((x.shape[0], *self.made, self.filters))
        return self.sliding.backward(self.backend.xp, like, self.weight.data, x)[0]

    def general_back(self, x: Array, dy: Array, need: bool) -> tuple[Array | None, Array]:
        dweight = self.sliding.backward(self.backend.xp, dy, self.weight.data, x)[1]
        return self.sliding.forward(self.backend.xp, dy, self.weight.data) if need else None, dweight


class Im2col(CaffeOrderLayer):
    """Each window as a column of channels."""

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        shape = shapes[0]
        axis = self.axis(self.spec.param.convolution_param.axis, len(shape))
        if axis != 1:
            raise self.spec.unsupported("only axis: 1 is known")
        self.sliding = sliding_of(self.spec, len(shape) - 2)
        self.made = self.sliding.output(shape[2:])
        if min(self.made, default=1) < 1:
            raise self.spec.mistake(f"a kernel of {self.sliding.kernel} does not fit maps of {shape[2:]}")
        return [(shape[0], shape[1] * math.prod(self.sliding.kernel), *self.made)]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, x = self.backend.xp, bottoms[0]
        self._kept = x.shape
        padded = self.sliding.padded(xp, x, first=2)
        columns = [padded[(slice(None), slice(None), *place)] for _, place in self.sliding.taps(self.made)]
        return [xp.reshape(xp.stack(columns, axis=2), (x.shape[0], -1, *self.made))]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp, shape = self.backend.xp, self._take()
        columns = xp.reshape(grads[0], (*shape[:2], math.prod(self.sliding.kernel), *self.made))
        padded = self.sliding.padded(xp, self.backend.zeros(shape), first=2)
        for index, (_, place) in enumerate(self.sliding.taps(self.made)):
            spot = (slice(None), slice(None), *place)
            padded[spot] = padded[spot] + columns[:, :, index, ...]
        return [padded[(slice(None), slice(None), *self.sliding.inside(shape[2:]))]]
