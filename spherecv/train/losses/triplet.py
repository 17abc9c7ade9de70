# ruff: noqa: D102 - these methods are documented where their interface is
"""The triplet loss with semi-hard negatives chosen inside the batch."""

from __future__ import annotations

import numpy as np

from spherecv.errors import InvalidArgumentError
from spherecv.train.backend.base import Array
from spherecv.train.losses.base import Loss, LossValue
from spherecv.train.losses.softmax import through_norm, unit_rows


class TripletLoss(Loss):
    """Mean of max(d(a, p) - d(a, n) + margin, 0) over all anchors and positives, d squared between unit embeddings.

    The negative of a pair is semi-hard: the nearest one that is farther than the positive; where there is none, the
    farthest. Schroff et al., "FaceNet", CVPR 2015. Batches need several images of each identity: `BalancedSampler`.

    Parameters
    ----------
    margin : float
        In (0, 4).
    """

    name = "triplet"

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        if not 0 < margin < 4:
            raise InvalidArgumentError(f"margin must be between 0 and 4, but got {margin}")
        self.margin = margin

    def forward(self, x: Array, target: Array) -> LossValue:
        xp, backend = self.backend.xp, self.backend
        unit, norm = unit_rows(backend, x)
        distance = 2.0 - 2.0 * backend.matmul(unit, xp.matrix_transpose(unit))
        anchors, positives, negatives = mine(backend.numpy(distance), backend.numpy(target))
        if not len(anchors):
            self._kept = (unit, norm, backend.zeros(distance.shape))
            return LossValue(0.0, {"active": 0.0})
        # The choice of triplets has no gradient, so it is made on the host; the sums are a matrix over pairs.
        host = backend.numpy(distance)
        violation = host[anchors, positives] - host[anchors, negatives] + self.margin
        active = violation > 0
        pull = np.zeros(host.shape)
        np.add.at(pull, (anchors[active], positives[active]), 1.0 / len(anchors))
        np.add.at(pull, (anchors[active], negatives[active]), -1.0 / len(anchors))
        self._kept = (unit, norm, backend.asarray(pull))
        return LossValue(float(violation[active].sum() / len(anchors)), {"active": float(active.mean())})

    def backward(self, weight: float = 1.0) -> Array:
        unit, norm, pull = self._take()
        backend, xp = self.backend, self.backend.xp
        dunit = -2.0 * weight * backend.matmul(pull + xp.matrix_transpose(pull), unit)
        return through_norm(backend, dunit, unit, norm)


def mine(distance: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return anchors, positives and semi-hard negatives, as indices into the batch.

    Parameters
    ----------
    distance : ndarray (count, count)
    labels : ndarray of int (count,)
    """
    same = labels[:, None] == labels[None, :]
    anchors, positives = np.nonzero(same & ~np.eye(len(labels), dtype=bool))
    usable = ~same[anchors].all(axis=1)
    anchors, positives = anchors[usable], positives[usable]
    if not len(anchors):
        return anchors, positives, anchors
    others = np.where(same[anchors], np.nan, distance[anchors])
    farther = np.where(others > distance[anchors, positives][:, None], others, np.inf)
    nearest = np.argmin(farther, axis=1)
    none = ~np.isfinite(farther[np.arange(len(anchors)), nearest])
    farthest = np.argmax(np.where(np.isnan(others), -np.inf, others), axis=1)
    return anchors, positives, np.where(none, farthest, nearest)
