# ruff: noqa: D102 - these methods are documented where their interface is
"""Losses between blobs: EuclideanLoss, SmoothL1Loss, SigmoidCrossEntropyLoss, ContrastiveLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spherecv.caffe.spherecv_caffe_pb2 import LossParameter
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import CaffeOrderLayer
from spherecv.train.params import Shape


class DifferenceLoss(CaffeOrderLayer):
    """What losses of a difference have in common: two bottoms of one size, with opposite gradients."""

    takes = (2, 2)
    is_loss = True

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        first, second = shapes[:2]
        if not first or first[:1] != second[:1] or math.prod(first) != math.prod(second):
            raise self.spec.mistake(f"needs two bottoms of one size, but got {first} and {second}")
        return [()]

    def difference(self, bottoms: Sequence[Array]) -> Array:
        """Return the first minus the second as (images, numbers)."""
        rows = [self.backend.real(self.backend.xp.reshape(x, (x.shape[0], -1))) for x in bottoms[:2]]
        self._shapes = [bottom.shape for bottom in bottoms]
        return rows[0] - rows[1]

    def shared(self, slope: Array, needed: Sequence[bool]) -> list[Array | None]:
        """Return the bottoms' gradients, from that of their difference."""
        pairs = zip((slope, -slope), self._shapes, needed, strict=False)
        return [self.backend.xp.reshape(part, shape) if need else None for part, shape, need in pairs]


class EuclideanLoss(DifferenceLoss):
    """Half the mean over images of the squared distance."""

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        self._kept = self.difference(bottoms)
        return [self.backend.xp.sum(self._kept * self._kept) / (2 * self._kept.shape[0])]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        difference = self._take()
        return self.shared(difference * (grads[0] / difference.shape[0]), needed)


class SmoothL1Loss(DifferenceLoss):
    """The mean over images of d^2 / 2 where |d| < 1 and |d| - 1/2 elsewhere, summed: SSD's.

    Source: Girshick, "Fast R-CNN", ICCV 2015. A third bottom has factors for the differences.
    """

    takes = (2, 3)

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, difference = self.backend.xp, self.difference(bottoms)
        if len(bottoms) == 3:
            if math.prod(bottoms[2].shape) != math.prod(difference.shape):
                raise self.spec.mistake(f"its weights have shape {bottoms[2].shape}: one for each difference is needed")
            difference = difference * xp.reshape(bottoms[2], difference.shape)
        size = xp.abs(difference)
        self._kept = difference
        return [xp.sum(xp.where(size < 1, 0.5 * difference * difference, size - 0.5)) / difference.shape[0]]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp, difference = self.backend.xp, self._take()
        one = xp.ones_like(difference)
        slope = xp.maximum(-one, xp.minimum(difference, one)) * (grads[0] / difference.shape[0])
        return [*self.shared(slope, needed[:2]), *[None] * (len(needed) - 2)]


class SigmoidCrossEntropyLoss(CaffeOrderLayer):
    """-(t log s(x) + (1 - t) log(1 - s(x))), summed and divided by what `normalization` says: the images by default."""

    takes = (2, 2)
    ungraded: tuple[int, ...] = (1,)
    is_loss = True

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        if not shapes[0] or math.prod(shapes[0]) != math.prod(shapes[1]):
            raise self.spec.mistake(f"needs two bottoms of one size, but got {shapes[0]} and {shapes[1]}")
        settings = self.spec.param.loss_param
        self.kind = settings.normalization if settings.HasField("normalization") else LossParameter.BATCH_SIZE
        if not settings.HasField("normalization") and settings.normalize:
            self.kind = LossParameter.VALID
        self.ignored = settings.ignore_label if settings.HasField("ignore_label") else None
        return [()]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, backend, x = self.backend.xp, self.backend, bottoms[0]
        target = backend.real(xp.reshape(bottoms[1], x.shape))
        counted = xp.ones_like(x)
        if self.ignored is not None:
            counted = xp.astype(xp.astype(target, xp.int64) != self.ignored, x.dtype)
        sizes = {
            LossParameter.FULL: float(math.prod(x.shape)),
            LossParameter.BATCH_SIZE: float(x.shape[0]),
            LossParameter.NONE: 1.0,
        }
        divisor = max(1.0, float(xp.sum(counted)) if self.kind == LossParameter.VALID else sizes[self.kind])
        zero = xp.zeros_like(x)
        terms = xp.maximum(x, zero) - x * target + xp.log1p(xp.exp(-xp.abs(x)))
        self._kept = (0.5 * xp.tanh(0.5 * x) + 0.5 - target, counted, divisor)
        return [xp.sum(xp.where(counted > 0, terms, zero)) / divisor]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:  # noqa: ARG002
        xp, (slope, counted, divisor) = self.backend.xp, self._take()
        return [xp.where(counted > 0, slope, xp.zeros_like(slope)) * (grads[0] / divisor), None]


class ContrastiveLoss(CaffeOrderLayer):
    """Half the mean of d^2 for pairs that belong together and of max(0, margin - d)^2 for others.

    Source: Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006; with
    `legacy_version` others count with max(0, margin - d^2).
    """

    takes = (3, 3)
    is_loss = True

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        first, second, same = shapes
        settings = self.spec.param.contrastive_loss_param
        self.margin, self.legacy = float(settings.margin), settings.legacy_version
        wide = len(first) < 2 or math.prod(first[2:]) != 1
        if wide or math.prod(second) != math.prod(first) or second[:1] != first[:1] or math.prod(same) != first[0]:
            raise self.spec.mistake(f"needs two bottoms (N, D) and one (N), but got {first}, {second} and {same}")
        return [()]

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, backend = self.backend.xp, self.backend
        a, b = (xp.reshape(x, (x.shape[0], -1)) for x in bottoms[:2])
        same = xp.astype(backend.whole(xp.reshape(bottoms[2], (-1,))) != 0, a.dtype)
        difference = a - b
        square = xp.sum(difference * difference, axis=1)
        distance, zero = xp.sqrt(square), xp.zeros_like(square)
        left = xp.maximum(self.margin - (square if self.legacy else distance), zero)
        apart = left if self.legacy else left * left
        # Caffe keeps the slope finite where two that should differ are equal.
        pull = xp.astype(left > 0, a.dtype) * (-1.0 if self.legacy else -left / (distance + 1e-4))
        self._kept = (difference, same + (1 - same) * pull, [bottom.shape for bottom in bottoms[:2]])
        return [xp.sum(same * square + (1 - same) * apart) / (2 * a.shape[0])]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:  # noqa: ARG002
        xp, (difference, factor, shapes) = self.backend.xp, self._take()
        slope = difference * (factor * (grads[0] / difference.shape[0]))[:, None]
        return [xp.reshape(slope, shapes[0]), xp.reshape(-slope, shapes[1]), None]
