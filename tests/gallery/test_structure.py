"""Damage of SQLite's own structures: pages, indexes, log; and files of the format without checksums."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spherecv.cli.app import app
from spherecv.errors import GalleryError, IdentityError
from spherecv.gallery import DamageWarning, FaceGallery, log

PAGE = 16_384


def filled(path: Path, numbers, people: int = 60, key: str | None = None):
    names, rows, images = numbers.crowd(people, 4)
    with FaceGallery.open(path, model=numbers.ORIGIN, key=key) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
    return names, rows, images


def root_of(path: Path, name: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    finally:
        connection.close()


def fewer_cells(path: Path, page: int) -> None:
    """Lower the count of rows of a page by one: SQLite reads on as if nothing had happened."""
    data = bytearray(path.read_bytes())
    place = (page - 1) * PAGE + 3
    count = int.from_bytes(data[place : place + 2], "big") - 1
    data[place : place + 2] = count.to_bytes(2, "big")
    path.write_bytes(data)


@pytest.mark.filterwarnings("ignore::spherecv.gallery.DamageWarning")
@pytest.mark.parametrize("which", [None, "known", "unknown"])
def test_a_damaged_index_that_counts_too_few_hides_no_embedding(tmp_path: Path, numbers, which: str | None) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(10, 3)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.enrol_embeddings(names, rows, images=images)
        gallery.enrol_embeddings([None] * 30, rows + 1, images=images)
    for index in ("faces_of", "images_of"):
        fewer_cells(path, root_of(path, index))
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        table = gallery.store.table(which)
    wanted = {None: np.concatenate([rows, rows + 1]), "known": rows, "unknown": rows + 1}[which]
    assert np.array_equal(table.vectors, wanted)
    assert len(table.ids) == len(table.owners) == len(table.qualities) == len(wanted)


TABLES = ["identities", "images", "faces", "images_of", "images_by_lookup", "faces_of", "sqlite_autoindex_identities_1"]


@pytest.mark.parametrize("table", TABLES)
def test_a_hidden_row_is_seen_and_everybody_can_be_removed(tmp_path: Path, numbers, table: str) -> None:
    path = tmp_path / "g.db"
    names, rows, _ = filled(path, numbers)
    fewer_cells(path, root_of(path, table))
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        with pytest.warns(DamageWarning, match="tables are damaged"):
            gallery.identify_embeddings(rows[:3], threshold=0.5)
        assert not gallery.check().whole
        for name in (names[-1], names[0], names[100]):  # who is hidden goes with the first rewriting of the file
            gallery.remove(name)
        held = {person.name for person in gallery.identities()}
        assert not held & {names[0], names[-1], names[100]}
        assert len(held) >= 56
    content = numbers.bytes_of(tmp_path)
    for row in (0, 1, 100, 101):
        assert rows[row].tobytes() not in content


def misled(path: Path, index: str) -> None:
    """Let an entry of an index lead to a row that is not there."""
    data = bytearray(path.read_bytes())
    page = (root_of(path, index) - 1) * PAGE
    cell = page + int.from_bytes(data[page + 8 + 2 * 20 : page + 10 + 2 * 20], "big")
    data[cell + data[cell]] = 0x90  # the last byte of its number
    path.write_bytes(data)


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("index", ["images_of", "faces_of"])
def test_a_removal_leaves_no_damaged_index_behind(tmp_path: Path, numbers, index: str, older: bool) -> None:
    path = tmp_path / "g.db"
    names, rows, _ = filled(path, numbers)
    if older:
        unchecked(path)
    misled(path, index)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.remove(names[-1])
        assert gallery.check().whole
        assert sorted({person.name for person in gallery.identities()}) == sorted(set(names[:-4]))
        found = gallery.identify_embeddings(rows, threshold=0.01)
    assert [match.identity for match in found[:-4]] == names[:-4]
    assert rows[-1].tobytes() not in numbers.bytes_of(tmp_path)


def test_an_embedding_that_nothing_leads_to_is_removed_with_its_face(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, _ = filled(path, numbers)
    data = bytearray(path.read_bytes())
    place = data.index(rows[5].tobytes()) - 5
    assert data[place] == 6
    data[place] = 99  # now there are two of face 99
    path.write_bytes(data)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.remove(names[5])
        found = gallery.identify_embeddings(rows, threshold=0.01)
    assert rows[5].tobytes() not in numbers.bytes_of(tmp_path)
    assert [match.identity for match in found[8:]] == names[8:]


def test_a_text_that_is_none_hinders_no_removal(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, _, _ = filled(path, numbers)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE images SET path = CAST(x'ff80' AS TEXT) WHERE id = 9")
    connection.close()
    misled(path, "images_of")
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.remove(names[0])
        assert len(gallery.identities()) == 59
        assert any("image 9 " in said for said in gallery.check().damaged)


def test_nobody_is_lost_where_nobody_is_called_so(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    filled(path, numbers)
    misled(path, "images_of")
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        with pytest.raises(IdentityError):
            gallery.remove("somebody else")
        assert gallery.stats()["identities"] == 60


def test_a_header_that_forbids_to_write_is_refused(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    filled(path, numbers)
    data = bytearray(path.read_bytes())
    data[18] = 66
    path.write_bytes(data)
    with pytest.raises(GalleryError, match="is damaged: its header"):
        FaceGallery.open(path, model=numbers.ORIGIN)
    assert path.read_bytes() == data


@pytest.mark.filterwarnings("ignore::spherecv.gallery.DamageWarning")
def test_a_header_with_another_encoding_keeps_nobody_in(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, _ = filled(path, numbers)
    data = bytearray(path.read_bytes())
    data[56:60] = b"\0\0\0T"  # SQLite takes it for UTF-8, but for VACUUM
    path.write_bytes(data)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        gallery.remove(names[0])
        assert gallery.stats()["identities"] == 59
    assert rows[0].tobytes() not in numbers.bytes_of(tmp_path)


def test_a_log_whose_middle_is_damaged_is_said(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, rows, images = numbers.crowd(12, 4)
    gallery = FaceGallery.open(path, model=numbers.ORIGIN)
    for start in range(0, 48, 4):
        part = slice(start, start + 4)
        gallery.enrol_embeddings(names[part], rows[part], images=images[part])
    copy = tmp_path / "copy" / "g.db"
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    gallery.close()
    whole = Path(f"{copy}-wal").read_bytes()
    assert not log.is_cut(copy)
    for place in (0, 9, 25, 40, len(whole) // 2, len(whole) - 100):
        data = bytearray(whole)
        data[place] ^= 1
        Path(f"{copy}-wal").write_bytes(data)
        assert log.is_cut(copy), place
    with pytest.warns(DamageWarning, match="log .* is damaged"), FaceGallery.open(copy, model=numbers.ORIGIN) as left:
        assert left.stats()["identities"] < 12


def test_a_log_with_a_transaction_taken_back_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA cache_size = 4")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (a)")
    for size in (40, 3):
        connection.execute("BEGIN")
        for _ in range(size):
            connection.execute("INSERT INTO t VALUES (randomblob(3000))")
        connection.execute("ROLLBACK" if size == 40 else "COMMIT")
    copy = tmp_path / "copy.db"
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    assert not log.is_cut(copy)
    connection.close()


def unchecked(path: Path) -> None:
    """Make of a file one of the format that had no checksums."""
    connection = sqlite3.connect(path, isolation_level=None)
    for table in ("properties", "identities", "images", "faces", "attachments"):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
    connection.execute("ALTER TABLE faces DROP COLUMN vector_checksum")
    connection.execute("DELETE FROM properties WHERE name = 'counts'")
    connection.execute("PRAGMA user_version = 1")
    connection.close()


@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_a_file_without_checksums_is_read_and_upgraded_with_the_first_change(
    tmp_path: Path, numbers, key: str | None, index: str
) -> None:
    path = tmp_path / "g.db"
    names, rows, _ = filled(path, numbers, 300, key)
    unchecked(path)
    before = path.read_bytes()
    with FaceGallery.open(path, model=numbers.ORIGIN, key=key, index=index) as gallery:
        found = gallery.identify_embeddings(rows, threshold=0.01)
        assert [match.identity for match in found] == names
        assert len(gallery.identities()) == 300
        assert gallery.check().whole
        assert not gallery.check().checksums
    assert path.read_bytes() == before  # reading does not write
    reader = FaceGallery.open(path, model=numbers.ORIGIN, key=key, index=index)
    assert reader.identify_embeddings(rows[:1], threshold=0.01)[0].identity == names[0]
    with FaceGallery.open(path, model=numbers.ORIGIN, key=key, index=index) as gallery:
        gallery.enrol_embeddings(["new"], rows[:1], images=["new.jpg"])
        assert gallery.check().checksums
        assert gallery.check().whole
    assert reader.identify_embeddings(rows[4:5], threshold=0.01)[0].identity == names[4]  # upgraded under its hands
    assert reader.stats()["faces"] == 1201
    reader.close()
    connection = sqlite3.connect(path)
    for table, column in (("identities", "checksum"), ("images", "checksum"), ("faces", "vector_checksum")):
        assert connection.execute(f"SELECT count(*) FROM {table} WHERE {column} IS NULL").fetchone() == (0,)
    with connection:
        connection.execute("UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE face = 5) WHERE face = 1")
    connection.close()
    with (
        FaceGallery.open(path, model=numbers.ORIGIN, key=key, index=index) as gallery,
        pytest.warns(DamageWarning, match="face 1 "),
    ):
        gallery.identify_embeddings(rows[:1], threshold=0.01)


def test_an_upgrade_that_is_cut_short_leaves_the_file_as_it_was(
    tmp_path: Path, numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "g.db"
    names, rows, _ = filled(path, numbers)
    unchecked(path)
    with FaceGallery.open(path, model=numbers.ORIGIN) as gallery:
        with monkeypatch.context() as patch:
            patch.setattr("spherecv.gallery.checksums.of_vector", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                gallery.enrol_embeddings(["new"], rows[:1], images=["new.jpg"])
        assert not gallery.check().checksums
        assert gallery.identify_embeddings(rows[:1], threshold=0.01)[0].identity == names[0]
        gallery.remove(names[0])
        assert gallery.check().checksums
        assert gallery.check().whole


def _interrupt(*_: object) -> int:
    raise KeyboardInterrupt


def run(*arguments: object):
    return CliRunner().invoke(app, ["gallery", *map(str, arguments)])


def test_the_command_says_what_is_damaged(tmp_path: Path, numbers) -> None:
    path = tmp_path / "g.db"
    names, _, images = filled(path, numbers, 5)
    whole = run("check", path)
    assert whole.exit_code == 0
    assert "whole" in whole.stdout
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE vectors SET vector = ? WHERE face = 6", (np.full(64, np.nan, "<f4").tobytes(),))
    connection.close()
    damaged = run("check", path)
    assert damaged.exit_code == 1
    assert f"face 6 of {names[5]!r} on {images[5]} is damaged" in damaged.stdout
    told = run("check", path, "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["whole"] is False
    assert len(json.loads(told.stdout)["damaged"]) == 1
    assert run("remove", path, names[5]).exit_code == 0
    assert run("check", path).exit_code == 0
    assert run("check", tmp_path / "none.db").exit_code == 2
