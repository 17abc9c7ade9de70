# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Convolution, Deconvolution and Im2col."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from spherecv.caffe.graph import Layer as Spec
from spherecv.train.axes import caffe_shape, internal_shape, to_caffe, to_internal
from spherecv.train.backend.base import Array
from spherecv.train.geometry import Window
from spherecv.train.layers.base import MANY, CaffeOrderLayer, Layer
from spherecv.train.params import BlobOrder, Param, Shape


class Kernel(Layer):
    """What convolutions over maps have in common: settings, weight, bias, and several bottoms through one kernel.

    Attributes
    ----------
    ready : Any
        The weight as `prepared` returned it, where whoever runs the layer has called that before; used up by `forward`.
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


class Sliding:
    """A window that slides over any number of axes, and the products that a convolution is made of.

    Parameters
    ----------
    kernel, stride, pad, dilation : tuple of int
        One for each axis.
    group : int
    """

    def __init__(self, kernel: Shape, stride: Shape, pad: Shape, dilation: Shape, group: int) -> None:
        self.kernel, self.stride, self.pad, self.dilation, self.group = kernel, stride, pad, dilation, group

    def window(self) -> Window:
        """Return the window over maps."""
        kernel, stride, pad, dilation = (
            (both[0], both[1]) for both in (self.kernel, self.stride, self.pad, self.dilation)
        )
        return Window(kernel, stride, pad, dilation, self.group)

    def output(self, sizes: Shape) -> Shape:
        """Return the sizes that a convolution makes; below 1 where the window does not fit."""
        axes = zip(sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple((size + 2 * pad - (step * (k - 1) + 1)) // stride + 1 for size, k, stride, pad, step in axes)

    def spread(self, sizes: Shape) -> Shape:
        """Return the sizes that a deconvolution makes."""
        axes = zip(sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple(stride * (size - 1) + step * (k - 1) + 1 - 2 * pad for size, k, stride, pad, step in axes)

    def taps(self, made: Shape) -> Iterator[tuple[Shape, tuple[slice, ...]]]:
        """Yield every tap of the kernel with the places of the padded axes that it meets."""
        for tap in itertools.product(*map(range, self.kernel)):
            axes = zip(tap, made, self.stride, self.dilation, strict=True)
            yield tap, tuple(slice(t * d, t * d + (out - 1) * s + 1, s) for t, out, s, d in axes)

    def padded(self, xp: Any, x: Array, *, first: int = 1) -> Array:
        """Return an array with zeros around its axes from `first` on."""
        if not any(self.pad):
            return xp.asarray(x, copy=True)
        sizes = x.shape[first : first + len(self.pad)]
        around = [size + 2 * pad for size, pad in zip(sizes, self.pad, strict=True)]
        out = xp.zeros((*x.shape[:first], *around, *x.shape[first + len(sizes) :]), dtype=x.dtype)
        out[(*[slice(None)] * first, *self.inside(sizes), ...)] = x
        return out

    def inside(self, sizes: Shape) -> tuple[slice, ...]:
        """Return where in the padded axes the axes lie."""
        return tuple(slice(pad, pad + size) for pad, size in zip(self.pad, sizes, strict=True))

    def forward(self, xp: Any, x: Array, weight: Array) -> Array:
        """Convolve (outer, sizes..., channels) with a weight of Caffe's order."""
        padded, made = self.padded(xp, x), self.output(x.shape[1:-1])
        parts = []
        for channels, filters in self._groups(x.shape[-1], weight.shape[0]):
            total = None
            for tap, place in self.taps(made):
                term = xp.matmul(padded[(slice(None), *place, channels)], self._tap(xp, weight, filters, tap))
                total = term if total is None else total + term
            parts.append(total)
        return xp.concat(parts, axis=-1)

    def backward(self, xp: Any, x: Array, weight: Array, dy: Array) -> tuple[Array, Array]:
        """Return the gradients of what was convolved and of the weight."""
        padded, made = self.padded(xp, x), self.output(x.shape[1:-1])
        dpadded, dweight = xp.zeros_like(padded), xp.zeros_like(weight)
        for channels, filters in self._groups(x.shape[-1], weight.shape[0]):
            part = dy[..., filters]
            flat = xp.reshape(part, (-1, part.shape[-1]))
            for tap, place in self.taps(made):
                spot = (slice(None), *place, channels)
                columns = xp.reshape(padded[spot], (flat.shape[0], -1))
                dweight[(filters, slice(None), *tap)] = xp.matmul(xp.matrix_transpose(flat), columns)
                back = xp.matmul(part, xp.matrix_transpose(self._tap(xp, weight, filters, tap)))
                dpadded[spot] = dpadded[spot] + back
        return dpadded[(slice(None), *self.inside(x.shape[1:-1]), slice(None))], dweight

    def _tap(self, xp: Any, weight: Array, filters: slice, tap: Shape) -> Array:
        """Return one tap's matrix (channels, filters)."""
        return xp.matrix_transpose(weight[(filters, slice(None), *tap)])

    def _groups(self, channels: int, filters: int) -> Iterator[tuple[slice, slice]]:
        wide, deep = channels // self.group, filters // self.group
        for part in range(self.group):
            yield slice(part * wide, (part + 1) * wide), slice(part * deep, (part + 1) * deep)


def sliding_of(spec: Spec, axes: int) -> Sliding:
    """Return the window a layer with a convolution_param states, in any of Caffe's ways, over a number of axes."""
    settings: Any = spec.param.convolution_param

    def along(name: str, short: str, default: int) -> Shape:
        stated = tuple(getattr(settings, name))
        pair = [f"{short}_{side}" for side in "hw"] if short else []
        given = [field for field in pair if settings.HasField(field)]
        if given and (stated or axes != 2):
            raise spec.mistake(f"has {given[0]} " + (f"and {name}: keep one" if stated else f"for {axes} axes"))
        if given:
            return tuple(getattr(settings, field) for field in pair)
        if len(stated) not in (0, 1, axes):
            raise spec.mistake(f"{name} is given {len(stated)} times for {axes} axes")
        return (stated or (default,)) * axes if len(stated) < 2 else stated

    kernel, stride = along("kernel_size", "kernel", 0), along("stride", "stride", 1)
    pad, dilation = along("pad", "pad", 0), along("dilation", "", 1)
    if min(*kernel, *stride, *dilation, settings.group, 1) < 1:
        raise spec.mistake("kernel_size, stride, dilation and group must be at least 1")
    return Sliding(kernel, stride, pad, dilation, settings.group)
