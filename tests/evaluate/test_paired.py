"""Two models on the same pairs: McNemar by fractions, and a bootstrap done the long way."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherecv.errors import InvalidArgumentError
from spherecv.evaluate.identification import identify
from spherecv.evaluate.paired import compare_distances, compare_searches, compare_shares, mcnemar


@settings(deadline=None)
@given(first=st.integers(0, 60), second=st.integers(0, 60))
def test_mcnemar_by_definition(first: int, second: int) -> None:
    total = first + second
    mine = comb(total, first)
    # Two-sided: everything that is at most as probable as what was seen, of fair tosses.
    tail = sum(Fraction(comb(total, k), 2**total) for k in range(total + 1) if comb(total, k) <= mine)
    assert mcnemar(first, second) == pytest.approx(float(tail), abs=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), pairs=st.integers(4, 60))
def test_decisions_are_counted_by_definition(seed: int, pairs: int) -> None:
    generator = np.random.default_rng(seed)
    one, two = generator.normal(size=(2, pairs)).round(1)
    same = generator.random(pairs) < 0.5
    cuts = 0.1, generator.normal(size=pairs).round(1)
    found = compare_distances(one, two, same, thresholds=cuts, replicates=0)
    right = [[bool((d <= c) == s) for d, c, s in zip(values, np.broadcast_to(cut, pairs), same, strict=True)]
             for values, cut in ((one, cuts[0]), (two, cuts[1]))]  # fmt: skip
    seen = list(zip(*right, strict=True))
    assert found.both_right == seen.count((True, True))
    assert found.first_only == seen.count((True, False))
    assert found.second_only == seen.count((False, True))
    assert found.both_wrong == seen.count((False, False))


def test_the_interval_of_the_difference_is_that_of_a_bootstrap_by_hand(people_and_pairs) -> None:
    generator = np.random.default_rng(5)
    one, same, people = people_and_pairs(generator, 25)
    two = one + 0.5 * generator.normal(size=len(one))
    found = compare_distances(
        one, two, same, thresholds=(1.0, 1.0), identities=people, rates=[0.1], replicates=400, seed=1
    )
    gaps = []
    for _ in range(400):
        counts = np.bincount(generator.integers(25, size=25), minlength=25)
        weights = np.where(same, counts[people[:, 0]], counts[people[:, 0]] * counts[people[:, 1]]).astype(float)
        gaps.append(_tar(one, same, weights) - _tar(two, same, weights))
    low, high = np.percentile(gaps, [2.5, 97.5])
    figure = found.tar[0.1]
    assert figure.value == pytest.approx(_tar(one, same, np.ones(len(one))) - _tar(two, same, np.ones(len(one))))
    spread = high - low
    assert figure.interval == (pytest.approx(low, abs=0.25 * spread), pytest.approx(high, abs=0.25 * spread))


def _tar(distances, same, weights) -> float:
    """Share of genuine weight at the largest threshold that accepts at most a tenth of the impostors' weight."""
    order = np.argsort(distances)
    false, right = (np.cumsum((weights * kind)[order]) for kind in (~same, same))
    allowed = np.flatnonzero(false <= 0.1 * false[-1] + 1e-9)
    return float(right[allowed[-1]] / right[-1]) if len(allowed) else 0.0


def test_a_model_against_itself(people_and_pairs) -> None:
    distances, same, people = people_and_pairs(np.random.default_rng(2), 20)
    found = compare_distances(distances, distances, same, thresholds=(1.0, 1.0), identities=people, replicates=50)
    assert found.p_value == 1.0
    assert all(figure.value == 0 and figure.interval == (0.0, 0.0) for figure in found.tar.values())
    assert "McNemar" in str(found)
    assert found.to_dict()["first_only"] == 0


@given(seed=st.integers(0, 1000), trials=st.integers(1, 60))
@settings(deadline=None)
def test_shares_by_definition(seed: int, trials: int) -> None:
    generator = np.random.default_rng(seed)
    one, two = generator.random((2, trials)) < 0.6
    people = generator.integers(8, size=trials)
    found = compare_shares(one, two, people, what="TAR", replicates=20)
    assert found.first_only == sum(bool(a and not b) for a, b in zip(one, two, strict=True))
    assert found.second_only == sum(bool(b and not a) for a, b in zip(one, two, strict=True))
    assert found.difference.value == pytest.approx(one.mean() - two.mean())
    assert found.p_value == mcnemar(found.first_only, found.second_only)
    low, high = found.difference.interval
    assert -1 <= low <= high <= 1
    assert found.to_dict()["what"] == "TAR"


def test_the_interval_of_a_share_resamples_people_for_both() -> None:
    generator = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 5)
    one, two = generator.random((2, 200)) < 0.7
    found = compare_shares(one, two, people, replicates=2000)
    gaps = []
    for _ in range(2000):
        rows = np.concatenate([np.flatnonzero(people == person) for person in generator.integers(40, size=40)])
        gaps.append(one[rows].mean() - two[rows].mean())
    low, high = np.percentile(gaps, [2.5, 97.5])
    assert found.difference.interval == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    with pytest.raises(InvalidArgumentError, match="all three"):
        compare_shares(one, two[:3], people)


def test_searches_are_compared_where_the_trials_are_the_same() -> None:
    generator = np.random.default_rng(1)
    people = np.repeat(np.arange(10), 3)
    centres = generator.normal(size=(10, 6))[people]
    strangers = generator.normal(size=(120, 6))
    sharp, blurred = (centres + noise * generator.normal(size=centres.shape) for noise in (0.2, 1.2))
    one, two = (identify(rows, people, strangers, counts=(10, 100)) for rows in (sharp, blurred))
    found = compare_searches(one, two, names=("a", "b"), replicates=50)
    assert [test.what for test in found] == ["rank-1 among 10 distractors", "rank-1 among 100 distractors"]
    assert found[1].difference.value == pytest.approx(one.rank1()[100] - two.rank1()[100])
    assert found[1].p_value < 0.05
    fewer = identify(sharp[1:], people[1:], strangers, counts=(10, 100))
    assert compare_searches(one, fewer, names=("a", "b")) == ()
