# ruff: noqa: D102 - these methods are documented where their interface is
"""Convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spherecv.caffe.graph import Layer as Spec
from spherecv.train.backend.base import Array
from spherecv.train.geometry import Pair, Window
from spherecv.train.layers.base import Layer
from spherecv.train.params import BlobOrder, Shape


class Convolution(Layer):
    """Caffe's Convolution with kernel, stride, pad, dilation and group.

    Attributes
    ----------
    ready : Any
        The weight as `prepared` returned it, where whoever runs the layer has called that before; used up by `forward`.
    """

    imagewise = True
    ready: Any = None

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        (count, height, width, channels), settings = shapes[0], self.spec.param.convolution_param
        self.window = window_of(self.spec)
        filters, group = settings.num_output, settings.group
        if filters < 1 or channels % group or filters % group:
            raise self.spec.mistake(f"{channels} channels and {filters} filters cannot be cut into {group} groups")
        order = BlobOrder.convolution(filters, channels // group, *self.window.kernel)
        self.weight = self._param(0, settings.weight_filler, order)
        self.bias = self._param(1, settings.bias_filler, BlobOrder.plain((filters,))) if settings.bias_term else None
        self.maps = shapes[0]
        return [(count, *self.window.output(height, width), filters)]

    def prepared(self) -> Any:
        """Return the weight in the form in which this shape's convolution wants it."""
        return self.backend.prepare_convolution(self.maps, self.weight.data, self.window)

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        ready = self.prepared() if self.ready is None else self.ready
        self.ready = None
        self._kept = (bottoms[0], ready)
        bias = None if self.bias is None else self.bias.data
        return [self.backend.convolve(bottoms[0], self.weight.data, bias, self.window, ready=ready)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        dy, (x, ready) = grads[0], self._take()
        need_x, need_weight = needed[0], self.weight.trainable
        dx, dweight = self.backend.convolve_backward(
            x, self.weight.data, dy, self.window, need_x=need_x, need_weight=need_weight, ready=ready
        )
        if dweight is not None:
            self.weight.add_grad(self.backend, dweight)
        if self.bias is not None and self.bias.trainable:
            xp = self.backend.xp
            dbias = self.backend.blocks(lambda part: xp.sum(part, axis=0), (dy,), news=0, sums=1)
            self.bias.add_grad(self.backend, dbias)
        return [dx]


def window_of(spec: Spec) -> Window:
    """Return the window a Convolution layer states, in any of Caffe's ways."""
    settings: Any = spec.param.convolution_param

    def pair(name: str, short: str, default: int) -> Pair:
        along = list(getattr(settings, name))
        if len(along) > 2:
            raise spec.unsupported(f"{name} has {len(along)} axes: only maps of two are known")
        if not along and hasattr(settings, f"{short}_h") and settings.HasField(f"{short}_h"):
            return (getattr(settings, f"{short}_h"), getattr(settings, f"{short}_w"))
        if not along:
            return (default, default)
        return (along[0], along[-1])

    kernel = pair("kernel_size", "kernel", 0)
    stride, dilation = pair("stride", "stride", 1), pair("dilation", "dilation", 1)
    if min(*kernel, *stride, *dilation, settings.group) < 1:
        raise spec.mistake("kernel_size, stride, dilation and group must be at least 1")
    return Window(kernel, stride, pair("pad", "pad", 0), dilation, settings.group)
