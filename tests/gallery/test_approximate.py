from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError, MissingDependencyError, NotEnoughDataError
from spherecv.gallery import FaceGallery, sqlite_index
from spherecv.gallery.approximate import FaceIndex
from spherecv.gallery.seal import NoSeal

KINDS = pytest.mark.parametrize("kind", ["hnsw", "ivf"])


def opened(path: Path, numbers, **settings) -> FaceGallery:
    return FaceGallery.open(path, model=numbers.ORIGIN, **settings)


@pytest.fixture
def crowded(tmp_path: Path, numbers):
    names, rows, images = numbers.crowd(700, 4)
    with opened(tmp_path / "g.db", numbers) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        yield gallery, names, rows, images


def probes_of(rows: np.ndarray, count: int = 60) -> np.ndarray:
    generator = np.random.default_rng(9)
    picked = rows[generator.choice(len(rows), count, replace=False)]
    return (picked + 0.3 * generator.standard_normal(picked.shape)).astype(np.float32)


@KINDS
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_an_index_finds_what_an_exact_search_finds(tmp_path: Path, numbers, kind: str, metric: str) -> None:
    names, rows, images = numbers.crowd(700, 4)
    probes = probes_of(rows)
    with opened(tmp_path / "g.db", numbers, metric=metric) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        exact = gallery.identify_embeddings(probes, 3, threshold=0.5)
        assert gallery.build_index(kind) == len(rows)
        found = gallery.identify_embeddings(probes, 3, threshold=0.5)
        first = [(a.candidates[0].identity, b.candidates[0].identity) for a, b in zip(exact, found, strict=True)]
        assert np.mean([a == b for a, b in first]) > 0.95
        # The distance is of the stored embedding, not of the index's rounded one.
        same = [
            (a.distance, b.distance)
            for a, b in zip(exact, found, strict=True)
            if a.candidates[0].image == b.candidates[0].image
        ]
        np.testing.assert_allclose(*zip(*same, strict=True), atol=1e-6)
        assert gallery.store._search._memories.keys() == {(metric, "known")}  # the index asked for no matrix


@KINDS
def test_an_index_follows_the_gallery(crowded, tmp_path: Path, numbers, kind: str) -> None:
    gallery, names, rows, _ = crowded
    gallery.build_index(kind)
    more, new, places = numbers.crowd(3, 2, seed=5)
    gallery.enrol_embeddings([f"new {name}" for name in more], new, images=[f"new/{place}" for place in places])
    assert gallery.identify_embeddings(new[0], threshold=0.01)[0].identity == f"new {more[0]}"
    with opened(tmp_path / "g.db", numbers, index=kind) as other:  # another process with its own memory
        assert other.identify_embeddings(new[3], threshold=0.01)[0].identity == f"new {more[3]}"
        other.remove(names[0])
        other.rename(names[8], "renamed")
        other.merge([names[12], names[16]], "both")
        assert gallery.identify_embeddings(rows[8], threshold=0.01)[0].identity == "renamed"
        assert gallery.identify_embeddings(rows[17], threshold=0.01)[0].identity == "both"
        assert gallery.identify_embeddings(rows[1], threshold=0.01)[0].identity is None
    assert len(FaceIndex.load(tmp_path / "g.db.index", NoSeal()).ids) == len(rows) - 4 + 6


@KINDS
def test_what_is_removed_is_in_no_code_of_the_index(crowded, tmp_path: Path, kind: str) -> None:
    gallery, names, _, _ = crowded
    gallery.build_index(kind)
    path = tmp_path / "g.db.index"
    before = FaceIndex.load(path, NoSeal())
    codes = codes_of(before)
    gone = {number + 1 for number, name in enumerate(names) if name == names[40]}  # ids count from 1
    gallery.remove(names[40])
    after = codes_of(FaceIndex.load(path, NoSeal()))
    content = path.read_bytes()
    assert gone == set(codes) - set(after)
    assert all(codes[face] not in content for face in gone)
    assert all(codes[face] in content for face in list(after)[:5])


