"""Template protocols of IJB-B and IJB-C: images pooled by medium and template, 1:1 and 1:N."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.brief import brief
from spherecv.checks import check_choice, check_rate
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.croprun import Flip, combined
from spherecv.evaluate.curves import (
    FAR_TARGETS,
    MIN_FALSE_ACCEPTS,
    BoolArray,
    FloatArray,
    allowed_false_accepts,
)
from spherecv.evaluate.figures import Figure, finite
from spherecv.evaluate.pairs import linked
from spherecv.evaluate.shares import share_interval
from spherecv.metrics import at_unit_length

Weighing = Literal["length", "unit"]

_ROWS = 8192
"""Images pooled at once: 64 MB of 1,024 numbers."""
_TILE = 512
"""Templates of a tile: two tiles of 512 numbers stay in the cache while their pairs are compared."""
_PAIRS = 64
CANDIDATES = 20
"""Length of the candidate list in which a mate must be found (Grother and Ngan 2014; IJB-A)."""
CURVE_RATES = np.logspace(-6, 0, 121)


@dataclass(frozen=True, eq=False)
class Templates:
    """Embeddings of templates.

    Attributes
    ----------
    numbers : ndarray of int64, shape (T,)
        Sorted.
    embeddings : ndarray of float64, shape (T, D)
        Of length 1; zeros where a template has no image that could be used.
    empty : ndarray of bool, shape (T,)
    """

    numbers: NDArray[np.int64]
    embeddings: FloatArray
    empty: BoolArray

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class TemplateRates:
    """1:1 figures of a template protocol.

    Attributes
    ----------
    tar : dict of float to Figure
        By false accept rate; `threshold` is the similarity above which a pair is accepted. The interval resamples
        people and holds the threshold.
    unsupported : tuple of float
        Rates that rest on fewer than 30 false accepts; those without any are left out of `tar`.
    curve : ndarray of float64, shape (121,)
        TAR at the rates `CURVE_RATES`, NaN where no pair may be accepted falsely.
    genuine, impostors : int
    rejected : int
        Pairs with a template that has no image: they count as not accepted.
    people : int
        Resampled: templates that genuine pairs join count as one person.
    accepted : dict of float to ndarray of bool, shape (genuine,)
        Which genuine pairs are accepted at each rate.
    owners : ndarray of int, shape (genuine,)
        The person of each genuine pair.
    """

    tar: dict[float, Figure]
    unsupported: tuple[float, ...]
    curve: FloatArray
    genuine: int
    impostors: int
    rejected: int
    people: int
    accepted: dict[float, BoolArray]
    owners: NDArray[np.intp]

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            "tar_at_far": {f"{far:g}": figure.to_dict() for far, figure in self.tar.items()},
            "far_without_support": [f"{far:g}" for far in self.unsupported],
            "genuine_pairs": self.genuine,
            "impostor_pairs": self.impostors,
            "pairs_without_template": self.rejected,
            "people": self.people,
        }


@dataclass(frozen=True, eq=False)
class SearchRates:
    """1:N figures of one gallery.

    Attributes
    ----------
    name : str
    ranks : dict of int to float
        Share of the searches with a mate that find it at this rank or before.
    tpir : dict of float to float or None
        Share of the searches with a mate that find it above the threshold, among the first 20; None where no search
        without a mate may find anything at that rate.
    thresholds : dict of float to float or None
        The similarity that a candidate must lie above.
    mated, unmated : int
        Searches with and without a mate in the gallery.
    gallery : int
        Templates.
    failed : int
        Searches whose probe, or mate, has no image: they count as not found.
    """

    name: str
    ranks: dict[int, float]
    tpir: dict[float, float | None]
    thresholds: dict[float, float | None]
    mated: int
    unmated: int
    gallery: int
    failed: int

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, ready for JSON."""
        return {
            "gallery": self.name,
            "rank": {str(rank): share for rank, share in self.ranks.items()},
            "tpir_at_fpir": {f"{rate:g}": share for rate, share in self.tpir.items()},
            "thresholds": {f"{rate:g}": None if cut is None else finite(cut) for rate, cut in self.thresholds.items()},
            "mated_searches": self.mated,
            "unmated_searches": self.unmated,
            "gallery_templates": self.gallery,
            "searches_without_template": self.failed,
        }


