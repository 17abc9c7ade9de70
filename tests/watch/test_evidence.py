from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError, MissingThresholdError
from spherecv.thresholds import Threshold
from spherecv.watch.evidence import Decision, Evidence, Rates

# Of somebody whose distances to strangers are uniform in 0..1 the threshold at a rate is the rate.
UNIFORM = tuple(Threshold(far, far, "uniform") for far in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-5))
LOOKS = [2**power for power in range(12)]


def verdict(evidence: Evidence, distances, faces=LOOKS, *, ends: bool = True) -> Decision:
    for count, away in zip(faces, distances, strict=False):
        if evidence.due(count):
            evidence.look(count, [("Ann", float(away))])
    if ends:
        evidence.look(faces[len(distances) - 1], [("Ann", float(distances[-1]))], last=True)
    return evidence.decision


@pytest.mark.parametrize("dependence", ["independent", "equal", "taking turns"])
@pytest.mark.parametrize("known", [UNIFORM, UNIFORM[:1], UNIFORM[:3]])
def test_strangers_are_accepted_no_more_often_than_stated(dependence, known) -> None:
    generator = np.random.default_rng(0)
    rates = Rates(0.1, known)
    tracks = 1500
    draws = generator.random((tracks, len(LOOKS)))
    if dependence == "equal":
        draws[:] = draws[:, :1]
    elif dependence == "taking turns":  # one small distance somewhere, the others large: the worst for many looks
        draws = 1 - (1 - draws) * 0.1
        draws[np.arange(tracks), generator.integers(0, len(LOOKS), tracks)] = generator.random(tracks)
    accepted = np.mean([verdict(Evidence(rates), row).state == "same" for row in draws])
    assert accepted < 0.1 + 3 * np.sqrt(0.1 * 0.9 / tracks)


def test_what_the_looks_spend_adds_up_to_the_rate() -> None:
    evidence = Evidence(Rates(0.1, UNIFORM), pace=8)
    spent = []
    for faces in LOOKS:  # the threshold of a uniform distance is its rate
        spent.append(evidence.look(faces, [("Ann", 0.9)]).threshold)
        assert 0.08 * faces / (faces + 8) - 0.01 <= sum(spent) <= 0.1 * faces / (faces + 8) + 1e-12
    spent.append(evidence.look(LOOKS[-1], [("Ann", 0.9)], last=True).threshold)
    assert 0.09 < sum(spent) <= 0.1 + 1e-12
    # Exactly, with thresholds known at every rate that is spent:
    allowed = np.diff([0.0] + [0.1 * n / (n + 8) for n in LOOKS] + [0.1])
    exact = Rates(0.1, tuple(Threshold(far, far) for far in sorted({*allowed, 0.1}, reverse=True)))
    evidence = Evidence(exact, pace=8)
    spent = [evidence.look(faces, [("Ann", 0.9)]).threshold for faces in LOOKS]
    spent.append(evidence.look(LOOKS[-1], [("Ann", 0.9)], last=True).threshold)
    np.testing.assert_allclose(spent, allowed, rtol=1e-9)
    assert sum(spent) == pytest.approx(0.1)


def test_evidence_is_gathered() -> None:
    rates = Rates(1e-3, UNIFORM)
    assert verdict(Evidence(rates), [5e-5], ends=False).state == "same"
    assert verdict(Evidence(rates), [2e-4], ends=False).state == "undecided"
    later = verdict(Evidence(rates), [0.3, 0.01, 3e-4, 1e-4], ends=False)
    assert (later.state, later.identity, later.faces, later.far) == ("same", "Ann", 8, 1e-3)
    # The last look spends what is left.
    assert verdict(Evidence(rates), [2e-4], [1], ends=False).state == "undecided"
    fine = Rates(1e-3, (*UNIFORM[:5], Threshold(5e-4, 5e-4), *UNIFORM[5:]))
    assert verdict(Evidence(fine), [4e-4]).state == "same"
    assert verdict(Evidence(fine), [4e-4], ends=False).state == "undecided"
    assert verdict(Evidence(rates), [2e-3]).state == "undecided"


def test_different_needs_enough_faces_and_is_not_binding() -> None:
    evidence = Evidence(Rates(1e-3, UNIFORM), pace=4)
    assert verdict(evidence, [0.5] * 3, ends=False).state == "undecided"
    assert verdict(evidence, [0.5], [8], ends=False).state == "different"
    assert verdict(evidence, [0.05], [16], ends=False).state == "undecided"  # nearer than the loosest threshold
    assert verdict(evidence, [1e-5], [32], ends=False).state == "same"
    assert verdict(evidence, [0.9], [64]).state == "same"  # for good
    assert verdict(Evidence(Rates(1e-3, UNIFORM), pace=4), [0.5], [2]).state == "undecided"
    assert verdict(Evidence(Rates(1e-3, UNIFORM), pace=4), [0.5], [4]).state == "different"
    nobody = Evidence(Rates(1e-3, UNIFORM), pace=4)
    assert nobody.look(8, []).state == "different"
    assert nobody.decision.distance is None


@pytest.mark.parametrize("far", [None, 1e-3])
def test_a_single_threshold_allows_a_single_look(far) -> None:
    rates = Rates(far, (Threshold(0.6, far),))
    near = [0.5] * 12
    early = Evidence(rates, pace=4)
    assert verdict(early, near[:3], ends=False).state == "undecided"
    assert early.decision.threshold == 0.6
    assert verdict(early, near[:1], [8], ends=False).state == "same"
    assert verdict(Evidence(rates, pace=4), near[:1]).state == "same"  # the track is over
    late = Evidence(rates, pace=4)
    assert verdict(late, [0.7], [8], ends=False).state == "different"
    assert verdict(late, [0.5], [16]).state != "same"  # the one look is gone
    assert late.decision.far == far