def codes_of(index: FaceIndex) -> dict[int, bytes]:
    """The quantised embedding of each face, read with FAISS alone."""
    if index.note.kind == "hnsw":
        ids = faiss.vector_to_array(index._index.id_map)
        storage = faiss.downcast_index(faiss.downcast_index(index._index.index).storage)
        rows = faiss.vector_to_array(storage.codes).reshape(len(ids), -1)
        return {int(face): row.tobytes() for face, row in zip(ids, rows, strict=True) if face >= 0}
    lists, found = index._index.invlists, {}
    for number in range(lists.nlist):
        size = lists.list_size(number)
        if size:
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
            rows = faiss.rev_swig_ptr(lists.get_codes(number), size * index._index.code_size).reshape(size, -1)
            found.update({int(face): row.tobytes() for face, row in zip(ids, rows, strict=True)})
    return found


@KINDS
def test_a_process_with_an_old_index_brings_nobody_back(crowded, tmp_path: Path, numbers, kind: str) -> None:
    gallery, names, rows, _ = crowded
    gallery.build_index(kind)
    first = codes_of(FaceIndex.load(tmp_path / "g.db.index", NoSeal()))
    gallery.identify_embeddings(rows[:1], threshold=0.1)
    with opened(tmp_path / "g.db", numbers) as other:
        other.remove(names[40])
    gallery.remove(names[80])
    after = codes_of(FaceIndex.load(tmp_path / "g.db.index", NoSeal()))
    assert set(first) - set(after) == {41, 42, 43, 44, 81, 82, 83, 84}


@KINDS
def test_too_few_faces_left_are_searched_exactly(crowded, tmp_path: Path, kind: str) -> None:
    gallery, names, rows, images = crowded
    gallery.build_index(kind)
    gallery.store.remove_images(list(zip(names[: len(names) - 40], images, strict=False)))
    assert gallery.identify_embeddings(rows[-3], threshold=0.01)[0].identity == names[-3]
    if kind == "hnsw":  # a graph of overwritten nodes would have to be built anew; lists just have become short
        assert not (tmp_path / "g.db.index").exists()


def test_a_broken_or_foreign_index_is_made_anew(crowded, tmp_path: Path, numbers) -> None:
    gallery, names, rows, _ = crowded
    gallery.build_index("ivf")
    path = tmp_path / "g.db.index"
    whole = path.read_bytes()
    for broken in (b"", b"something else", whole[: len(whole) // 2], whole[:40] + b"\0" * 400 + whole[440:]):
        path.write_bytes(broken)
        for mode in ("auto", "ivf"):
            with opened(tmp_path / "g.db", numbers, index=mode) as other:
                assert other.identify_embeddings(rows[8], threshold=0.01)[0].identity == names[8]
    with opened(tmp_path / "other.db", numbers) as other:
        other.enrol_embeddings(names[:8], rows[:8] + 1)
        (tmp_path / "other.db.index").write_bytes(whole)
        assert other.identify_embeddings(rows[2] + 1, threshold=0.01)[0].identity == names[2]


def test_a_changed_byte_of_an_index_is_seen(crowded, tmp_path: Path, numbers) -> None:
    gallery, names, rows, _ = crowded
    gallery.build_index("hnsw")
    path = tmp_path / "g.db.index"
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(18, len(whole), 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        assert FaceIndex.load(path, NoSeal()) is None
    with opened(tmp_path / "g.db", numbers, index="hnsw") as other:
        assert other.identify_embeddings(rows[8], threshold=0.01)[0].identity == names[8]
    path.write_bytes(whole.replace(b"index 3", b"index 2", 1)[:-32])  # as written so far
    assert len(FaceIndex.load(path, NoSeal()).ids) == len(rows)


def test_large_galleries_get_an_index_by_themselves(crowded, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, names, rows, _ = crowded
    assert not gallery.store.index.serves("cosine")
    monkeypatch.setattr(sqlite_index, "LARGE", 2000)
    assert gallery.identify_embeddings(rows[8], threshold=0.01)[0].identity == names[8]
    assert gallery.store.index._index.note.kind == "ivf"


def test_what_cannot_be(tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "g.db", numbers) as gallery:
        gallery.enrol_embeddings(*numbers.crowd(3, 2)[:2])
        with pytest.raises(NotEnoughDataError, match="1000"):
            gallery.build_index()
        with pytest.raises(InvalidArgumentError, match="hnsw"):
            gallery.build_index("annoy")
    with pytest.raises(InvalidArgumentError, match="ivf"):
        opened(tmp_path / "g.db", numbers, index="annoy")
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"spherecv\[gallery\]"):
        opened(tmp_path / "g.db", numbers, index="hnsw")


def right_of(index: FaceIndex, vectors: dict[int, np.ndarray], probes: np.ndarray, metric: str) -> float:
    """Share of the ten nearest faces that an index finds, against comparing each probe with everybody in float64."""
    ids = np.array(sorted(vectors))
    rows = np.stack([vectors[face] for face in ids]).astype(np.float64)
    if metric == "cosine":
        away = -(probes @ rows.T) / np.linalg.norm(rows, axis=1)
    else:
        away = np.square(rows).sum(axis=1) - 2 * probes @ rows.T
    nearest = ids[np.argsort(away, axis=1)[:, :10]]
    found = index.search(probes, 15)
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(nearest, found, strict=True)])) / 10


