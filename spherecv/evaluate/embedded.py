"""Listed pairs of images, and the embeddings of those that could be embedded."""

from __future__ import annotations

from spherecv.errors import NotEnoughDataError
from spherecv.evaluate.collection import Embeddings, ImageEmbeddings
from spherecv.evaluate.pairs import PairList


def usable_pairs(pairs: PairList, found: ImageEmbeddings) -> tuple[PairList, int]:
    """Pairs whose images could both be embedded, and how many could not; raises `NotEnoughDataError` without any."""
    used = pairs.without(name for name in pairs.images if name in found.failures)
    require_pairs(used)
    return used, len(pairs) - len(used)


def require_pairs(pairs: PairList) -> None:
    """Raise `NotEnoughDataError` where no pair is left."""
    if not len(pairs):
        raise NotEnoughDataError(f"no pair of {pairs.source} is left: its images could not be used")


def sides_of(pairs: PairList, found: ImageEmbeddings, rows: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Those of `rows`, one for each image found, that are of the first and of the second image of each pair."""
    first, second = (rows[found.rows([pairs.images[i] for i in side])] for side in (pairs.first, pairs.second))
    return first, second
