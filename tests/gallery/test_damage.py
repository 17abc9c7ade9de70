from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import GalleryError
from spherecv.gallery import FaceGallery
from spherecv.gallery.damage import DamageWarning

BAD = {
    "not finite": np.full(64, np.nan, "<f4").tobytes(),
    "bytes, not 256": b"short",
    "cannot be opened": "a text",
}


def spoil(path: Path, face: int, value: object) -> None:
    change(path, "UPDATE vectors SET vector = ? WHERE face = ?", value, face)


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_a_damaged_face_is_left_out_and_named(tmp_path: Path, numbers, what: str, index: str) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(400, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN, index=index) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    spoil(path, 6, BAD[what])
    with FaceGallery.open(path, model=numbers.ORIGIN, index=index) as gallery:
        with pytest.warns(DamageWarning, match=f"face 6 of {names[5]!r} on {images[5]} is damaged .*{what}"):
            found = gallery.identify_embeddings(rows[:12], threshold=0.5)
        assert [match.identity for match in found] == names[:12]
        with pytest.warns(DamageWarning):
            assert gallery.store.table().ids.tolist() == [face for face in range(1, len(rows) + 1) if face != 6]
        assert gallery.remove(names[5]).faces == 4  # a damaged person can be forgotten
        assert names[5] not in {person.name for person in gallery.identities()}


def test_a_changed_value_of_an_encrypted_gallery_is_left_out(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN, key="secret") as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    spoil(path, 6, bytes(284))
    with FaceGallery.open(path, model=numbers.ORIGIN, key="secret") as gallery:
        with pytest.warns(DamageWarning, match=f"face 6 of {names[5]!r}"):
            assert gallery.identify_embeddings(rows[4], threshold=0.5)[0].identity == names[4]
        assert gallery.remove(names[5]).faces == 4


@pytest.mark.parametrize("value", [b"{", b"[1]", 7, "text"])
def test_damaged_metadata_and_boxes_are_left_out_and_said(tmp_path: Path, numbers, value: object) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images, metadata={names[0]: {"team": "red"}})
    change(path, "UPDATE identities SET metadata = ?", value)
    change(path, "UPDATE faces SET box = ?", value)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        with pytest.warns(DamageWarning, match="metadata of .* is damaged"):
            assert not gallery.identities()[0].metadata
        with pytest.warns(DamageWarning, match="box of face 1 is damaged"):
            assert gallery.store.describe([1])[0].box is None
        assert gallery.remove(names[0]).faces == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE identities SET name = 7",
        "UPDATE images SET path = 7, digest = 'x'",
        "UPDATE faces SET quality = 'good', score = 'x'",
        "DELETE FROM vectors WHERE face < 3",
    ],
)
def test_a_person_can_be_forgotten_whatever_is_damaged(tmp_path: Path, numbers, statement: str) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    change(path, statement)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        assert gallery.remove(names[0]).faces == 4
        assert not gallery.store.holds(names[0])
        assert gallery.stats()["faces"] == 8


def test_a_damaged_name_is_a_gallery_error(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    change(path, "UPDATE identities SET name = 7")
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery, pytest.raises(GalleryError, match="damaged"):
        gallery.identities()
