from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from spherecv.gallery import exact, matrix
from spherecv.gallery.matrix import Matrix


def filled(rows: np.ndarray, metric: str, monkeypatch: pytest.MonkeyPatch | None = None) -> Matrix:
    held = Matrix(rows.shape[1], metric)
    for part in np.array_split(rows, 3):
        held.append(part)
    return held


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("rows", "probes", "count"), [(1, 1, 1), (37, 300, 5), (5000, 7, 3), (9000, 2, 9000)])
def test_nearest_is_what_scikit_learn_finds(metric: str, rows: int, probes: int, count: int) -> None:
    generator = np.random.default_rng(rows)
    held = generator.standard_normal((rows, 16)).astype(np.float32)
    asked = generator.standard_normal((probes, 16)).astype(np.float32)
    numbers, distances = exact.nearest(filled(held, metric), asked, count)
    wanted, where = NearestNeighbors(metric=metric, algorithm="brute").fit(held).kneighbors(asked, min(count, rows))
    np.testing.assert_allclose(distances, wanted, atol=2e-6)
    assert (numbers == where).mean() > 0.999  # but for neighbours that float32 cannot tell apart


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_small_pieces_ties_and_zero_rows(data: st.DataObject) -> None:
    metric = data.draw(st.sampled_from(["cosine", "euclidean"]))
    values = st.integers(-2, 2)
    held = np.array(data.draw(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=30)), np.float32)
    asked = np.array(data.draw(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=5)), np.float32)
    count = data.draw(st.integers(1, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "CHUNK_ROWS", 4)
        patch.setattr(exact, "_BLOCK", 6)
        patch.setattr(exact, "_PROBES", 2)
        _, distances = exact.nearest(filled(held, metric), asked, count)
    lengths = np.linalg.norm(held, axis=1) * np.linalg.norm(asked, axis=1)[:, None]
    cosine = 1 - np.divide(asked @ held.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    wanted = np.sort(cosine if metric == "cosine" else cdist(asked, held), axis=1)[:, :count]
    np.testing.assert_allclose(distances, wanted, atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_within_finds_every_pair(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_BLOCK", 2500)
    rows = np.random.default_rng(1).standard_normal((150, 8)).astype(np.float32)
    limit = 0.6 if metric == "cosine" else 2.5
    found = {
        (row, int(other)) for row, others, _ in exact.within(filled(rows, metric), rows, limit) for other in others
    }
    near = cdist(rows.astype(np.float64), rows.astype(np.float64), metric) <= limit
    assert found == set(zip(*map(np.ndarray.tolist, np.nonzero(near)), strict=True))
    assert 150 < len(found) < 150 * 150 / 2


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_search_needs_little_beside_the_matrix(metric: str) -> None:
    rows = np.random.default_rng(0).standard_normal((20_000, 256), dtype=np.float32)
    probes = rows[:100] + 0.1
    tracemalloc.start()
    held = Matrix(256, metric)
    for start in range(0, len(rows), 4096):
        held.append(rows[start : start + 4096])
    exact.nearest(held, probes, 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The last piece of the matrix is only claimed, not filled; blocks of scores are a few megabytes.
    assert peak < rows.nbytes + matrix.CHUNK_ROWS * 256 * 4 + (8 << 20)


def test_keep_overwrites_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "CHUNK_ROWS", 8)
    rows = np.arange(1, 61, dtype=np.float32).reshape(20, 3)
    held = Matrix(3, "euclidean")
    held.append(rows)
    pieces = list(held._chunks)
    wanted = np.arange(20) % 3 == 0
    held.keep(wanted)
    np.testing.assert_array_equal(held.take(np.arange(len(held))), rows[wanted])
    for piece, start in zip(pieces, (0, 8, 16), strict=True):
        gone = rows[start : start + 8][~wanted[start : start + 8]]
        assert not np.isin(piece[: min(8, 20 - start)], gone).any()
