"""The same gallery on Milvus Lite; a server takes the same calls."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import (
    GalleryError,
    GalleryLockedError,
    GalleryMismatchError,
    IdentityError,
    InvalidArgumentError,
    MissingDependencyError,
)
from spherecv.gallery import FaceGallery, Origin
from spherecv.gallery.milvus_client import Address

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"milvus:{tmp_path / 'g.db'}"


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_answers_are_those_of_the_embedded_store(place: str, tmp_path: Path, numbers, metric: str) -> None:
    names, rows, images = numbers.crowd(30, 4)
    names[40] = names[41] = "o\"Hara's \\ ü 北京"
    qualities = np.random.default_rng(1).random(len(rows))
    notes = {names[0]: {"team": "red", "n": [1, None]}}
    probes = (rows[::6] + rows[1::6]) / 2
    answers = []
    for location in (place, tmp_path / "embedded.db"):
        with FaceGallery.open(location, model=numbers.ORIGIN, metric=metric) as gallery:
            done = gallery.enrol_embeddings(names, rows, images=images, qualities=qualities, metadata=notes)
            gallery.enrol_embeddings([None] * 8, rows[:8], images=images[:8])
            again = gallery.enrol_embeddings(names[:5], rows[:5], images=images[:5])
            assert (done.faces, again.unchanged) == (120, 5)
        with FaceGallery.open(location, model=numbers.ORIGIN, metric=metric, create=False) as gallery:
            found = [
                [
                    candidate.to_dict()
                    for match in gallery.identify_embeddings(probes, 4, threshold=9, template=template)
                    for candidate in match.candidates
                ]
                for template in ("best", "mean")
            ]
            stats = gallery.stats()
            answers.append((found, gallery.identities(), stats["faces"], stats["identities"], stats["key"]))
            assert len(gallery.cluster(threshold=0.4 if metric == "cosine" else 8, labels=names[:8]).groups) == 2
            assert gallery.export(tmp_path / f"{metric}.npz") == 128
    for ours, theirs in zip(answers[0][0], answers[1][0], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.pop("distance") == pytest.approx(other.pop("distance"), abs=1e-6)
            assert one.pop("similarity") == pytest.approx(other.pop("similarity"), abs=1e-6)
            assert one == other
    assert answers[0][1:] == answers[1][1:]


@pytest.mark.parametrize("index", ["FLAT", "HNSW"])
def test_forgetting_is_forgetting(place: str, tmp_path: Path, numbers, index: str) -> None:
    names, rows, images = numbers.crowd(40, 3)
    with FaceGallery.open(f"{place}?index={index}", model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images, metadata={names[9]: {"secret": "tulip"}})
        gallery.store._client.flush(gallery.store._tables.faces)
        assert gallery.remove(names[9]) == (3, 3, True)
        assert gallery.remove(names[0], images[1])[:2] == (1, 1)
        gallery.rename(names[3], "renamed")
        gallery.merge([names[6]], names[12])
        assert gallery.identify_embeddings(rows[3], threshold=0.01)[0].identity == "renamed"
        assert gallery.identify_embeddings(rows[7], threshold=0.01)[0].identity == names[12]
        assert gallery.identify_embeddings(rows[9], threshold=0.01)[0].identity is None
        people = {person.name: person.images for person in gallery.identities()}
        assert (people[names[0]], people[names[12]], len(people)) == (2, 6, 38)
        for call in (
            lambda: gallery.remove(names[9]),
            lambda: gallery.rename(names[9], "x"),
            lambda: gallery.remove(names[0], images[1]),
        ):
            with pytest.raises(IdentityError, match=r"nobody called|no image"):
                call()
        with pytest.raises(IdentityError, match="merge"):
            gallery.rename("renamed", names[0])
        with pytest.raises(IdentityError, match="already"):
            gallery.enrol_embeddings([names[0]], rows[:1], if_exists="raise")
    # Parquet compresses: the bytes are looked for in its columns too.
    import pyarrow.parquet as parquet

    content = numbers.bytes_of(tmp_path)
    for file in tmp_path.rglob("*.parquet"):
        table = parquet.read_table(file).to_pydict()
        content += repr({name: column for name, column in table.items() if name != "vector"}).encode()
        content += np.array(table.get("vector", []), np.float32).tobytes()
    assert rows[10].tobytes()[:16] not in content
    assert b"tulip" not in content
    assert images[10].encode() not in content
    assert rows[13].tobytes()[:16] in content
    with FaceGallery.open(place, model=numbers.ORIGIN) as gallery:
        assert gallery.identify_embeddings(rows[13], threshold=0.01)[0].identity == names[13]


def open_elsewhere(place: str, pipe) -> None:
    try:
        FaceGallery.open(place, model=Origin("numbers", "k0-r0"))
    except GalleryLockedError as error:
        pipe.send(str(error))


def test_one_process_for_each_lite_folder(place: str, numbers) -> None:
    with FaceGallery.open(place, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(["Ann"], np.ones((1, 8)))
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        other = context.Process(target=open_elsewhere, args=(place, theirs))
        other.start()
        other.join()
        assert ours.poll(1)
        assert "one at a time" in ours.recv()
        assert gallery.identify_embeddings(np.ones(8), threshold=0.1)[0].identity == "Ann"


def test_index_types_that_lite_would_take_without_a_word(tmp_path: Path) -> None:
    for index in ("NONSENSE", "DISKANN", "IVF_PQ"):
        with pytest.raises(InvalidArgumentError, match="FLAT, HNSW"):
            Address.of(f"milvus:{tmp_path}/g.db?index={index}")
    assert Address.of("milvus://host:19530/people?index=diskann").index == "DISKANN"


def test_addresses() -> None:
    server = Address.of("milvus+https://host:19530/people")
    assert (server.uri, server.collection, server.index, server.lite) == (
        "https://host:19530",
        "people",
        "AUTOINDEX",
        False,
    )
    lite = Address.of("milvus:some/where.db?collection=friends")
    assert (lite.uri, lite.collection, lite.index, lite.lite) == ("some/where.db", "friends", "FLAT", True)
    for wrong in ("milvus:none", "milvus://h:1/a-b", "milvus:a.db?table=x", "milvus+ftp://h/a"):
        with pytest.raises(InvalidArgumentError):
            Address.of(wrong)


def test_what_cannot_be(place: str, tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GalleryError, match="no such gallery"):
        FaceGallery.open(place, model=numbers.ORIGIN, create=False)
    with FaceGallery.open(place, model=numbers.ORIGIN) as gallery:
        assert gallery.identities() == []
        assert gallery.identify_embeddings(np.ones(8), threshold=1)[0].identity is None
        gallery.enrol_embeddings(["Ann"], np.ones((1, 8)))
        with pytest.raises(GalleryMismatchError, match="8 numbers, but got 9"):
            gallery.enrol_embeddings(["Ben"], np.ones((1, 9)))
        with pytest.raises(GalleryMismatchError, match="8 numbers, but got 9"):
            gallery.identify_embeddings(np.ones(9), threshold=1)
        with pytest.raises(InvalidArgumentError, match="UTF-8"):
            gallery.enrol_embeddings(["\udcff"], np.ones((1, 8)))
        with pytest.raises(InvalidArgumentError, match="index="):
            gallery.build_index()
    with pytest.raises(GalleryMismatchError, match="cosine distance"):
        FaceGallery.open(place, model=numbers.ORIGIN, metric="euclidean")
    with pytest.raises(GalleryMismatchError, match="cannot be compared"):
        FaceGallery.open(place, model=Origin("other", "k9"))
    with pytest.raises(GalleryError, match="127"):
        FaceGallery.open("milvus://127.0.0.1:9/people", model=numbers.ORIGIN)
    (tmp_path / "file.db").write_bytes(b"x")
    with pytest.raises(GalleryError, match="is a file"):
        FaceGallery.open(f"milvus:{tmp_path / 'file.db'}", model=numbers.ORIGIN)
    monkeypatch.setitem(__import__("sys").modules, "pymilvus", None)
    with pytest.raises(MissingDependencyError, match=r"spherecv\[milvus\]"):
        FaceGallery.open(place, model=numbers.ORIGIN)


OTHER = """
import sys
from spherecv.gallery import FaceGallery
with FaceGallery.open(sys.argv[1], create=False) as gallery:
    print([person.name for person in gallery.identities()])
"""


def test_a_closed_folder_is_open_to_other_processes(
    tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = [sys.executable, "-c", OTHER, f"milvus:{tmp_path / 'g.db'}"]
    first = FaceGallery.open("milvus:g.db", model=numbers.ORIGIN)
    names, rows, _ = numbers.crowd(1, 1)
    first.enrol_embeddings(names, rows)
    second = FaceGallery.open("milvus:g.db", model=numbers.ORIGIN)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    first.close()
    first.close()  # counts once
    assert [person.name for person in second.identities()] == names
    second.close()
    done = subprocess.run(other, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.strip() == str(names), done.stderr
