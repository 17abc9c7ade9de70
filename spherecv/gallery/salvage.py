"""Rewriting of a gallery's file from all that can still be read of it, where SQLite gives up."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from spherecv.gallery import checksums, upgrade
from spherecv.gallery.database import COUNTS, PAGE, Database, make_tables

_COLUMNS = {
    "properties": "name, value, checksum",
    "identities": "id, lookup, name, metadata, checksum",
    "images": "id, identity, lookup, path, digest, size, mtime_ns, problem, checksum",
    "faces": "id, image, box, score, quality, checksum, vector_checksum",
    "vectors": "face, vector",
}
Row = tuple[Any, ...]


class Left(NamedTuple):
    """What a rewriting left out: rows of people, images and faces."""

    people: int
    images: int
    faces: int


def rewrite(database: Database, forget: Callable[[Row], bool] | None = None) -> Left:
    """Put a whole file in the place of a damaged one, in one transaction.

    What is kept: every row that can be read and whose image and person are there. Rows with a wrong checksum stay, and
    stay damaged; where the checksum says that an image or face is that of somebody who is to be forgotten, it goes.

    Parameters
    ----------
    database : Database
    forget : callable, optional
        Says of the row of a person (id, lookup, name, ...) whether it goes, with all that belongs to it. Where nobody
        does, the file is left as it is.

    Raises
    ------
    GalleryLockedError
        Another process writes at the same time.
    """
    fresh = sqlite3.connect("", isolation_level=None)  # a temporary file that SQLite deletes by itself
    try:
        fresh.execute(f"PRAGMA page_size = {PAGE}")
        make_tables(fresh)
        with database.read() as connection:
            version = _version(connection)
            checked = database.checked(connection)
            fresh.execute("BEGIN")
            left = _copy(connection, fresh, forget, dict(database.unled), checked=checked)
            if not checked:
                upgrade.fill_checksums(fresh)
            fresh.execute("COMMIT")
        if forget is not None and not left.people:
            return left
        database.replace(fresh, lambda connection: _version(connection) == version)
    finally:
        fresh.close()
    return left


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _copy(
    held: sqlite3.Connection,
    fresh: sqlite3.Connection,
    forget: Callable[[Row], bool] | None,
    lost_faces: dict[int, Any],
    *,
    checked: bool,
) -> Left:
    def rows(table: str, key: str = "id") -> Iterator[Row]:
        columns = _COLUMNS[table]
        if not checked:
            columns = columns.replace("vector_checksum", "NULL").replace("checksum", "NULL")
        return _rows(held, table, columns, key)

    for row in rows("properties", "name"):
        _insert(fresh, "properties", row)
    gone: list[int] = []
    for row in rows("identities"):
        if forget is not None and forget(row):
            gone.append(row[0])
        else:
            _insert(fresh, "identities", row)
    people = {row[0] for row in fresh.execute("SELECT id FROM identities")} | {None}
    lost_images: list[int] = []
    owners: dict[int, int | None] = {}
    for row in rows("images"):
        theirs = row[1] in gone or any(
            checksums.of_image(row[0], owner, *row[2:8]) == row[8] for owner in gone if row[1] != owner
        )
        if theirs or row[1] not in people:
            lost_images.append(row[0])
        else:
            owners[row[0]] = row[1]
            _insert(fresh, "images", row)
    faces: dict[int, Any] = {}
    for row in rows("faces"):
        number, image, box, score, quality, told, vector_told = row
        theirs = bool(lost_images) and image in owners and told != checksums.of_face(
            number, image, owners[image], box, score, quality
        ) and any(
            checksums.of_face(number, lost, owner, box, score, quality) == told
            for lost in lost_images for owner in gone
        )
        if theirs or image not in owners:
            lost_faces[number] = vector_told
        else:
            faces[number] = vector_told
            _insert(fresh, "faces", row)
    for face, vector in rows("vectors", "face"):
        if face not in faces:
            continue
        moved = checked and checksums.of_vector(face, vector) != faces[face]
        if not (moved and any(told == checksums.of_vector(lost, vector) for lost, told in lost_faces.items())):
            _insert(fresh, "vectors", (face, vector))
    told = upgrade.counted(fresh)
    row = (COUNTS, told, checksums.of_property(COUNTS, told))
    fresh.execute("INSERT OR REPLACE INTO properties VALUES (?, ?, ?)", row)
    for name, last in list(_rows(held, "sqlite_sequence", "name, seq", "rowid")):
        if isinstance(last, int):  # ids are not given twice
            fresh.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (last, name))
    return Left(len(gone), len(lost_images), len(lost_faces))


def _insert(fresh: sqlite3.Connection, table: str, row: Row) -> None:
    # A damaged row may hold bytes that are not text; they stay as they are.
    row = tuple(value.encode(errors="surrogateescape") if _is_broken(value) else value for value in row)
    marks = ", ".join("?" * len(row))
    fresh.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608 - a name of ours


def _is_broken(value: object) -> bool:
    return isinstance(value, str) and not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value)


def _rows(connection: sqlite3.Connection, table: str, columns: str, key: str) -> Iterator[Row]:
    """Rows from the first on, up to a page that cannot be read, and then from the last on, down to it."""
    seen: set[Any] = set()
    for order in ("ASC", "DESC"):
        try:
            for row in connection.execute(f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY {key} {order}"):  # noqa: S608
                if order == "DESC" and row[0] in seen:
                    break
                seen.add(row[0])
                yield row
        except sqlite3.DatabaseError as error:
            if not (getattr(error, "sqlite_errorname", "") or "").startswith("SQLITE_CORRUPT"):
                raise  # not a damaged page: nobody may be left out for it
            continue
        if order == "ASC":
            return
