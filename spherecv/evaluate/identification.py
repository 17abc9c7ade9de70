"""MegaFace-style identification: find a person's other image among a growing number of strangers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.checks import check_rate
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.blocks import Highest, Rows, candidates, similarity_blocks, unit_rows
from spherecv.evaluate.curves import MIN_FALSE_ACCEPTS, allowed_false_accepts

COUNTS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Numbers of distractors that MegaFace reports at."""

_KEPT = 10_000_000
"""Impostor similarities kept at most, 120 MB with their places; rates that need more are left out."""


@dataclass(frozen=True, eq=False)
class Identification:
    """How often the right person came out first, and how well strangers were refused.

    Attributes
    ----------
    distractors : tuple of int
        The numbers of distractors measured at.
    ranks : ndarray of int, shape (C, T)
        For each number of distractors and each trial (a probe and one image of the same person in the gallery): how
        many distractors were at least as near as that image; 0 is found first. A tie counts against the image.
    tar : dict of float to float
        Share of the trials whose similarity lies above all but a share FAR of the probe-distractor similarities.
    thresholds : dict of float to float
        The cosine distance that this takes: pairs nearer than it are accepted.
    unsupported : tuple of float
        Rates left out: too few impostor pairs, or more false accepts than are kept.
    trials, impostors : int
        Genuine trials, and probe-distractor pairs.
    notes : tuple of str
    owners : ndarray, shape (T,), or None
        Whose trial each is.
    """

    distractors: tuple[int, ...]
    ranks: NDArray[np.int32]
    tar: dict[float, float]
    thresholds: dict[float, float]
    unsupported: tuple[float, ...]
    trials: int
    impostors: int
    notes: tuple[str, ...] = ()
    owners: NDArray[Any] | None = None

    __repr__ = brief

    def rank1(self) -> dict[int, float]:
        """Share of the trials found first, by number of distractors."""
        return {count: float((row == 0).mean()) for count, row in zip(self.distractors, self.ranks, strict=True)}

    def cmc(self, depth: int = 100) -> NDArray[np.float64]:
        """Share of the trials found among the first 1..depth, shape (C, depth): the CMC curves."""
        counts = [np.bincount(np.minimum(row, depth), minlength=depth + 1)[:depth] for row in self.ranks]
        return np.asarray(np.cumsum(counts, axis=1) / self.trials)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        at10 = self.cmc(10)[:, 9]
        return {
            "rank1": {str(count): share for count, share in self.rank1().items()},
            "rank10": {str(count): float(share) for count, share in zip(self.distractors, at10, strict=True)},
            "tar_at_far": {f"{far:g}": value for far, value in self.tar.items()},
            "thresholds": {f"{far:g}": value for far, value in self.thresholds.items()},
            "far_without_support": [f"{far:g}" for far in self.unsupported],
            "trials": self.trials,
            "impostor_pairs": self.impostors,
            "notes": list(self.notes),
        }


def identify(
    probes: ArrayLike,
    identities: ArrayLike,
    distractors: NDArray[np.floating],
    *,
    counts: Sequence[int] = COUNTS,
    rates: Sequence[float] = (1e-4, 1e-5, 1e-6),
    distractors_normalized: bool = False,
    min_false_accepts: int = MIN_FALSE_ACCEPTS,
    progress: Callable[[int], None] | None = None,
) -> Identification:
    """Run MegaFace's first challenge on embeddings.

    Every image of a person is a probe against every other image of that person, hidden among the distractors; the
    first 10, 100, ... of them in their order, so that the numbers nest.

    Parameters
    ----------
    probes : array_like of float, shape (P, D)
        Embeddings of the people looked for.
    identities : array_like, shape (P,)
        Who is who; people with one image have no trial, but count as impostors.
    distractors : ndarray of float, shape (N, D)
        Strangers; may be memory-mapped (`numpy.load(path, mmap_mode="r")`), and is read once.
    counts : sequence of int
        Numbers of distractors to measure at; those above N are replaced by N.
    rates : sequence of float
        False accept rates over all probe-distractor pairs.
    distractors_normalized : bool
        Whether the distractors are of length 1 already.
    min_false_accepts : int
        False accepts that a rate must rest on.
    progress : callable, optional
        Called with the number of distractors done.

    Returns
    -------
    Identification

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, values that are not finite, counts or rates out of range.
    NotEnoughDataError
        No distractors, or nobody with two images.
    """
    rows = unit_rows(np.asarray(probes))
    first, second = _trials(np.asarray(identities), len(rows))
    if not len(distractors):
        raise NotEnoughDataError("there must be at least one distractor")
    kept_counts, notes = _checked_counts(counts, len(distractors))
    genuine = np.einsum("ij,ij->i", rows[first], rows[second])
    impostors = len(rows) * len(distractors)
    usable = [far for far in rates if _supported(far, impostors, min_false_accepts)]
    allowed = {far: allowed_false_accepts(far, impostors) for far in usable}
    highest = Highest(max(allowed.values(), default=0) + 1)
    ahead = _Ahead(first, genuine, len(rows), kept_counts)

    def bounds() -> Rows:
        return np.minimum(ahead.lowest, highest.floor) if allowed else ahead.lowest

    for where, block in similarity_blocks(rows, distractors, normalized=distractors_normalized):
        for values, probe, column in candidates(block, bounds):
            ahead.offer(values, probe, column + where.start)
            if allowed:
                highest.offer(values, probe, column + where.start)
        if progress is not None:
            progress(where.stop)
    top = highest.result()[0]
    # The rate is kept by all thresholds above the first impostor that is one too many.
    cuts = {far: float(top[count]) if count < len(top) else -np.inf for far, count in allowed.items()}
    return Identification(
        distractors=kept_counts,
        ranks=ahead.ranks(),
        tar={far: float((genuine > cut).mean()) for far, cut in cuts.items()},
        thresholds={far: float(1.0 - cut) for far, cut in cuts.items()},
        unsupported=tuple(far for far in rates if far not in usable),
        trials=len(first),
        impostors=impostors,
        notes=notes,
        owners=np.asarray(identities)[first],
    )


