"""Upgrade of a gallery's file from the format whose rows have no checksums."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from spherecv.gallery import checksums

_COLUMNS = (
    ("properties", "checksum"),
    ("identities", "checksum"),
    ("images", "checksum"),
    ("faces", "checksum"),
    ("faces", "vector_checksum"),
    ("attachments", "checksum"),
)
_AT_ONCE = 4096
COUNTS = "counts"
"""Property that says how many images of known people and of nobody there are: one whose owner is lost would not be read
with either."""


def add_checksums(connection: sqlite3.Connection) -> None:
    """Give every row its checksum, within the transaction that is open: all of it becomes true, or nothing.

    Embeddings are read and not written again: theirs are kept with their faces. Nobody can say of a row whether it was
    whole before; a value of a wrong type gets no checksum, and stays damaged.
    """
    for table, column in _COLUMNS:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER")
    connection.execute("INSERT INTO properties (name, value) VALUES (?, ?)", (COUNTS, counted(connection)))
    fill_checksums(connection)


def fill_checksums(connection: sqlite3.Connection) -> None:
    """Give the rows of tables that have columns for checksums theirs."""
    for table, told in (("properties", checksums.of_property), ("attachments", checksums.of_attachment)):
        rows = connection.execute(f"SELECT name, value FROM {table}").fetchall()  # noqa: S608 - names of tables
        sums = [(told(name, value), name) for name, value in rows]
        connection.executemany(f"UPDATE {table} SET checksum = ? WHERE name = ?", sums)  # noqa: S608
    _fill(
        connection,
        "SELECT id, lookup, name, metadata FROM identities WHERE id > ? ORDER BY id LIMIT ?",
        "UPDATE identities SET checksum = ? WHERE id = ?",
        lambda row: (checksums.of_identity(*row),),
    )
    _fill(
        connection,
        "SELECT id, identity, lookup, path, digest, size, mtime_ns, problem FROM images WHERE id > ? ORDER BY id "
        "LIMIT ?",
        "UPDATE images SET checksum = ? WHERE id = ?",
        lambda row: (checksums.of_image(*row),),
    )
    _fill(
        connection,
        "SELECT f.id, f.image, i.identity, f.box, f.score, f.quality, v.vector FROM faces f "
        "LEFT JOIN images i ON i.id = f.image LEFT JOIN vectors v ON v.face = f.id WHERE f.id > ? ORDER BY f.id "
        "LIMIT ?",
        "UPDATE faces SET checksum = ?, vector_checksum = ? WHERE id = ?",
        lambda row: (checksums.of_face(*row[:6]), checksums.of_vector(row[0], row[6])),
    )


def counted(connection: sqlite3.Connection) -> str:
    """Numbers of images of known people and of nobody, as the property has them."""
    images, known = connection.execute("SELECT count(*), count(identity) FROM images").fetchone()
    return f"{known} {images - known}"


def _fill(
    connection: sqlite3.Connection, select: str, update: str, told: Callable[[tuple[Any, ...]], tuple[int | None, ...]]
) -> None:
    last = 0
    while rows := connection.execute(select, (last, _AT_ONCE)).fetchall():
        connection.executemany(update, [(*told(row), row[0]) for row in rows])
        last = rows[-1][0]
