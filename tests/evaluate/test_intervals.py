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


def figures_slowly(distances, same, pairs, people, threshold, rates, replicates, seed):
    """Accuracy, EER, AUC and TARs of each replicate in which both kinds of pairs occur."""
    thresholds = np.broadcast_to(threshold, len(same))
    for counts in np.concatenate(list(draws(people, len(same), replicates, seed))).astype(int):
        d, s = weighted_by_repeating(distances, same, pairs, counts)
        limit, _ = weighted_by_repeating(thresholds, same, pairs, counts)
        if s.any() and not s.all():
            roc = roc_curve(d, s)
            tars = [tar_at_far(roc, far)[0] for far in rates]
            yield [np.mean((d <= limit) == s), equal_error(roc)[0], area_under(roc), *tars]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("people", "decimals", "rates"), [(8, 9, (0.1, 0.3)), (8, 1, (0.1, 0.3)), (4, 0, (0.25, 0.5))])
@pytest.mark.parametrize("each", [False, True])
def test_a_pair_weighs_the_product_of_its_two_peoples_draw_counts(
    people_and_pairs, people, decimals, rates, each
) -> None:
    """Also where distances tie with each other and with the threshold."""
    generator = np.random.default_rng(0)
    distances, same, pairs = people_and_pairs(generator, people)
    distances = np.round(distances, decimals)
    threshold = generator.permutation(distances) if each else np.sort(distances)[len(same) // 2]
    settings = {"rates": rates, "replicates": 40, "seed": 5}
    found = bootstrap(distances, same, pairs, threshold=threshold, **settings)
    rows = list(figures_slowly(distances, same, pairs, people, threshold, **settings))
    low, high = np.percentile(rows, [2.5, 97.5], axis=0)
    expected = list(zip(low, high, strict=True))
    got = [found.accuracy, found.eer, found.auc, *(found.tar[rate] for rate in rates)]
    for mine, theirs in zip(got, expected, strict=True):
        if theirs not in ((0.0, 0.0), (1.0, 1.0)):  # those are opened
            assert mine == pytest.approx(theirs, abs=1e-9)
    assert (found.identities, found.used, found.replicates) == (people, len(rows), 40)


@pytest.mark.filterwarnings("error")
def test_replicates_without_one_kind_of_pairs_do_not_count() -> None:
    distances, same, pairs = [0.1, 0.2, 0.15], [True, True, False], np.array([["a", "a"], ["b", "b"], ["a", "b"]])
    found = bootstrap(distances, same, pairs, threshold=0.15, replicates=60, seed=1)
    both = [counts for counts in np.concatenate(list(draws(2, 3, 60, 1))) if counts.all()]
    assert 0 < found.used == len(both) < 60
    assert found.accuracy == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found.auc == (0.5, 0.5)
    apart = np.array([["a", "a"], ["b", "c"]])  # here a kind may be missing where the other is not
    found = bootstrap([0.1, 0.2], [True, False], apart, threshold=0.15, replicates=60, seed=1)
    assert found.used == sum(a * b * c > 0 for a, b, c in np.concatenate(list(draws(3, 2, 60, 1))))
    for given, replicates in ((same, 0), ([True] * 3, 20), ([False] * 3, 20)):
        nothing = bootstrap(distances, given, pairs, threshold=0.15, rates=(0.1,), replicates=replicates)
        assert nothing.used == 0
        assert np.isnan([nothing.accuracy, nothing.eer, nothing.auc, nothing.tar[0.1]]).all()


def test_a_rate_that_is_met_exactly_is_kept() -> None:
    """Of two impostor pairs, always of equal weight, one lies before the genuine ones: half are accepted with them."""
    pairs = [(n, n) for n in range(8)] + [(0, 1), (1, 0)]
    found = bootstrap([0.15] * 8 + [0.1, 0.2], [True] * 8 + [False] * 2, pairs, rates=(0.5, 0.49), replicates=50)
    assert found.tar == {0.5: (1 - 3 / 8, 1.0), 0.49: (0.0, 3 / 8)}


def test_chunks_hold_no_more_than_promised() -> None:
    def sizes(*arguments):
        return [chunk.shape for chunk in draws(*arguments, 0)]

    assert sizes(1, 1, 100_001) == [(100_000, 1), (1, 1)]
    assert sizes(3, 40_000, 5) == [(2, 3), (2, 3), (1, 3)]
    assert sizes(3, 200_000, 2) == [(1, 3), (1, 3)]
    assert sizes(50_000, 3, 2) == [(2, 50_000)]
    counts = np.concatenate(list(draws(4, 30_000, 8, 0)))
    np.testing.assert_array_equal(counts, np.concatenate(list(draws(4, 1, 8, 0))))
    assert (counts.sum(axis=1) == 4).all()


def test_what_is_taken_where_nothing_is_said(people_and_pairs) -> None:
    columns = people_and_pairs(np.random.default_rng(2), 5)
    found = bootstrap(*columns)
    assert found == bootstrap(*columns, replicates=1000, level=0.95, seed=0)
    assert (found.accuracy, found.tar, found.level, found.replicates) == (None, {}, 0.95, 1000)
    wide, narrow = (bootstrap(*columns, level=level).auc for level in (0.99, 0.5))
    assert wide[0] < found.auc[0] < narrow[0] < narrow[1] < found.auc[1] < wide[1]


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
