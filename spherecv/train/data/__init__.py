"""Images for training: where they are, in which order they come, and how they are varied."""

from __future__ import annotations

from spherecv.train.data.augment import Augmentation
from spherecv.train.data.dataset import Dataset, Item, combine, from_folder, from_list, from_tars, open_dataset
from spherecv.train.data.loader import Batch, Loader
from spherecv.train.data.mixtures import mixture, open_mixtures
from spherecv.train.data.order import BalancedOrder, Order, SequentialOrder, ShuffledOrder
from spherecv.train.data.reading import View

__all__ = [
    "Augmentation",
    "BalancedOrder",
    "Batch",
    "Dataset",
    "Item",
    "Loader",
    "Order",
    "SequentialOrder",
    "ShuffledOrder",
    "View",
    "combine",
    "from_folder",
    "from_list",
    "from_tars",
    "mixture",
    "open_dataset",
    "open_mixtures",
]