class _Ahead:
    """Counts, for each trial, the distractors that are at least as near as the image looked for.

    Trials lie in the order of their probe and similarity. A distractor is ahead of those trials of its probe that begin
    the probe's stretch, up to its own similarity: one more at its beginning, one less behind its end, summed up once at
    the very end. So a distractor costs one search, however many images a person has.
    """

    def __init__(self, probe: NDArray[np.intp], genuine: Rows, probes: int, counts: tuple[int, ...]) -> None:
        self._counts = np.array(counts)
        self._order = np.lexsort((genuine, probe))
        self._keys = _keys(probe[self._order], genuine[self._order])
        self._begins = np.searchsorted(probe[self._order], np.arange(probes))
        self._steps = np.zeros((len(counts), len(probe) + 1), np.int64)
        self.lowest = np.full(probes, np.inf, np.float32)
        np.minimum.at(self.lowest, probe, genuine)

    def offer(self, values: Rows, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> None:
        """Take in similarities of distractors, which probes they are to, and the distractors' numbers."""
        used = (values >= self.lowest[rows]) & (columns < self._counts[-1])
        values, rows, columns = values[used], rows[used], columns[used]
        steps = self._steps.reshape(-1)
        smallest = np.searchsorted(self._counts, columns, side="right") * self._steps.shape[1]
        steps += np.bincount(smallest + self._begins[rows], minlength=steps.size)
        ends = np.searchsorted(self._keys, _keys(rows, values), side="right")
        steps -= np.bincount(smallest + ends, minlength=steps.size)

    def ranks(self) -> NDArray[np.int32]:
        """Counts of shape (numbers of distractors, trials), trials in the order they were given in."""
        ordered = np.cumsum(np.cumsum(self._steps, axis=0), axis=1)[:, :-1]
        ranks = np.empty(ordered.shape, np.int32)
        ranks[:, self._order] = ordered
        return ranks


def _keys(rows: NDArray[np.intp], values: Rows) -> NDArray[np.int64]:
    """Whole numbers that sort as (row, value) do, ties included: a float's bits are ordered as its values are."""
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)  # adding 0 turns -0 into 0
    return (rows.astype(np.int64) << 32) + np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _trials(identities: NDArray[Any], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Ordered pairs of different images of one person: probe and image in the gallery."""
    if identities.shape != (count,):
        raise InvalidArgumentError(f"identities must have shape ({count},), but got {identities.shape}")
    order = np.argsort(identities, kind="stable")
    groups = np.split(order, np.flatnonzero(identities[order][1:] != identities[order][:-1]) + 1)
    pairs = [np.stack(np.nonzero(~np.eye(len(group), dtype=bool))) for group in groups if len(group) > 1]
    if not pairs:
        raise NotEnoughDataError("nobody has two images: there is nothing to find")
    large = [group for group in groups if len(group) > 1]
    first = np.concatenate([group[pair[0]] for group, pair in zip(large, pairs, strict=True)])
    second = np.concatenate([group[pair[1]] for group, pair in zip(large, pairs, strict=True)])
    return first, second


def _checked_counts(counts: Sequence[int], available: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    if not counts or min(counts) < 1:
        raise InvalidArgumentError(f"counts must be numbers of distractors from 1 on, but got {list(counts)}")
    kept = tuple(sorted({min(count, available) for count in counts}))
    if max(counts) <= available:
        return kept, ()
    return kept, (f"there are {available:,} distractors, fewer than the {max(counts):,} asked for",)


def _supported(far: float, impostors: int, minimum: int) -> bool:
    check_rate("rates", far)
    return minimum <= allowed_false_accepts(far, impostors) <= _KEPT
