# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Layers at a net's end: SoftmaxWithLoss, Softmax, Accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spherecv.caffe.spherecv_caffe_pb2 import LossParameter
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import Layer
from spherecv.train.losses.angular import check_labels
from spherecv.train.losses.softmax import softmax
from spherecv.train.params import Shape

_LOWEST = float(np.log(np.finfo(np.float32).tiny))


class Softmax(Layer):
    """Probabilities over the channels."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        self._kept = softmax(self.backend.xp, bottoms[0])[0]
        return [self._kept]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        y, xp = self._take(), self.backend.xp
        dy = grads[0]
        return [y * (dy - xp.sum(dy * y, axis=-1, keepdims=True))]


class SoftmaxWithLoss(Layer):
    """The mean of -log p at the label, over (images, classes); `ignore_label` and `normalization` as in Caffe."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        if len(shapes) != 2 or len(shapes[0]) != 2:
            raise self.spec.mistake("needs two bottoms: scores of shape (images, classes), and labels")
        settings = self.spec.param.loss_param
        self.ignored = settings.ignore_label if settings.HasField("ignore_label") else None
        self.normalization = settings.normalization
        if not settings.HasField("normalization") and settings.HasField("normalize") and not settings.normalize:
            self.normalization = LossParameter.BATCH_SIZE
        self.classes = shapes[0][1]
        return [(), shapes[0]][: len(self.spec.tops)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        backend, xp = self.backend, self.backend.xp
        host = backend.numpy(bottoms[1]).reshape(-1)
        counted = np.ones(len(host)) if self.ignored is None else (host != self.ignored).astype(float)
        labels = np.where(counted > 0, host, 0)
        check_labels(labels, self.classes, str(self.spec))
        share = backend.asarray(counted / self._divisor(counted))
        probability, log_probability = softmax(xp, bottoms[0])
        index = backend.asindex(labels)
        self._kept = (probability, index, share)
        # Caffe takes the logarithm of no less than the smallest normal float: a loss that is stuck reads 87.3365.
        own = backend.pick(log_probability, index)
        own = xp.maximum(own, xp.full_like(own, _LOWEST))
        return [-xp.sum(own * share), probability][: len(self.spec.tops)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        probability, index, share = self._take()
        dscores = probability - self.backend.one_hot(index, self.classes)
        return [dscores * (share * grads[0])[:, None], None]

    def _divisor(self, counted: np.ndarray) -> float:
        if self.normalization == LossParameter.NONE:
            return 1.0
        if self.normalization == LossParameter.VALID:
            return max(1.0, float(counted.sum()))
        return float(len(counted))


class Accuracy(Layer):
    """The share of images whose label is among the `top_k` highest scores."""

    differentiable = False

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        self.top_k = int(self.spec.param.accuracy_param.top_k)
        return [()]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        backend, xp = self.backend, self.backend.xp
        target = backend.pick(bottoms[0], bottoms[1])
        better = xp.sum(xp.astype(bottoms[0] > target[:, None], self.backend.dtype), axis=1)
        return [xp.mean(xp.astype(better < self.top_k, backend.dtype))]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [None] * len(needed)
