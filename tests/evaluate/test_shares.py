from __future__ import annotations

import numpy as np
import pytest

from spherecv.evaluate.intervals import draws
from spherecv.evaluate.shares import group_interval, rate_interval, share_interval


def test_no_pair_seen_is_not_no_pair_possible() -> None:
    people = np.arange(40)
    pairs = np.stack([people, np.where(people < 20, people, (people + 1) % 40)], axis=1)
    assert share_interval(np.zeros(40, bool), pairs) == (0.0, pytest.approx(3 / 40))
    assert share_interval(np.ones(40, bool), pairs) == (pytest.approx(1 - 3 / 40), 1.0)


def test_rate_of_all_pairs_from_the_accepted_ones_alone(people_and_pairs) -> None:
    generator = np.random.default_rng(2)
    distances, same, pairs = people_and_pairs(generator, 12)
    accepted = (distances <= np.percentile(distances[~same], 10)) & ~same
    low, high = rate_interval(pairs[accepted], np.full(12, 3), replicates=60, seed=3)
    rates = []
    for counts in np.concatenate(list(draws(12, 12, 60, 3))):
        weight = counts[pairs[:, 0]] * counts[pairs[:, 1]] * ~same
        rates.append(weight[accepted].sum() / weight.sum())
    np.testing.assert_allclose((low, high), np.percentile(rates, [2.5, 97.5]), atol=1e-12)
    assert rate_interval(np.empty((0, 2)), [2, 2, 2]) == (0.0, 3 / 12)


def test_rate_between_groups_counts_the_pairs_of_different_people() -> None:
    first, second = np.array([0, 0, 1, 2]), np.array([2, 3, 4])
    accepted = np.array([[0, 3], [1, 4]])
    low, high = group_interval(accepted, first, second, same=False, replicates=50, seed=1)
    rates = []
    for counts in np.concatenate(list(draws(5, 5, 50, 1))):
        pairs = sum(counts[a] * counts[b] for a in first for b in second if a != b)
        false = sum(counts[a] * counts[b] for a, b in accepted)
        rates.append(false / pairs if pairs else np.nan)
    np.testing.assert_allclose((low, high), np.nanpercentile(rates, [2.5, 97.5]), atol=1e-12)
    assert np.isnan(group_interval([], [0], [0], same=True)).all()
