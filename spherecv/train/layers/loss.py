# ruff: noqa: ARG002, D102 - these methods are documented where their interface is
"""Softmax and the losses over classes: SoftmaxWithLoss, InfogainLoss, MultinomialLogisticLoss, HingeLoss; Accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spherecv.caffe.blobs import read_blob
from spherecv.caffe.reader import read_message
from spherecv.caffe.spherecv_caffe_pb2 import BlobProto, HingeLossParameter, LossParameter
from spherecv.errors import ModelFileError
from spherecv.train.axes import axis_back, axis_last, caffe_shape, internal_axis, internal_shape, to_caffe, to_internal
from spherecv.train.backend.base import Array
from spherecv.train.layers.base import CaffeOrderLayer, Layer
from spherecv.train.losses.angular import check_labels
from spherecv.train.losses.softmax import softmax
from spherecv.train.params import Shape

_LOWEST = float(np.log(np.finfo(np.float32).tiny))
_LOWEST_PROBABILITY = 1e-20  # kLOG_THRESHOLD


class Softmax(Layer):
    """Probabilities over the channels, or another axis."""

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        rank = len(shapes[0])
        self.along = internal_axis(self.axis(self.spec.param.softmax_param.axis, rank), rank)
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        xp = self.backend.xp
        self._kept = softmax(xp, axis_last(xp, bottoms[0], self.along))[0]
        return [axis_back(xp, self._kept, self.along)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        y, xp = self._take(), self.backend.xp
        dy = axis_last(xp, grads[0], self.along)
        return [axis_back(xp, y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)), self.along)]


class ClassLayer(Layer):
    """What layers over scores and labels have in common: scores as rows of classes, and one label for each row.

    The first bottom has a class axis, the second a label for each place of the others.
    """

    takes = (2, 2)
    ungraded: tuple[int, ...] = (1,)

    def classes_of(self, shapes: Sequence[Shape], stated: int) -> None:
        """Find the class axis and check that there is a label for each row."""
        scores, labels = caffe_shape(shapes[0]), caffe_shape(shapes[1])
        axis = self.axis(stated, len(scores))
        self.classes = scores[axis]
        self.outer = math.prod(scores[:axis])
        rows = math.prod(scores) // self.classes
        if math.prod(labels) != rows:
            raise self.spec.mistake(f"needs a label for each of the {rows} places of {scores}, but got {labels}")
        if self.is_loss and labels[:1] != scores[:1]:
            raise self.spec.mistake(f"needs scores and labels of as many images, but got {scores} and {labels}")
        self.channel = axis
        settings = self.spec.param.loss_param
        self.ignored = settings.ignore_label if settings.HasField("ignore_label") else None

    def rows(self, scores: Array) -> Array:
        """Return scores as (rows, classes), in the order of labels."""
        xp = self.backend.xp
        if scores.ndim == 4 and self.channel == 1:
            return xp.reshape(scores, (-1, self.classes))
        return xp.reshape(axis_last(xp, to_caffe(xp, scores), self.channel), (-1, self.classes))

    def scores(self, rows: Array, shape: Shape) -> Array:
        """Undo `rows` for scores of a shape in memory."""
        xp = self.backend.xp
        if len(shape) == 4 and self.channel == 1:
            return xp.reshape(rows, shape)
        whole = caffe_shape(shape)
        moved = (*whole[: self.channel], *whole[self.channel + 1 :], self.classes)
        return to_internal(xp, axis_back(xp, xp.reshape(rows, moved), self.channel))

    def labels(self, labels: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return the labels, 0 where they are ignored, and (on the host) which ones count."""
        host = self.backend.numpy(to_caffe(self.backend.xp, labels)).reshape(-1).astype(np.int64)
        counted = np.ones(len(host), bool) if self.ignored is None else host != self.ignored
        host = np.where(counted, host, 0)
        check_labels(host, self.classes, str(self.spec))
        return self.backend.asindex(host), counted

    def divisor(self, counted: npt.NDArray[np.bool_], kind: LossParameter.NormalizationMode, images: int) -> float:
        """Return by what a sum over rows is divided, at least 1."""
        sizes = {
            LossParameter.FULL: counted.size,
            LossParameter.VALID: int(counted.sum()),
            LossParameter.BATCH_SIZE: images,
            LossParameter.NONE: 1,
        }
        return float(max(1, sizes[kind]))


