"""Probability curve: from a distance to how much likelier one person is than two."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from spherecv.brief import brief
from spherecv.errors import InvalidArgumentError

_MAX_LOG_ODDS = 700.0


@dataclass(frozen=True, kw_only=True)
class ProbabilityCurve:
    """How much more likely a distance is for one person than for two.

    Attributes
    ----------
    method : {"logistic", "isotonic"}
        The straight line, or the monotone steps joined by lines; whichever was better on pairs it had not seen.
    distances : tuple of float
        Ascending knots.
    log_ratios : tuple of float
        Logarithm of the likelihood ratio at each knot, descending. Joined by straight lines; beyond the knots a
        logistic curve goes on, an isotonic one stays.
    ece : dict of str to float
        Expected calibration error of each method, 0..1, at prior 0.5, by cross-validation over identities.
    """

    method: Literal["logistic", "isotonic"]
    distances: tuple[float, ...]
    log_ratios: tuple[float, ...]
    ece: Mapping[str, float]

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.method not in ("logistic", "isotonic"):
            raise InvalidArgumentError(f"method must be 'logistic' or 'isotonic', but got {self.method!r}")
        knots = list(zip(self.distances, self.log_ratios, strict=False))
        ordered = all(a[0] < b[0] and a[1] >= b[1] for a, b in pairwise(knots))
        if len(self.distances) != len(self.log_ratios) or len(knots) < 2 or not ordered:
            raise InvalidArgumentError("a probability curve needs two or more knots, with falling log_ratios")

    def log_ratio(self, distance: float) -> float:
        """Logarithm of the likelihood ratio at a distance."""
        last = len(self.distances) - 1
        if self.method == "isotonic" and not self.distances[0] < distance < self.distances[last]:
            return self.log_ratios[0 if distance <= self.distances[0] else last]
        left = min(max(bisect_right(self.distances, distance) - 1, 0), last - 1)
        (x0, x1), (y0, y1) = self.distances[left : left + 2], self.log_ratios[left : left + 2]
        return y0 + (y1 - y0) * (distance - x0) / (x1 - x0)

    def probability(self, distance: float, prior: float = 0.5) -> float:
        """Probability of the same person, 0..1, where a share `prior` of all comparisons is genuine."""
        odds = self.log_ratio(distance) + math.log(prior / (1.0 - prior))
        return 1.0 / (1.0 + math.exp(-min(max(odds, -_MAX_LOG_ODDS), _MAX_LOG_ODDS)))
