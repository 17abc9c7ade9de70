from __future__ import annotations

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.evaluate.curves import area_under, equal_error, roc_curve, tar_at_far
from spherecv.evaluate.intervals import bootstrap, draws


def weighted_by_repeating(distances, same, pairs, counts):
    """The same replicate made the slow way: every pair as often as it weighs."""
    weight = np.where(same, counts[pairs[:, 0]], counts[pairs[:, 0]] * counts[pairs[:, 1]])
    return np.repeat(distances, weight), np.repeat(same, weight)


def test_a_pair_weighs_the_product_of_its_two_peoples_draw_counts(people_and_pairs) -> None:
    generator = np.random.default_rng(0)
    distances, same, pairs = people_and_pairs(generator, 8)
    replicates = 40
    found = bootstrap(distances, same, pairs, threshold=1.0, rates=(0.1, 0.3), replicates=replicates, seed=5)
    rows = []
    for counts in np.concatenate(list(draws(8, len(same), replicates, 5))).astype(int):
        d, s = weighted_by_repeating(distances, same, pairs, counts)
        roc = roc_curve(d, s)
        tars = [tar_at_far(roc, far)[0] for far in (0.1, 0.3)]
        rows.append([np.mean((d <= 1.0) == s), equal_error(roc)[0], area_under(roc), *tars])
    low, high = np.percentile(rows, [2.5, 97.5], axis=0)
    expected = list(zip(low, high, strict=True))
    got = [found.accuracy, found.eer, found.auc, found.tar[0.1], found.tar[0.3]]
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert (found.identities, found.used, found.replicates) == (8, replicates, replicates)


def test_intervals_cover_what_they_promise_where_pairs_depend_on_people(people_and_pairs) -> None:
    generator = np.random.default_rng(1)
    truth = area_under(roc_curve(*people_and_pairs(generator, 500)[:2]))
    hits = 0
    for trial in range(40):
        distances, same, pairs = people_and_pairs(generator, 25)
        low, high = bootstrap(distances, same, pairs, replicates=200, seed=trial).auc
        hits += low <= truth <= high
    assert hits >= 32  # 95 % promised; 40 trials of 95 % give fewer than 33 once in 10,000


def test_nothing_seen_is_not_nothing_possible() -> None:
    distances, same = np.array([0.1] * 20 + [0.9] * 20), np.arange(40) < 20
    pairs = np.stack([np.arange(40), np.where(same, np.arange(40), (np.arange(40) + 1) % 40)], axis=1)
    found = bootstrap(distances, same, pairs, threshold=0.5, rates=(0.5,), replicates=50)
    assert found.accuracy == (pytest.approx(1 - 3 / 40), 1.0)
    assert found.tar[0.5] == (pytest.approx(1 - 3 / 20), 1.0)
    assert found.eer == (0.0, pytest.approx(3 / 20))


def test_four_pairs_do_not_make_a_perfect_area() -> None:
    """Two people, told apart in all four pairs: that says nearly nothing of others."""
    same, people = [True, True, False, False], [["a", "a"], ["b", "b"], ["a", "b"], ["b", "a"]]
    for distances in ([0.1, 0.2, 0.8, 0.9], [0.8, 0.9, 0.1, 0.2]):
        assert bootstrap(distances, same, people, replicates=200).auc == (0.0, 1.0)
    # Of six in impostor pairs and twelve in genuine ones, the fewer count.
    same, people = np.arange(15) < 12, [(n, n) if n < 12 else (n - 12, n - 9) for n in range(15)]
    found = bootstrap(np.where(same, 0.1, 0.9), same, people, replicates=200)
    assert found.auc == (pytest.approx(1 - 3 / 6), 1.0)


def test_the_same_seed_gives_the_same_interval_and_shapes_are_checked(people_and_pairs) -> None:
    distances, same, pairs = people_and_pairs(np.random.default_rng(3), 6)
    assert bootstrap(distances, same, pairs, replicates=30) == bootstrap(distances, same, pairs, replicates=30)
    with pytest.raises(InvalidArgumentError, match="identities must have shape"):
        bootstrap(distances, same, pairs[:5])
    with pytest.raises(InvalidArgumentError, match="level"):
        bootstrap(distances, same, pairs, level=1.0)
