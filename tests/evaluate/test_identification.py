from __future__ import annotations

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError, NotEnoughDataError
from spherecv.evaluate.blocks import Highest, candidates, similarity_blocks, unit_rows
from spherecv.evaluate.identification import identify


def world(seed: int = 0, people: int = 12, photos: int = 3, strangers: int = 700, dimension: int = 8):
    generator = np.random.default_rng(seed)
    identities = np.repeat(np.arange(people), photos)
    centres = generator.normal(size=(people, dimension))
    probes = centres[identities] + generator.normal(size=(len(identities), dimension))
    return probes, identities, generator.normal(size=(strangers, dimension)).astype(np.float32)


def cosines(a, b):
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_ranks_cmc_and_tar_are_those_of_the_full_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    import spherecv.evaluate.blocks as blocks

    monkeypatch.setattr(blocks.similarity_blocks, "__kwdefaults__", {"normalized": False, "block_bytes": 4 * 36 * 97})
    probes, identities, strangers = world()
    found = identify(probes, identities, strangers, counts=(10, 100, 500, 700), rates=(1e-1, 1e-2, 2e-3, 1e-6))
    to_strangers, to_each_other = cosines(probes, strangers), cosines(probes, probes)
    trials = [
        (probe, other)
        for probe in range(len(probes))
        for other in range(len(probes))
        if probe != other and identities[probe] == identities[other]
    ]
    assert found.trials == len(trials)
    for count, row in zip(found.distractors, found.ranks, strict=True):
        ranks = [(to_strangers[p, :count] >= to_each_other[p, o]).sum() for p, o in trials]
        assert sorted(row) == sorted(ranks)
        assert found.rank1()[count] == np.mean(np.array(ranks) == 0)
    np.testing.assert_allclose(found.cmc(5)[-1], [np.mean(np.array(ranks) < depth) for depth in range(1, 6)])
    genuine = np.array([to_each_other[p, o] for p, o in trials])
    for far in (1e-1, 1e-2, 2e-3):
        allowed = int(far * to_strangers.size + 1e-9)
        cut = np.sort(to_strangers.ravel())[::-1][allowed]
        assert found.tar[far] == pytest.approx(np.mean(genuine > cut), abs=1e-9)
        assert np.mean(to_strangers > 1 - found.thresholds[far] + 1e-6) <= far
    assert found.unsupported == (1e-6,)


def test_distractors_may_be_memory_mapped_and_normalised(tmp_path) -> None:
    probes, identities, strangers = world(1)
    np.save(tmp_path / "d.npy", unit_rows(strangers))
    mapped = np.load(tmp_path / "d.npy", mmap_mode="r")
    done = []
    a = identify(probes, identities, mapped, counts=(700,), distractors_normalized=True, progress=done.append)
    b = identify(probes, identities, strangers, counts=(10_000,))
    np.testing.assert_array_equal(a.ranks, b.ranks)
    assert done[-1] == 700
    assert "there are 700 distractors, fewer than the 10,000" in b.notes[0]


def test_a_tie_counts_against_the_photo() -> None:
    probes = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = identify(probes, [0, 0], np.array([[1.0, 0.0]], np.float32), counts=(1,), rates=())
    assert found.rank1() == {1: 0.0}


def test_what_cannot_be_measured_is_refused() -> None:
    probes, identities, strangers = world(2)
    with pytest.raises(NotEnoughDataError, match="nobody has two images"):
        identify(probes, np.arange(len(probes)), strangers)
    with pytest.raises(NotEnoughDataError, match="at least one distractor"):
        identify(probes, identities, strangers[:0])
    with pytest.raises(InvalidArgumentError, match="equally many columns"):
        identify(probes, identities, strangers[:, :3])
    with pytest.raises(InvalidArgumentError, match="must be finite"):
        identify(np.full_like(probes, np.nan), identities, strangers)
    with pytest.raises(InvalidArgumentError, match="counts"):
        identify(probes, identities, strangers, counts=(0,))
    with pytest.raises(InvalidArgumentError, match="must be finite"):
        identify(probes, identities, np.full_like(strangers, np.inf))


@pytest.mark.parametrize("count", [1, 7, 50, 400])
def test_the_highest_of_a_stream_are_those_of_the_whole(count: int) -> None:
    generator = np.random.default_rng(count)
    table = np.round(generator.normal(size=(20, 90)), 1).astype(np.float32)  # many ties
    skip = generator.random(table.shape) < 0.2
    highest = Highest(count)
    kept = np.where(skip, -np.inf, table).astype(np.float32)
    for start in range(0, 90, 17):
        block = np.ascontiguousarray(kept[:, start : start + 17])
        for part, row, column in candidates(block, lambda: np.full(20, highest.floor), inclusive=False):
            highest.offer(part, row, column + start)
    values, rows, columns = highest.result()
    np.testing.assert_array_equal(values, np.sort(table[~skip])[::-1][:count])
    np.testing.assert_array_equal(table[rows, columns], values)
    assert not skip[rows, columns].any()


def test_blocks_cover_everything_once() -> None:
    generator = np.random.default_rng(0)
    a, b = unit_rows(generator.normal(size=(5, 4))), generator.normal(size=(33, 4)).astype(np.float32)
    parts = [(where, block.copy()) for where, block in similarity_blocks(a, b, block_bytes=4 * 5 * 8)]
    assert [where.stop - where.start for where, _ in parts] == [8, 8, 8, 8, 1]
    np.testing.assert_allclose(np.hstack([block for _, block in parts]), cosines(a, b), atol=1e-6)