def pool_templates(
    rows: NDArray[np.floating],
    templates: NDArray[np.int64],
    media: NDArray[np.int64],
    *,
    flip: Flip = "add",
    weighing: Weighing = "length",
    scores: ArrayLike | None = None,
) -> Templates:
    """Make one embedding of each template, as the field's reference evaluation of IJB does.

    The images of one medium (an image, or a video's frames) are averaged, then the media of a template, and the mean is
    scaled to length 1: a video counts as much as an image.

    Parameters
    ----------
    rows : ndarray of float, shape (N, D), or (N, 2 D) with flips
        May be memory-mapped; read in blocks. Rows of NaN are images that could not be used.
    templates, media : ndarray of int64, shape (N,)
        The template and the medium of each image.
    flip : {"add", "concatenate", "none"}
        As for `evaluate_crops`, before anything else.
    weighing : {"length", "unit"}
        `length` leaves embeddings as the net gives them, so that long ones, of clear images, weigh more; `unit` scales
        each to length 1 first.
    scores : array_like of float, shape (N,), optional
        Each embedding is multiplied by its own: a detector's scores.

    Returns
    -------
    Templates

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit, or another weighing.
    """
    count = len(rows)
    weights = None if scores is None else np.asarray(scores, dtype=np.float64)
    if rows.ndim != 2 or templates.shape != (count,) or media.shape != (count,):
        raise InvalidArgumentError(
            f"rows must be (N, D), templates and media (N,), but got {rows.shape}, {templates.shape} and {media.shape}"
        )
    if weights is not None and weights.shape != (count,):
        raise InvalidArgumentError(f"scores must have shape ({count},), but got {weights.shape}")
    check_choice("weighing", weighing, get_args(Weighing))
    numbers = np.unique(templates)
    order = np.lexsort((media, templates))
    pooled: FloatArray | None = None
    empty = np.ones(len(numbers), np.bool_)
    for part in _whole_templates(templates[order]):
        chosen = order[part]
        raw = np.asarray(rows[chosen])
        usable = ~np.isnan(raw).any(axis=1)
        chosen, raw = chosen[usable], raw[usable]
        if not len(chosen):
            continue
        table = _weighed(raw, flip, weighing, None if weights is None else weights[chosen])
        means, of_media = _means(table, templates[chosen], media[chosen])
        starts = _starts(of_media)
        sums = np.add.reduceat(means, starts, axis=0)
        if pooled is None:
            pooled = np.zeros((len(numbers), sums.shape[1]))
        places = np.searchsorted(numbers, of_media[starts])
        pooled[places] = at_unit_length(sums)
        empty[places] = False
    if pooled is None:
        raise NotEnoughDataError("no image of any template could be used")
    return Templates(numbers, pooled, empty)


