"""Checkup of a gallery: everything in its files is read, and damage is listed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spherecv.brief import brief
from spherecv.errors import GalleryError
from spherecv.gallery import approximate, checksums
from spherecv.gallery.database import Database, structure
from spherecv.gallery.sqlite_rows import Rows

_MOST_FAULTS = 20
"""Faults of the structure that are listed: one damaged page makes hundreds."""


@dataclass(frozen=True)
class Checkup:
    """What a checkup found.

    Attributes
    ----------
    damaged : tuple of str
        Each thing that is damaged, in words: a face with its person and image, a person, an index, a table.
    identities, images, faces : int
        How many there are, damaged ones included.
    checksums : bool
        Whether the rows have checksums. A file of an earlier version has none until it is changed for the first time;
        in it, only values that cannot be read, or that are not finite, are found.
    """

    damaged: tuple[str, ...]
    identities: int
    images: int
    faces: int
    checksums: bool

    __repr__ = brief

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """The checkup as plain Python values, ready for JSON."""
        counts = {"identities": self.identities, "images": self.images, "faces": self.faces}
        return {"whole": self.whole, **counts, "checksums": self.checksums, "damaged": list(self.damaged)}


def check_file(database: Database, rows: Rows) -> Checkup:
    """Read everything that a gallery's file holds, and the index beside it."""
    with database.read() as connection:
        damaged = _structure(connection, database) + _named(connection, rows)
        counts = dict.fromkeys(("identities", "images", "faces"), 0)

        def read(*steps: Callable[[], object]) -> None:
            for step in steps:
                try:
                    step()
                except (sqlite3.DatabaseError, GalleryError) as error:
                    database.damage.seen(str(error))

        damaged += database.damage.collect(
            lambda: read(
                lambda: counts.update(rows.counts(connection)),
                lambda: rows.identities(connection),
                lambda: rows.images(connection, None, None),
                lambda: [None for _ in rows.batches(connection)],
                lambda: rows.orphans(connection),
            )
        )
        checked = rows.checked(connection)
    if not approximate.is_whole(approximate.index_path(database.path)):
        damaged.append("the index beside it is damaged: a search builds it again, or `spherecv gallery index` does")
    return Checkup(tuple(dict.fromkeys(damaged)), **counts, checksums=checked)


def _structure(connection: sqlite3.Connection, database: Database) -> list[str]:
    faults = [*structure(connection, "")[:_MOST_FAULTS], *database.hidden(connection)]
    return [f"its structure: {fault}" for fault in faults]


def _named(connection: sqlite3.Connection, rows: Rows) -> list[str]:
    """Properties and attachments that are not what was written."""
    damaged = []
    told = "checksum" if rows.checked(connection) else "NULL"
    for table, what, made in (
        ("properties", "what it says of its", checksums.of_property),
        ("attachments", "its", checksums.of_attachment),
    ):
        try:
            held = connection.execute(f"SELECT name, value, {told} FROM {table}").fetchall()  # noqa: S608 - our names
        except sqlite3.DatabaseError as error:
            damaged.append(f"{table}: {error}")
            continue
        damaged += [
            f"{what} {name!s}"
            for name, value, stored in held
            if (found := made(name, value)) is None or (rows.checked(connection) and found != stored)
        ]
    return damaged
