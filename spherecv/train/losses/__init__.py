"""Losses on embeddings: objects of one small interface, `Loss`."""

from __future__ import annotations

from spherecv.train.losses.angular import LambdaSchedule
from spherecv.train.losses.base import Loss, LossValue, WeightedSum
from spherecv.train.losses.binary import SphereFace2
from spherecv.train.losses.revived import SphereFaceR
from spherecv.train.losses.softmax import ArcFace, ASoftmax, CosFace, SoftmaxLoss
from spherecv.train.losses.sphere import CentreLoss, EmbeddingRegression, SphereFacePlus
from spherecv.train.losses.triplet import TripletLoss

__all__ = [
    "ASoftmax",
    "ArcFace",
    "CentreLoss",
    "CosFace",
    "EmbeddingRegression",
    "LambdaSchedule",
    "Loss",
    "LossValue",
    "SoftmaxLoss",
    "SphereFace2",
    "SphereFacePlus",
    "SphereFaceR",
    "TripletLoss",
    "WeightedSum",
]