def compare_templates(
    embeddings: FloatArray, first: NDArray[np.int32], second: NDArray[np.int32]
) -> FloatArray:
    """Compare listed pairs of templates.

    Parameters
    ----------
    embeddings : ndarray of float64, shape (T, D)
        Of length 1.
    first, second : ndarray of int, shape (M,)
        Positions.

    Returns
    -------
    ndarray of float64, shape (M,)
        Cosine similarities, -1..1.
    """
    found = np.empty(len(first))
    tiles = -(-len(embeddings) // _TILE)
    order = np.argsort((first // _TILE) * np.int64(tiles) + second // _TILE, kind="stable")
    left, right = np.empty((2, _PAIRS, embeddings.shape[1]))
    for start in range(0, len(order), _PAIRS):
        chosen = order[start : start + _PAIRS]
        count = len(chosen)
        np.take(embeddings, first[chosen], axis=0, out=left[:count], mode="clip")
        np.take(embeddings, second[chosen], axis=0, out=right[:count], mode="clip")
        found[chosen] = np.einsum("ij,ij->i", left[:count], right[:count])
    return found


def verification_rates(
    templates: Templates,
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    same: BoolArray,
    *,
    rates: Sequence[float] = FAR_TARGETS,
    replicates: int = 1000,
) -> TemplateRates:
    """Measure the 1:1 protocol: TAR at false accept rates.

    Parameters
    ----------
    templates : Templates
    first, second : ndarray of int32, shape (M,)
        Positions of each pair's templates.
    same : ndarray of bool, shape (M,)
    rates : sequence of float
    replicates : int
        Of the bootstrap; 0 leaves the intervals out.

    Returns
    -------
    TemplateRates

    Raises
    ------
    NotEnoughDataError
        Only one kind of pair.
    InvalidArgumentError
        A rate outside 0..1.
    """
    for far in rates:
        check_rate("rates", far)
    similarities = compare_templates(templates.embeddings, first, second)
    rejected = templates.empty[first] | templates.empty[second]
    similarities[rejected] = -np.inf
    genuine, impostors = similarities[same], np.sort(similarities[~same])
    if not len(genuine) or not len(impostors):
        raise NotEnoughDataError(f"{len(genuine)} genuine and {len(impostors)} impostor pairs: both kinds are needed")
    people = linked(np.stack([first[same], second[same]], axis=1).astype(np.intp), len(templates.numbers))
    mine = people[first[same]]
    tar: dict[float, Figure] = {}
    taken: dict[float, BoolArray] = {}
    for far in rates:
        allowed = allowed_false_accepts(far, len(impostors))
        if allowed:
            cut = _cut(impostors, allowed)
            accepted = genuine > cut
            span = (
                share_interval(accepted, np.stack([mine, mine], axis=1), replicates=replicates)
                if replicates
                else (float("nan"), float("nan"))
            )
            tar[far] = Figure(float(accepted.mean()), span, cut)
            taken[far] = accepted
    ordered = np.sort(genuine)
    curve = np.full(len(CURVE_RATES), np.nan)
    for place, far in enumerate(CURVE_RATES):
        if allowed := allowed_false_accepts(float(far), len(impostors)):
            curve[place] = 1.0 - np.searchsorted(ordered, _cut(impostors, allowed), side="right") / len(ordered)
    return TemplateRates(
        tar=tar,
        unsupported=tuple(far for far in rates if allowed_false_accepts(far, len(impostors)) < MIN_FALSE_ACCEPTS),
        curve=curve,
        genuine=len(genuine),
        impostors=len(impostors),
        rejected=int(np.count_nonzero(rejected)),
        people=len(np.unique(mine)),
        accepted=taken,
        owners=mine,
    )


def search_rates(
    gallery: FloatArray,
    gallery_subjects: ArrayLike,
    probes: FloatArray,
    probe_subjects: ArrayLike,
    *,
    gallery_empty: ArrayLike | None = None,
    probes_empty: ArrayLike | None = None,
    ranks: Sequence[int] = (1, 5, 10),
    rates: Sequence[float] = (1e-2, 1e-1),
    candidates: int = CANDIDATES,
    name: str = "gallery",
) -> SearchRates:
    """Measure the 1:N protocol on one gallery: closed-set ranks, and TPIR at FPIR (ISO/IEC 19795-1).

    Probes of people in the gallery are searches with a mate; all others are searches without. A tie counts against the
    mate. FPIR is the share of searches without a mate whose nearest template lies above the threshold.

    Parameters
    ----------
    gallery : ndarray of float64, shape (G, D)
        Of length 1.
    gallery_subjects : array_like of int, shape (G,)
    probes : ndarray of float64, shape (P, D)
    probe_subjects : array_like of int, shape (P,)
    gallery_empty, probes_empty : array_like of bool, optional
        Templates without any image: never found, and finding nothing.
    ranks : sequence of int
    rates : sequence of float
    candidates : int
        Length of the list in which a mate must be found to count for TPIR.
    name : str
        Of the gallery.

    Returns
    -------
    SearchRates

    Raises
    ------
    InvalidArgumentError
        Shapes that do not fit.
    NotEnoughDataError
        No probe has a mate in the gallery.
    """
    subjects, wanted = np.asarray(gallery_subjects), np.asarray(probe_subjects)
    if gallery.ndim != 2 or probes.ndim != 2 or gallery.shape[1] != probes.shape[1]:
        raise InvalidArgumentError(f"gallery and probes must be (N, D), but got {gallery.shape} and {probes.shape}")
    if subjects.shape != (len(gallery),) or wanted.shape != (len(probes),):
        raise InvalidArgumentError("there must be one subject for each template")
    missing = np.zeros(len(gallery), np.bool_) if gallery_empty is None else np.asarray(gallery_empty, np.bool_)
    blind = np.zeros(len(probes), np.bool_) if probes_empty is None else np.asarray(probes_empty, np.bool_)
    mated = np.isin(wanted, subjects)
    if not mated.any():
        raise NotEnoughDataError(f"{name}: no probe is of anybody in the gallery")
    mate, ahead, top = (np.empty(len(probes)) for _ in range(3))
    for start in range(0, len(probes), _ROWS // 4):
        part = slice(start, start + _ROWS // 4)
        block = probes[part] @ gallery.T
        block[:, missing] = -np.inf
        block[blind[part]] = -np.inf
        own = wanted[part, None] == subjects
        mate[part] = np.where(own, block, -np.inf).max(axis=1)
        ahead[part] = np.count_nonzero((block >= mate[part, None]) & ~own, axis=1)
        top[part] = block.max(axis=1)
    strangers = np.sort(top[~mated])
    found, behind = mate[mated], ahead[mated]
    lost = np.isneginf(found)
    cuts = {rate: _search_cut(strangers, rate) for rate in rates}
    return SearchRates(
        name=name,
        ranks={rank: float(np.mean((behind < rank) & ~lost)) for rank in ranks},
        tpir={
            rate: None if cut is None else float(np.mean((found > cut) & (behind < candidates)))
            for rate, cut in cuts.items()
        },
        thresholds=cuts,
        mated=len(found),
        unmated=len(strangers),
        gallery=len(gallery),
        failed=int(np.count_nonzero(lost) + np.count_nonzero(blind & ~mated)),
    )


def _search_cut(strangers: FloatArray, rate: float) -> float | None:
    check_rate("rates", rate)
    allowed = allowed_false_accepts(rate, len(strangers))
    return _cut(strangers, allowed) if allowed else None


def _cut(ordered: FloatArray, allowed: int) -> float:
    """The similarity that at most `allowed` of an ascending array lie above."""
    return float(ordered[len(ordered) - 1 - allowed]) if allowed < len(ordered) else float("-inf")


def _whole_templates(ordered: NDArray[np.int64]) -> Iterator[slice]:
    """Stretches of about `_ROWS` images that end with a template."""
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered))
    start = 0
    while start < len(ordered):
        place = int(np.searchsorted(ends, start + _ROWS))
        stop = int(ends[min(place, len(ends) - 1)])
        yield slice(start, stop)
        start = stop


def _weighed(
    raw: NDArray[np.floating], flip: Flip, weighing: Weighing, scores: FloatArray | None
) -> FloatArray:
    table = combined(raw, flip, unit=weighing == "unit")
    return table if scores is None else table * scores[:, None]


def _means(
    table: FloatArray, templates: NDArray[np.int64], media: NDArray[np.int64]
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Mean of the images of each medium of a template, which follow each other, and the media's templates."""
    changes = np.flatnonzero((templates[1:] != templates[:-1]) | (media[1:] != media[:-1])) + 1
    starts = np.concatenate([[0], changes])
    sizes = np.diff(np.append(starts, len(table)))
    return np.add.reduceat(table, starts, axis=0) / sizes[:, None], templates[starts]


def _starts(values: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1]).astype(np.intp)
