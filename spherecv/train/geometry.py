"""Shapes of sliding windows: how Caffe's convolution and pooling turn one map size into another."""

from __future__ import annotations

from dataclasses import dataclass

from spherecv.errors import ModelFileError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A convolution's window, each pair as (height, width).

    Attributes
    ----------
    kernel, stride, pad, dilation : pair of int
    group : int
        Input and output channels are cut into this many independent parts.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    group: int = 1

    def output(self, height: int, width: int) -> Pair:
        """Return the size of the output map; Caffe rounds down here (and up in pooling)."""
        sizes = []
        for size, kernel, stride, pad, dilation in zip(
            (height, width), self.kernel, self.stride, self.pad, self.dilation, strict=True
        ):
            reach = dilation * (kernel - 1) + 1
            out = (size + 2 * pad - reach) // stride + 1
            if size + 2 * pad < reach:
                raise ModelFileError(f"a window of {reach} does not fit into a padded map of {size + 2 * pad}")
            sizes.append(out)
        return sizes[0], sizes[1]

    @property
    def pointwise(self) -> bool:
        """Whether it is a plain product of channels, 1x1 without stride or padding."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.pad == (0, 0)

    @property
    def dense(self) -> bool:
        """Whether neither stride nor dilation nor groups are in play."""
        return self.stride == (1, 1) and self.dilation == (1, 1) and self.group == 1


@dataclass(frozen=True)
class PoolWindow:
    """A pooling's window, each pair as (height, width), with Caffe's way of rounding sizes."""

    kernel: Pair
    stride: Pair
    pad: Pair = (0, 0)
    ceil: bool = True

    def output(self, height: int, width: int) -> Pair:
        """Return the size of the output map: rounded up, but no window starts in the padding beyond the map."""
        sizes = []
        for size, kernel, stride, pad in zip((height, width), self.kernel, self.stride, self.pad, strict=True):
            span = size + 2 * pad - kernel
            if span < 0:
                raise ModelFileError(f"a pooling window of {kernel} does not fit into a padded map of {size + 2 * pad}")
            out = (-(-span // stride) if self.ceil else span // stride) + 1
            if pad and (out - 1) * stride >= size + pad:
                out -= 1
            sizes.append(out)
        return sizes[0], sizes[1]
