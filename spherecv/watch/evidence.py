"""Decisions from evidence over frames, at a stated false accept rate; they may stay undecided.

The rule is a group-sequential test. A track is looked at when 1, 2, 4, 8, ... faces of it were seen, and each look may
spend a part of the false accept rate `a` that was asked for, as an alpha-spending function says (Lan and DeMets,
Biometrika 70, 1983, 659-663): after n faces

    spent(n) = a n / (n + pace)

At a look the distance of the template is compared with the threshold that was measured at the highest rate that may be
spent, and that rate is spent; the rest is kept for the next look. Somebody else's track is accepted at a look with at
most the probability of that threshold's rate, and at any of them with at most the sum of these (Bonferroni's
inequality), which never exceeds `a`, however much frames resemble each other. When the track ends, whatever is left may
be spent on a last look. Nothing is interpolated: a look that may spend less than the lowest rate measured is left out.
Where no rate below `a` / 2 was measured, or a threshold is given whose rate nobody knows, there is one look, which
spends all: at 2 pace faces, or at the end of the track.

To reject costs nothing: a track that is beyond the loosest threshold known after 2 pace faces, or after `pace` faces
when it ends, is called different, and may still be accepted at a later look. In between it stays undecided.

Two assumptions are named. Thresholds are measured on single images, and templates are taken to be no nearer to
strangers than images are (`python benchmarks/video.py templates` measures it). And the rate is that of one track and
one identity: a gallery of N people gives a stranger N chances, as in `FaceGallery.identify`, and a person who is as
near as the nearest of their M images (`template="best"`) up to M; by the mean of them it is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spherecv.brief import brief
from spherecv.checks import check_count, check_rate
from spherecv.errors import InvalidArgumentError, MissingThresholdError
from spherecv.thresholds import GIVEN, Threshold
from spherecv.verify import FaceVerifier

State = Literal["undecided", "same", "different"]

FAR = 1e-3
"""False accept rate where none is asked for, if it was measured."""
PACE = 8
"""Faces after which half of the false accept rate is spent."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Rates:
    """Thresholds by false accept rate, and the rate that a decision shall keep.

    Attributes
    ----------
    far : float or None
        What a decision may spend in all, 0..1; None where a threshold of unknown rate is used.
    known : tuple of Threshold
        The loosest first. Those with a rate, or a single one without.
    """

    far: float | None
    known: tuple[Threshold, ...]

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.far is not None:
            check_rate("far", self.far)
        if not self.known or (len(self.known) > 1 and any(row.far is None for row in self.known)):
            raise InvalidArgumentError("rates need one threshold, or several that each have a false accept rate")

    @classmethod
    def of(cls, verifier: FaceVerifier, far: float | None = None) -> Rates:
        """Collect what is known of a verifier's model.

        Parameters
        ----------
        verifier : FaceVerifier
            A threshold that it was given by its caller stands alone.
        far : float, optional
            False accept rate of a track's decision, 0..1; by default 0.001, or the nearest rate that was measured.

        Raises
        ------
        MissingThresholdError
            Nothing is known, or not at this rate.
        """
        known = verifier.known_thresholds
        if far is None:
            given = verifier.threshold
            if given.source == GIVEN or not known:
                return cls(given.far, (given,))
            far = _nearest(FAR, known)
        elif not any(row.far is not None and row.far <= far * (1 + 1e-9) for row in known):
            verifier.threshold_at(far)  # says which rates are known
            raise MissingThresholdError(f"no threshold is known at a false accept rate of {far:g} or less")
        return cls(far, tuple(sorted(known, key=lambda row: -(row.far or 0.0))))

    @property
    def single(self) -> bool:
        """Whether all that may be spent must be spent at once: no lower rate was measured."""
        strictest = self.known[-1].far
        return self.far is None or strictest is None or strictest > self.far / 2

    @property
    def loosest(self) -> float:
        """The largest distance that counts as the same person at any rate known."""
        return max(row.value for row in self.known)

    def within(self, far: float) -> Threshold | None:
        """Give the loosest threshold whose rate is at most `far`; None where none was measured at so low a rate."""
        if self.far is None:
            return self.known[0]
        # Sums of shares of a rate may miss it by a last digit.
        return next((row for row in self.known if row.far is not None and row.far <= far * (1 + _ROUNDING)), None)


