from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import GalleryKeyError, MissingDependencyError
from spherecv.gallery import FaceGallery
from spherecv.gallery.seal import AesSeal


def test_a_stolen_file_tells_nothing(tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPHERECV_GALLERY_KEY", "correct horse")
    names, rows, images = numbers.crowd(30, 2)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images, metadata={names[0]: {"phone": "555-0100"}})
        (match,) = gallery.identify_embeddings(rows[4], threshold=0.1)
        assert match.identity == names[4]
        assert match.candidates[0].image == images[4]
        assert gallery.identities()[0].metadata == {"phone": "555-0100"}
    content = numbers.bytes_of(tmp_path)
    for value in (
        b"person",
        b"555-0100",
        b"photos",
        *(row.tobytes()[at : at + 8] for row in rows for at in (0, 64, 200)),
    ):
        assert value not in content
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN) as gallery:
        assert gallery.identify_embeddings(rows[4], threshold=0.1)[0].identity == names[4]
        with pytest.raises(GalleryKeyError, match="decrypt"):
            gallery.export(tmp_path / "out.npz")
        assert gallery.export(tmp_path / "out.npz", decrypt=True) == 60


def test_the_index_of_an_encrypted_gallery_is_encrypted(tmp_path: Path, numbers) -> None:
    import faiss
    names, rows, images = numbers.crowd(600, 2)
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN, key="k") as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        gallery.build_index("ivf")
    assert b"IwSq" not in (tmp_path / "g.db.index").read_bytes()  # FAISS's own mark of such an index
    with FaceGallery.open(tmp_path / "g.db", model=numbers.ORIGIN, key="k") as gallery:
        assert gallery.identify_embeddings(rows[4], threshold=0.1)[0].identity == names[4]
        assert gallery.store.index._index is not None
    assert faiss is not None


def test_wrong_keys_are_refused(tmp_path: Path, numbers) -> None:
    path, plain = tmp_path / "g.db", tmp_path / "plain.db"
    FaceGallery.open(path, model=numbers.ORIGIN, key="right").close()
    FaceGallery.open(plain, model=numbers.ORIGIN).close()
    for place, key, words in (
        (path, "wrong", "another key"),
        (path, None, "SPHERECV_GALLERY_KEY"),
        (plain, "k", "not encr"),
    ):
        with pytest.raises(GalleryKeyError, match=words):
            FaceGallery.open(place, model=numbers.ORIGIN, key=key)


def test_values_are_sealed_afresh_and_changes_are_noticed() -> None:
    seal = AesSeal("key", b"salt" * 4)
    value = np.arange(100, dtype=np.float32).tobytes()
    first, second = seal.close(value), seal.close(value)
    assert first != second
    assert seal.open(first) == seal.open(second) == value
    with pytest.raises(GalleryKeyError):
        seal.open(first[:-1] + bytes([first[-1] ^ 1]))
    with pytest.raises(GalleryKeyError):
        AesSeal("another", b"salt" * 4).open(first)
    assert seal.lookup("Ann") == AesSeal("key", b"salt" * 4).lookup("Ann") != AesSeal("key", b"pepper").lookup("Ann")


def test_without_cryptography_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(MissingDependencyError, match=r"spherecv\[gallery\]"):
        FaceGallery.open(tmp_path / "g.db", key="k")