@KINDS
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("share", [0.05, 0.19, 0.5, 0.7, 0.9])
def test_removals_hide_nobody_else(tmp_path: Path, numbers, kind: str, metric: str, share: float) -> None:
    names, rows, images = numbers.crowd(max(500, round(260 / (1 - share))), 4)  # an index needs a thousand
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    probes = probes_of(rows[-1000:], 1000)
    with opened(tmp_path / "g.db", numbers, metric=metric, index=kind) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        gallery.build_index(kind)
        people = sorted(set(names))
        keeper = gallery.store.index
        for name in people[: round(share * len(people))]:
            with keeper._database.write() as connection:  # a removal without erasing, which takes most of its time
                keeper._rows.remove_owner(connection, keeper._rows.find(connection, name))
                keeper._rows.note_removal(connection)
                if not people.index(name) % (len(people) // 100):
                    keeper.forget(connection)
        for again in (False, True):
            if again:
                more, new, places = numbers.crowd(60, 4, seed=5)
                new = (new / np.linalg.norm(new, axis=1, keepdims=True)).astype(np.float32)
                gallery.enrol_embeddings([f"new {name}" for name in more], new, images=[f"new/{p}" for p in places])
                probes = np.concatenate([probes, probes_of(new, 200)])
            gallery.store.nearest(probes[:1], 1, metric, "known")  # in step with the file
            table = gallery.store.table("known")
            held = dict(zip(table.ids.tolist(), table.vectors, strict=True))
            fresh = FaceIndex.build(keeper._index.note, table.vectors, len(table.ids))
            fresh.add(table.ids, table.vectors)
            assert len(keeper._index.ids) == len(table.ids)
            left = right_of(keeper._index, held, probes, metric)
            assert left >= right_of(fresh, held, probes, metric) - 0.005


def test_removed_nodes_are_on_no_way_through_the_graph(crowded, tmp_path: Path) -> None:
    gallery, _, _, _ = crowded
    gallery.build_index("hnsw")
    index = FaceIndex.load(tmp_path / "g.db.index", NoSeal())
    graph = index._inner.hnsw
    top = int(index.ids[np.searchsorted(index.ids, faiss.vector_to_array(index._index.id_map)[graph.entry_point])])
    gone = sorted({top, *range(1, 200)})
    index.remove(gone)
    held = faiss.vector_to_array(index._index.id_map)
    links = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
    offsets = faiss.vector_to_array(graph.offsets).astype(int)
    assert not np.isin(links, np.flatnonzero(held < 0)).any()
    assert held[graph.entry_point] >= 0
    for node in range(len(held)):
        block = links[offsets[node] : offsets[node] + 32]
        filled = block[block >= 0]
        assert len(set(filled.tolist())) == len(filled)
        assert (block[: len(filled)] >= 0).all()  # FAISS stops at the first empty one
        assert node not in filled
