from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from spherecv.errors import GalleryError
from spherecv.gallery import FaceGallery, checksums
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


@pytest.mark.parametrize("statement", [
    "UPDATE vectors SET vector = zeroblob(256) WHERE face = 6",
    "UPDATE faces SET quality = 0.5 WHERE id = 6",
    "DELETE FROM vectors WHERE face = 6",
])  # fmt: skip
def test_an_image_with_a_damaged_face_can_be_enrolled_again(tmp_path: Path, numbers, statement: str) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(10, 2)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        assert gallery.enrol_embeddings(names, rows, images=images).replaced == 0
    change(path, statement)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        assert not gallery.check().whole
        again = gallery.enrol_embeddings(names, rows, images=images)
        assert (again.replaced, again.unchanged) == (1, 19)
        assert gallery.check().whole
        assert gallery.identify_embeddings(rows[5:6], threshold=0.001)[0].identity == names[5]


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


@pytest.mark.parametrize("value", [b"{", b"[1]", 7, "text", b'{"team": "blue"}'])
def test_damaged_metadata_is_left_out_and_said(tmp_path: Path, numbers, value: object) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images, metadata={names[0]: {"team": "red"}})
    change(path, "UPDATE identities SET metadata = ? WHERE id = 1", value)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        with pytest.warns(DamageWarning, match=f"noted of {names[0]!r}"):
            assert not gallery.identities()[0].metadata
        assert gallery.remove(names[0]).faces == 4


# Whole values, each in a place where it was not written: what no check of types and lengths can see.
MOVED = {
    "two people's embeddings exchanged": """UPDATE vectors SET vector = (SELECT vector FROM vectors v
        WHERE v.face = CASE vectors.face WHEN 1 THEN 5 ELSE 1 END) WHERE face IN (1, 5)""",
    "a box": "UPDATE faces SET box = zeroblob(16) WHERE id = 1",
    "a quality": "UPDATE faces SET quality = 0.25 WHERE id = 1",
    "a face on another's image": "UPDATE faces SET image = 5 WHERE id = 1",
    "an image of another": "UPDATE images SET identity = 2 WHERE id = 1",
    "an image of nobody": "UPDATE images SET identity = NULL WHERE id = 1",
    "a sign": "UPDATE vectors SET vector = substr(vector, 1, 3) || x'00' || substr(vector, 5) WHERE face = 1",
    "no embedding": "DELETE FROM vectors WHERE face = 1",
}


@pytest.mark.parametrize("index", ["exact", "hnsw"])
@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize("what", MOVED)
def test_a_value_in_the_place_of_another_is_never_served(
    tmp_path: Path, numbers, what: str, key: str | None, index: str
) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(300, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN, key=key) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    change(path, MOVED[what])
    with FaceGallery.open(path, model=numbers.ORIGIN, key=key, index=index) as gallery:
        with pytest.warns(DamageWarning, match=r"face 1 of .* is damaged|images? 1 (is|are)"):
            (match,) = gallery.identify_embeddings(rows[0], 1000, threshold=0.01)
        assert match.identity is None  # the face itself is left out, and no other is so near
        assert names[0] in {candidate.identity for candidate in match.candidates}  # their other images are not
        found = gallery.check()
        assert not found.whole
        assert any("face 1 of" in line or "images 1 are" in line for line in found.damaged)
        faces = gallery.stats()["faces"]
        gone = gallery.remove(names[0])
        assert gone.faces >= 3
        assert gallery.stats()["faces"] == faces - gone.faces
        assert not gallery.store.holds(names[0])


def test_damage_is_an_error_where_that_is_asked_for(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    spoil(path, 6, rows[0].tobytes())
    with FaceGallery.open(path, model=numbers.ORIGIN, damaged="raise") as gallery:
        with pytest.raises(GalleryError, match=f"face 6 of {names[5]!r} .* is damaged"):
            gallery.identify_embeddings(rows[0], threshold=0.5)
        assert gallery.remove(names[5]).faces == 4
        assert gallery.identify_embeddings(rows[0], threshold=0.5)[0].identity == names[0]
        assert gallery.check().whole


def test_a_name_that_is_not_the_one_looked_up_is_not_said(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    change(path, "UPDATE identities SET name = ? WHERE id = 1", b"somebody else")
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        with pytest.warns(DamageWarning, match="name of person 1 is damaged"):
            (match,) = gallery.identify_embeddings(rows[0], threshold=0.5)
        assert match.identity is None
        with pytest.warns(DamageWarning):
            assert [person.name for person in gallery.identities()] == [names[4], names[8]]
        assert gallery.remove(names[0]).faces == 4


@pytest.mark.parametrize("name", ["seal", "origin", "dimension", "changes", "uuid"])
def test_changed_settings_are_seen(tmp_path: Path, numbers, name: str) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        gallery.remove(names[0])
    change(path, "UPDATE properties SET value = '32' WHERE name = ?", name)
    if name == "seal":
        with pytest.raises(GalleryError, match="its seal is not what was written"):
            FaceGallery.open(path)
        return
    with FaceGallery.open(path) as gallery:
        assert any(name in line for line in gallery.check().damaged)
        assert gallery.remove(names[4]).faces == 4


def test_a_file_without_its_seal_is_not_taken_for_a_new_one(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN, key="secret") as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    change(path, "DELETE FROM properties WHERE name = 'seal'")
    with pytest.raises(GalleryError, match="sealed is missing"):
        FaceGallery.open(path, model=numbers.ORIGIN)


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


def test_a_damaged_name_is_left_out_or_an_error(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(3, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    change(path, "UPDATE identities SET name = 7 WHERE id = 1")
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery, pytest.warns(DamageWarning, match="name of person 1"):
        assert [person.name for person in gallery.identities()] == [names[4], names[8]]
    with (
        FaceGallery.open(path, model=numbers.ORIGIN, damaged="raise") as gallery,
        pytest.raises(GalleryError, match="name of person 1"),
    ):
        gallery.identities()


@pytest.mark.parametrize("row", [
    (1, 2, 3, None, None, None),
    (2**62, 1, None, b"0123456789abcdef", 0.5, 1.0),
    (4, 5, 6, "a text", 0.5, None),  # as a damaged file gives it back
    (4, 5, "6", None, 0.5, None),
    (4, 5, 6, None, "0.5", 0.25),
    (4, 5.0, 6, None, 0.5, 0.25),
])  # fmt: skip
def test_checksums_of_many_faces_are_those_of_each(row: tuple) -> None:
    rows = [(7, 8, 9, b"box", 0.25, 0.75), row, (8, 8, None, b"", None, 0.75)]
    assert checksums.of_faces(*zip(*rows, strict=True)) == [checksums.of_face(*one) for one in rows]