class SoftmaxWithLoss(ClassLayer):
    """The mean of -log p at the label; `ignore_label`, `normalization` and the axis as in Caffe.

    BVLC Caffe refuses the second top of probabilities, with any loss_weight: a Softmax beside it gives them.
    """

    is_loss = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.loss_param
        self.classes_of(shapes, self.spec.param.softmax_param.axis)
        self.normalization = settings.normalization
        if not settings.HasField("normalization") and settings.HasField("normalize") and not settings.normalize:
            self.normalization = LossParameter.BATCH_SIZE
        return [()]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        backend, xp = self.backend, self.backend.xp
        index, counted = self.labels(bottoms[1])
        rows = self.rows(bottoms[0])
        images = math.prod(caffe_shape(bottoms[0].shape)[: self.channel])
        share = backend.asarray(counted / self.divisor(counted, self.normalization, images))
        probability, log_probability = softmax(xp, rows)
        self._kept = (probability, index, share, bottoms[0].shape)
        # Caffe takes the logarithm of no less than the smallest normal float: a loss that is stuck reads 87.3365.
        own = backend.pick(log_probability, index)
        own = xp.maximum(own, xp.full_like(own, _LOWEST))
        return [-xp.sum(own * share)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        probability, index, share, shape = self._take()
        drows = probability - self.backend.one_hot(index, self.classes)
        return [self.scores(drows * (share * grads[0])[:, None], shape), None]


class InfogainLoss(ClassLayer):
    """-sum over classes of H[label, class] log p: a softmax whose mistakes have prices.

    H is the third bottom, or the blob in the file that `infogain_loss_param.source` names.
    """

    takes = (2, 3)
    gives = (1, 2)
    ungraded = (1, 2)
    is_loss = True

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.infogain_loss_param
        self.classes_of(shapes, settings.axis)
        if self.spec.param.loss_param.HasField("normalize"):
            raise self.spec.mistake("has normalize, which this type does not take: use normalization")
        self.normalization = self.spec.param.loss_param.normalization
        self.matrix: Array | None = None
        if len(shapes) == 2:
            if not settings.source:
                raise self.spec.mistake("needs the matrix H as third bottom, or its file as source")
            try:
                blob = read_blob(read_message(settings.source, BlobProto), where=settings.source)
            except ModelFileError as error:
                raise self.spec.mistake(f"cannot read its matrix: {error}") from None
            self.matrix = self._square(blob)
        elif math.prod(shapes[2]) != self.classes**2:
            raise self.spec.mistake(f"needs a matrix of {self.classes} x {self.classes}, but got {shapes[2]}")
        return [(), shapes[0]][: len(self.spec.tops)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        backend, xp = self.backend, self.backend.xp
        index, counted = self.labels(bottoms[1])
        images = math.prod(caffe_shape(bottoms[0].shape)[: self.channel])
        matrix = self.matrix if self.matrix is not None else self._square(to_caffe(xp, bottoms[2]))
        share = backend.asarray(counted / self.divisor(counted, self.normalization, images))
        probability, _ = softmax(xp, self.rows(bottoms[0]))
        prices = xp.take(matrix, index, axis=0)
        logarithm = xp.log(xp.maximum(probability, xp.full_like(probability, _LOWEST_PROBABILITY)))
        self._kept = (probability, prices, share, bottoms[0].shape)
        loss = -xp.sum(share * xp.sum(prices * logarithm, axis=1))
        return [loss] if len(self.spec.tops) == 1 else [loss, self.scores(probability, bottoms[0].shape)]

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        probability, prices, share, shape = self._take()
        drows = probability * self.backend.xp.sum(prices, axis=1, keepdims=True) - prices
        return [self.scores(drows * (share * grads[0])[:, None], shape), *[None] * (len(needed) - 1)]

    def _square(self, values: Array) -> Array:
        if math.prod(values.shape) != self.classes**2:
            raise self.spec.mistake(f"needs a matrix of {self.classes} x {self.classes}, but got {values.shape}")
        if isinstance(values, np.ndarray):
            values = self.backend.asarray(values)
        return self.backend.xp.reshape(values, (self.classes, self.classes))


class RowLoss(CaffeOrderLayer):
    """What losses over long rows have in common: each image is one row of scores, with one label."""

    takes = (2, 2)
    ungraded: tuple[int, ...] = (1,)
    is_loss = True

    def shapes_of(self, shapes: Sequence[Shape]) -> list[Shape]:
        scores, labels = shapes
        self.length = math.prod(scores[1:])
        if not scores or math.prod(labels) != scores[0]:
            raise self.spec.mistake(f"needs a label for each image of {scores}, but got {labels}")
        return [()]

    def rows(self, bottoms: Sequence[Array]) -> tuple[Array, Array]:
        """Return the rows and the labels."""
        xp = self.backend.xp
        labels = self.backend.whole(xp.reshape(bottoms[1], (-1,)))
        check_labels(self.backend.numpy(labels), self.length, str(self.spec))
        return xp.reshape(bottoms[0], (bottoms[0].shape[0], self.length)), labels


class MultinomialLogisticLoss(RowLoss):
    """The mean of -log p at the label, of probabilities."""

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp, backend = self.backend.xp, self.backend
        rows, labels = self.rows(bottoms)
        own = backend.pick(rows, labels)
        own = xp.maximum(own, xp.full_like(own, _LOWEST_PROBABILITY))
        self._kept = (own, labels, bottoms[0].shape)
        return [-xp.mean(xp.log(own))]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        own, labels, shape = self._take()
        hot = self.backend.one_hot(labels, self.length)
        return [self.backend.xp.reshape(-hot * (grads[0] / own / own.shape[0])[:, None], shape), None]


class HingeLoss(RowLoss):
    """The mean over images of max(0, 1 - x) at the label and max(0, 1 + x) elsewhere, summed, or their squares."""

    def run(self, bottoms: Sequence[Array]) -> list[Array]:
        xp = self.backend.xp
        rows, labels = self.rows(bottoms)
        sign = 1 - 2 * self.backend.one_hot(labels, self.length)
        over = xp.maximum(1 + sign * rows, xp.zeros_like(rows))
        self._kept = (over, sign, bottoms[0].shape)
        squared = self.spec.param.hinge_loss_param.norm == HingeLossParameter.L2
        return [xp.sum(over * over if squared else over) / rows.shape[0]]

    def back(self, grads: Sequence[Array], needed: Sequence[bool]) -> list[Array | None]:
        xp = self.backend.xp
        over, sign, shape = self._take()
        squared = self.spec.param.hinge_loss_param.norm == HingeLossParameter.L2
        slope = 2 * over if squared else xp.sign(over)
        return [xp.reshape(slope * sign * (grads[0] / shape[0]), shape), None]


class Accuracy(ClassLayer):
    """The share of labels among the `top_k` highest scores, and as a second top that of each class.

    Scores that equal the label's count as higher, as in BVLC Caffe.
    """

    gives = (1, 2)
    differentiable = False

    def setup(self, shapes: Sequence[Shape]) -> list[Shape]:
        settings = self.spec.param.accuracy_param
        self.classes_of(shapes, settings.axis)
        self.ignored = settings.ignore_label if settings.HasField("ignore_label") else None
        self.top_k = int(settings.top_k)
        if not 1 <= self.top_k <= self.classes:
            raise self.spec.mistake(f"top_k must be in 1..{self.classes}, but is {self.top_k}")
        return [(), internal_shape((self.classes,))][: len(self.spec.tops)]

    def forward(self, bottoms: Sequence[Array]) -> list[Array]:
        backend, xp = self.backend, self.backend.xp
        index, counted = self.labels(bottoms[1])
        rows = self.rows(bottoms[0])
        own = backend.pick(rows, index)
        others = xp.sum(xp.astype(rows >= own[:, None], backend.dtype), axis=1) - 1
        right = xp.astype(others < self.top_k, backend.dtype) * backend.asarray(counted)
        tops = [xp.sum(right) / max(1, int(counted.sum()))]
        if len(self.spec.tops) == 2:
            hot = backend.one_hot(index, self.classes) * backend.asarray(counted)[:, None]
            of_class = xp.sum(hot, axis=0)
            tops.append(xp.sum(hot * right[:, None], axis=0) / xp.maximum(of_class, xp.ones_like(of_class)))
        return tops

    def backward(self, grads: Sequence[Array | None], needed: Sequence[bool]) -> list[Array | None]:
        return [None] * len(needed)