def _nearest(far: float, known: Sequence[Threshold]) -> float:
    """The measured rate that is nearest to one wished for, by their ratio."""
    rates = [row.far for row in known if row.far]
    return min(rates, key=lambda rate: abs(math.log(rate / far)))


@dataclass(frozen=True)
class Decision:
    """What is known of a track so far.

    Attributes
    ----------
    state : {"undecided", "same", "different"}
        `different`: of nobody asked about.
    identity : str or None
        Who, where it is `same`.
    nearest : str or None
        Who was the nearest at the last look, near enough or not.
    distance, threshold : float or None
        Of the template at the last look, and what it was compared with; None before the first look.
    far : float or None
        The false accept rate that the decision keeps, 0..1; None for a threshold of unknown rate.
    faces : int
        Faces seen of the track at that look.
    """

    state: State = "undecided"
    identity: str | None = None
    nearest: str | None = None
    distance: float | None = None
    threshold: float | None = None
    far: float | None = None
    faces: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain Python values, ready for JSON."""
        rounded = {
            name: None if (value := getattr(self, name)) is None else round(value, 6)
            for name in ("distance", "threshold")
        }
        who = {"state": self.state, "identity": self.identity, "nearest": self.nearest}
        return {**who, **rounded, "far": self.far, "decided_at_faces": self.faces}


class Evidence:
    """Decides about one track, look by look; the module says how.

    Parameters
    ----------
    rates : Rates
    pace : int
        Faces after which half of the false accept rate is spent.
    """

    def __init__(self, rates: Rates, *, pace: int = PACE) -> None:
        check_count("pace", pace)
        self._rates = rates
        self._pace = pace
        self._next = 1
        self._spent = 0.0
        self.decision = Decision(far=rates.far)

    def due(self, faces: int) -> bool:
        """Say whether it is time for a look, with so many faces seen."""
        return self.decision.state != "same" and faces >= self._next

    def look(self, faces: int, nearest: Sequence[tuple[str, float]], *, last: bool = False) -> Decision:
        """Look at the template.

        Parameters
        ----------
        faces : int
            Seen of the track.
        nearest : sequence of (str, float)
            The nearest identity and its distance, first; may be empty.
        last : bool
            The track is over.

        Returns
        -------
        Decision
            `same` once is `same` for good.
        """
        if self.decision.state == "same":
            return self.decision
        while self._next <= faces:
            self._next *= 2
        threshold = self._threshold(faces, last)
        who, distance = nearest[0] if nearest else (None, None)
        near = threshold is not None and distance is not None and distance <= threshold
        enough = faces >= (self._pace if last else 2 * self._pace)
        far_off = distance is None or distance > self._rates.loosest
        state: State = "same" if near else "different" if enough and far_off else "undecided"
        self.decision = Decision(
            state=state,
            identity=who if near else None,
            nearest=who,
            distance=distance,
            threshold=self._shown(threshold),
            far=self._rates.far,
            faces=faces,
        )
        return self.decision

    def _threshold(self, faces: int, last: bool) -> float | None:
        """What may be spent now says which threshold holds; None where that is too little for any."""
        total = 1.0 if self._rates.far is None else self._rates.far
        if self._rates.single:
            allowed = total if (last or faces >= 2 * self._pace) and self._spent == 0.0 else 0.0
        else:
            allowed = (total if last else total * faces / (faces + self._pace)) - self._spent
        row = self._rates.within(allowed) if allowed > 0.0 else None
        if row is None:
            return None
        self._spent += total if self._rates.single else row.far or total
        return row.value

    def _shown(self, threshold: float | None) -> float:
        """What the distance was compared with; where it was not, what it would be compared with in the end."""
        if threshold is None:
            row = self._rates.within(self._rates.far or 1.0)
            threshold = self._rates.known[0].value if row is None else row.value
        return threshold