def test_thresholds_are_not_guessed() -> None:
    loose, strict = Threshold(0.7, 1e-2), Threshold(0.5, 1e-4)
    rates = Rates(0.01, (loose, strict))
    assert [rates.within(far) for far in (0.5, 1e-2, 1e-3, 1e-4, 9e-5)] == [loose, loose, strict, strict, None]
    assert rates.loosest == 0.7
    for far, known in ((1.5, UNIFORM), (0.1, ()), (0.1, (Threshold(0.5), Threshold(0.4)))):
        with pytest.raises(InvalidArgumentError):
            Rates(far, known)
    with pytest.raises(InvalidArgumentError, match="pace"):
        Evidence(rates, pace=0)


def test_the_threshold_shown_while_a_track_is_undecided() -> None:
    """What the distance was compared with; where it was not, what it would be compared with in the end."""
    known = (Threshold(0.8, 1e-2), Threshold(0.6, 1e-3), Threshold(0.4, 1e-4))
    evidence = Evidence(Rates(1e-3, known), pace=8)
    assert evidence.decision == Decision(far=1e-3)
    shown = evidence.look(1, [("Ann", 0.7)])  # may spend 1.1e-4: compared with the strictest
    assert (shown.state, shown.threshold) == ("undecided", 0.4)
    shown = evidence.look(1, [("Ann", 0.7)])  # 1.1e-5 is left: not compared
    assert (shown.state, shown.threshold) == ("undecided", 0.6)
    assert Evidence(Rates(5e-4, known)).look(1, [("Ann", 0.7)]).threshold == 0.4
    assert Evidence(Rates(2e-3, known)).look(4, [("Ann", 0.7)]).threshold == 0.4
    # A rate that nothing was measured at shows the loosest threshold.
    assert Evidence(Rates(1e-5, known)).look(1, [("Ann", 0.7)]).threshold == 0.8
    assert Evidence(Rates(None, known[:1])).look(1, [("Ann", 0.7)]).threshold == 0.8


def test_a_decision_in_plain_values() -> None:
    assert Decision().to_dict() == {
        "state": "undecided", "identity": None, "nearest": None, "distance": None, "threshold": None, "far": None,
        "decided_at_faces": 0,
    }  # fmt: skip
    evidence = Evidence(Rates(0.1, (Threshold(0.30000049, 0.1), Threshold(0.2, 0.01))))
    assert evidence.look(3, [("Ann", 0.12345678), ("Bob", 0.2)], last=True).to_dict() == {
        "state": "same", "identity": "Ann", "nearest": "Ann", "distance": 0.123457, "threshold": 0.3, "far": 0.1,
        "decided_at_faces": 3,
    }  # fmt: skip


def test_the_limits_of_rates_and_pace() -> None:
    for far in (0.0, 1.0, -0.1):
        with pytest.raises(InvalidArgumentError, match="far must be"):
            Rates(far, UNIFORM)
    for pace in (0, -1, True, 8.0):
        with pytest.raises(InvalidArgumentError, match="pace must be"):
            Evidence(Rates(0.1, UNIFORM), pace=pace)
    assert Evidence(Rates(0.1, UNIFORM), pace=1).look(2, [("Ann", 0.9)]).state == "different"
    assert Rates(None, (Threshold(0.5),)).single
    assert Rates(0.1, (Threshold(0.5, 0.1), Threshold(0.4, 0.0501))).single
    assert not Rates(0.1, (Threshold(0.5, 0.1), Threshold(0.4, 0.05))).single


def test_when_a_look_is_due() -> None:
    evidence = Evidence(Rates(1e-3, UNIFORM))
    seen = [faces for faces in range(20) if evidence.due(faces) and evidence.look(faces, [("Ann", 0.9)])]
    assert seen == [1, 2, 4, 8, 16]
    assert evidence.look(33, [("Ann", 0.9)]).faces == 33
    assert [evidence.due(faces) for faces in (33, 63, 64)] == [False, False, True]
    assert evidence.look(64, [("Ann", 1e-6)]).state == "same"
    assert not evidence.due(128)
    assert evidence.look(128, [("Bob", 1e-7)]) == evidence.decision
    assert (evidence.decision.identity, evidence.decision.faces) == ("Ann", 64)


def knowing(threshold: Threshold, *known: Threshold):
    def threshold_at(far):
        raise MissingThresholdError(f"known rates: {[row.far for row in known]}")

    return SimpleNamespace(threshold=threshold, known_thresholds=list(known), threshold_at=threshold_at)


def test_rates_come_from_what_the_verifier_knows() -> None:
    known = [Threshold(0.7, 1e-2, "LFW"), Threshold(0.5, 1e-4, "LFW")]
    best = Threshold(0.65, None, "best accuracy on LFW")
    assert Rates.of(knowing(Threshold(0.6), *known)) == Rates(None, (Threshold(0.6),))
    assert Rates.of(knowing(best)).known == (best,)
    assert Rates.of(knowing(best, *known)).far in (1e-2, 1e-4)
    assert Rates.of(knowing(known[0], *known, Threshold(0.6, 2e-3, "LFW"))).far == 2e-3
    assert Rates.of(knowing(best, *known), 3e-3) == Rates(3e-3, tuple(known))
    for far in (1e-6, 5.1e-5):  # the lowest known is 1e-4
        with pytest.raises(MissingThresholdError, match="known rates"):
            Rates.of(knowing(best, *known), far)
    # A rate as close as rounding gives it is the rate, and the order in which they are known does not matter.
    assert Rates.of(knowing(best, *known[::-1]), 1e-4 * (1 - 1e-12)).known == tuple(known)
