from __future__ import annotations

import numpy as np
import pytest

import spherecv.evaluate.allpairs as module
from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.allpairs import compare_all, largest_below


def labelled(seed: int = 0, people: int = 40, dimension: int = 16):
    generator = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), generator.integers(1, 6, size=people))
    centres = generator.normal(size=(people, dimension))
    return centres[identities] + generator.normal(size=(len(identities), dimension)), identities


def full(embeddings, identities):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    return 1.0 - (unit @ unit.T)[first, second], identities[first] == identities[second]


def test_all_pairs_in_blocks_are_those_of_the_full_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROBES", 17)
    embeddings, identities = labelled()
    shuffled = np.random.default_rng(1).permutation(len(identities))
    found = compare_all(embeddings[shuffled], identities[shuffled], replicates=50)
    distances, same = full(embeddings, identities)
    impostor = np.sort(distances[~same])
    assert found.impostors == len(impostor)
    np.testing.assert_allclose(np.sort(found.genuine), np.sort(distances[same]), atol=1e-6)
    np.testing.assert_allclose(np.sort(found.sample), impostor, atol=1e-6)
    np.testing.assert_allclose(found.nearest, impostor[: len(found.nearest)], atol=1e-6)
    rates = {rate.far: rate for rate in found.rates}
    assert list(rates) == [0.1, 0.01]
    for far, rate in rates.items():
        assert rate.false_accepts == int(far * len(impostor))
        assert rate.measured == rate.false_accepts / len(impostor) <= far
        assert rate.tar == pytest.approx(np.mean(distances[same] <= rate.threshold))
        assert rate.interval[0] <= rate.measured <= rate.interval[1]
    assert found.unsupported == (1e-3, 1e-4, 1e-5, 1e-6)


def test_the_nearest_pairs_know_whose_they_are() -> None:
    embeddings, identities = labelled(2)
    found = compare_all(embeddings, identities + 100, replicates=10)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows, people = found.nearest_rows[:20], found.nearest_people[:20]
    np.testing.assert_allclose(1 - (unit[rows[:, 0]] * unit[rows[:, 1]]).sum(1), found.nearest[:20], atol=1e-6)
    np.testing.assert_array_equal(identities[rows], people)
    assert (people[:, 0] != people[:, 1]).all()


def test_a_sample_stands_for_many_impostor_pairs() -> None:
    embeddings, identities = labelled(3, people=150)
    found = compare_all(embeddings, identities, sample=5000, replicates=10)
    distances, same = full(embeddings, identities)
    assert 4000 < len(found.sample) < 6000
    assert abs(np.median(found.sample) - np.median(distances[~same])) < 0.02


@pytest.mark.parametrize("allowed", [0, 1, 2, 3, 4, 5, 6, 9])
def test_the_threshold_accepts_no_more_than_allowed_ties_included(allowed: int) -> None:
    impostors = np.array([0.2, 0.3, 0.3, 0.3, 0.5, 0.8])
    cut = largest_below(impostors, allowed)
    accepted = int((impostors <= cut).sum())
    assert accepted <= allowed
    assert cut >= 0
    assert accepted == {0: 0, 1: 1, 2: 1, 3: 1, 4: 4, 5: 5}.get(allowed, 6)


def test_what_cannot_be_compared_is_refused() -> None:
    embeddings, identities = labelled(4)
    with pytest.raises(NotEnoughDataError, match="at least two identities"):
        compare_all(embeddings, np.zeros(len(embeddings)))
    with pytest.raises(InvalidArgumentError, match="identities must have shape"):
        compare_all(embeddings, identities[:3])
    with pytest.raises(InvalidArgumentError, match=r"rates must be a number within 0\.\.1"):
        compare_all(embeddings, identities, rates=(2.0,))
