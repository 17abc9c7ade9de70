"""Rows of the embedded store: every statement that reads or changes people, images and faces."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from spherecv.errors import GalleryError
from spherecv.gallery.damage import opened, opened_vectors, warn, warn_of
from spherecv.gallery.database import Database
from spherecv.gallery.rows import Added, Entry, IdentityInfo, ImageKey, StoredFace, StoredImage, Table
from spherecv.gallery.seal import Seal
from spherecv.gallery.store import Which

_AT_ONCE = 4096


class Gone(NamedTuple):
    """What a removal took: ids of faces, number of images, and the values that must be in no file any more."""

    faces: list[int]
    images: int
    traces: list[bytes]

    def add(self, other: Gone) -> None:
        """Count in faces and traces of another removal."""
        self.faces.extend(other.faces)
        self.traces.extend(other.traces)


class Note(NamedTuple):
    """What a removal wrote down: the mark that bytes wait to be erased, and whether there was none before."""

    mark: str
    alone: bool


class Rows:
    """Statements on an open transaction.

    Parameters
    ----------
    database : Database
    seal : Seal
        Every name, path, metadata, box and embedding passes through it.
    """

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    def find(self, connection: sqlite3.Connection, name: str) -> int | None:
        """Owner of a name."""
        row = connection.execute("SELECT id FROM identities WHERE lookup = ?", (self._seal.lookup(name),)).fetchone()
        return None if row is None else int(row[0])

    def add(
        self,
        connection: sqlite3.Connection,
        entries: Sequence[Entry],
        metadata: Mapping[str, Mapping[str, Any]],
        gone: Gone,
    ) -> Added:
        """Insert images with their faces; what replaced images leave behind is added to `gone`."""
        image, face = (self.last(connection, table) for table in ("images", "faces"))
        owners: dict[str, int] = {}
        images, faces, vectors = [], [], []
        fresh: dict[tuple[int | None, str], str] = {}
        replaced = unchanged = 0
        for entry in entries:
            owner = None if entry.identity is None else owners.get(entry.identity)
            if entry.identity is not None and owner is None:
                owner = owners[entry.identity] = self._owner(connection, entry.identity, metadata.get(entry.identity))
            held = self._held(connection, owner, entry, fresh)
            if held == "unchanged":
                unchanged += 1
                continue
            if held == "replaced":
                gone.add(self.remove_image(connection, owner, entry.image.path) or Gone([], 0, []))
                replaced += 1
            image += 1
            images.append((image, owner, *self._image_row(entry)))
            for new in entry.faces:
                face += 1
                box = None if new.box is None else self._seal.close(np.asarray(new.box, "<f4").tobytes())
                faces.append((face, image, box, new.score, new.quality))
                vectors.append((face, self._seal.close(np.ascontiguousarray(new.vector, "<f4").tobytes())))
        connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?)", images)
        connection.executemany("INSERT INTO faces VALUES (?, ?, ?, ?, ?)", faces)
        connection.executemany("INSERT INTO vectors VALUES (?, ?)", vectors)
        return Added(len(faces), len(images) - replaced, replaced, unchanged)

    def _held(
        self,
        connection: sqlite3.Connection,
        owner: int | None,
        entry: Entry,
        fresh: dict[tuple[int | None, str], str],
    ) -> str:
        """Whether an image is new, replaced or unchanged; an unchanged file's new time is written down."""
        place = (owner, entry.image.path)
        if place in fresh:  # twice in one call: the first counts
            return "unchanged"
        fresh[place] = entry.image.digest
        row = connection.execute(
            "SELECT id, digest, problem FROM images WHERE lookup = ? AND identity IS ?",
            (self._seal.lookup(entry.image.path), owner),
        ).fetchone()
        if row is None:
            return "new"
        same = self._decoded(row[1]) == entry.image.digest and bool(self._seal.open(row[2])) == bool(entry.problem)
        if not same:
            return "replaced"
        connection.execute(
            "UPDATE images SET size = ?, mtime_ns = ? WHERE id = ?", (entry.image.size, entry.image.mtime_ns, row[0])
        )
        return "unchanged"

    def _image_row(self, entry: Entry) -> tuple[bytes, bytes, bytes, int | None, int | None, bytes]:
        key = entry.image
        path = self._seal.close(key.path.encode(errors="surrogateescape"))
        problem = self._seal.close(entry.problem.encode(errors="surrogateescape"))
        digest = self._seal.close(key.digest.encode())
        return self._seal.lookup(key.path), path, digest, key.size, key.mtime_ns, problem

    def _owner(self, connection: sqlite3.Connection, name: str, metadata: Mapping[str, Any] | None) -> int:
        owner = self.find(connection, name)
        if owner is None:
            cursor = connection.execute(
                "INSERT INTO identities (lookup, name, metadata) VALUES (?, ?, ?)",
                (self._seal.lookup(name), self._seal.close(_encoded(name)), self._json(metadata or {})),
            )
            return int(cursor.lastrowid or 0)
        if metadata is not None:
            merged = {**self.person(connection, owner)[1], **metadata}
            connection.execute("UPDATE identities SET metadata = ? WHERE id = ?", (self._json(merged), owner))
        return owner

    def remove_owner(self, connection: sqlite3.Connection, owner: int) -> Gone:
        """Delete a person with all images."""
        rows = connection.execute("SELECT id FROM images WHERE identity = ?", (owner,)).fetchall()
        gone = self._remove_images(connection, [row[0] for row in rows])
        gone.traces.extend(self._drop_person(connection, owner))
        return gone

    def remove_image(self, connection: sqlite3.Connection, owner: int | None, path: str) -> Gone | None:
        """Delete an image; None where there is none."""
        row = connection.execute(
            "SELECT id FROM images WHERE lookup = ? AND identity IS ?", (self._seal.lookup(path), owner)
        ).fetchone()
        return None if row is None else self._remove_images(connection, [row[0]])

    def drop_if_empty(self, connection: sqlite3.Connection, owner: int) -> list[bytes]:
        """Delete a person who has no image left; returns what was written of them."""
        (count,) = connection.execute("SELECT count(*) FROM images WHERE identity = ?", (owner,)).fetchone()
        return [] if count else self._drop_person(connection, owner)

    def _remove_images(self, connection: sqlite3.Connection, images: Sequence[int]) -> Gone:
        faces: list[int] = []
        traces: list[bytes] = []
        for image in images:
            row = connection.execute(
                "SELECT path, lookup, digest, problem FROM images WHERE id = ?", (image,)
            ).fetchone()
            traces += _traces(row)
            for face, box, vector in connection.execute(
                "SELECT id, box, vector FROM faces LEFT JOIN vectors ON face = id WHERE image = ?", (image,)
            ).fetchall():
                faces.append(int(face))
                traces += _traces((vector, box))
        connection.executemany("DELETE FROM vectors WHERE face = ?", [(face,) for face in faces])
        connection.executemany("DELETE FROM faces WHERE id = ?", [(face,) for face in faces])
        connection.executemany("DELETE FROM images WHERE id = ?", [(image,) for image in images])
        return Gone(faces, len(images), traces)

    def _drop_person(self, connection: sqlite3.Connection, owner: int) -> list[bytes]:
        row = connection.execute("SELECT lookup, name, metadata FROM identities WHERE id = ?", (owner,)).fetchone()
        connection.execute("DELETE FROM identities WHERE id = ?", (owner,))
        return [value for value in _traces(row) if len(value) > 2]  # "{}" is everywhere, and nobody's

    def note_removal(self, connection: sqlite3.Connection) -> Note:
        """Tell other processes that rows went or changed hands, and that bytes of them wait to be erased."""
        connection.execute("DELETE FROM attachments")
        connection.execute(
            "INSERT INTO properties VALUES ('changes', '1') "
            "ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
        )
        alone = connection.execute("SELECT 1 FROM properties WHERE name = 'unerased'").fetchone() is None
        changes = str(self.changes(connection))
        connection.execute("INSERT OR REPLACE INTO properties VALUES ('unerased', ?)", (changes,))
        return Note(changes, alone)

    @staticmethod
    def changes(connection: sqlite3.Connection) -> int:
        """How often rows went or changed hands."""
        row = connection.execute("SELECT value FROM properties WHERE name = 'changes'").fetchone()
        return 0 if row is None else int(row[0])

    def rename(self, connection: sqlite3.Connection, owner: int, new: str) -> list[bytes]:
        """Change a name; returns the old one as it was written."""
        old = connection.execute("SELECT lookup, name FROM identities WHERE id = ?", (owner,)).fetchone()
        connection.execute(
            "UPDATE identities SET lookup = ?, name = ? WHERE id = ?",
            (self._seal.lookup(new), self._seal.close(_encoded(new)), owner),
        )
        return _traces(old)

    def merge(self, connection: sqlite3.Connection, owners: Sequence[int], into: str) -> Gone:
        """Hand the images of several people to one."""
        metadata: dict[str, Any] = {}
        for owner in owners:
            metadata = {**self.person(connection, owner)[1], **metadata}
        kept = self.find(connection, into)
        own = {} if kept is None else self.person(connection, kept)[1]
        goal = self._owner(connection, into, {**metadata, **own})
        gone = Gone([], 0, [])
        for owner in owners:
            if owner == goal:
                continue
            twice = connection.execute(
                "SELECT id FROM images WHERE identity = ? AND lookup IN (SELECT lookup FROM images WHERE identity = ?)",
                (owner, goal),
            ).fetchall()
            gone.add(self._remove_images(connection, [row[0] for row in twice]))
            connection.execute("UPDATE images SET identity = ? WHERE identity = ?", (goal, owner))
            gone.traces.extend(self._drop_person(connection, owner))
        return gone

    def names(self, connection: sqlite3.Connection) -> list[str]:
        """Names of everybody known, in no order."""
        return [self._decoded(name) for (name,) in connection.execute("SELECT name FROM identities")]

    def identities(self, connection: sqlite3.Connection) -> list[IdentityInfo]:
        """Everybody, by name."""
        rows = connection.execute(
            "SELECT p.name, p.metadata, count(DISTINCT i.id), count(f.id) FROM identities p "
            "LEFT JOIN images i ON i.identity = p.id LEFT JOIN faces f ON f.image = i.id GROUP BY p.id"
        )
        people = [
            IdentityInfo(self._decoded(name), images, faces, self._metadata(metadata, repr(self._decoded(name))))
            for name, metadata, images, faces in rows
        ]
        return sorted(people, key=lambda person: person.name)

    def images(self, connection: sqlite3.Connection, owner: int | None, which: Which | None) -> list[StoredImage]:
        """Images with how many faces each has."""
        condition, values = _condition(owner, which)
        rows = connection.execute(
            "SELECT i.id, i.path, i.digest, i.size, i.mtime_ns, i.problem, p.name, count(f.id) FROM images i "  # noqa: S608
            "LEFT JOIN identities p ON p.id = i.identity LEFT JOIN faces f ON f.image = i.id "
            f"{condition} GROUP BY i.id",
            values,
        )
        return [
            StoredImage(
                image,
                None if name is None else self._decoded(name),
                ImageKey(self._decoded(path), self._decoded(digest), size, mtime_ns),
                faces,
                self._decoded(problem),
            )
            for image, path, digest, size, mtime_ns, problem, name, faces in rows
        ]

    def table(self, connection: sqlite3.Connection, size: int, which: Which | None, owner: int | None) -> Table:
        """Embeddings with their owners, all at once."""
        condition, values = _condition(owner, which)
        (count,) = connection.execute(
            f"SELECT count(*) FROM faces f JOIN images i ON i.id = f.image {condition}", values  # noqa: S608
        ).fetchone()
        table = Table(
            np.empty(count, np.int64),
            np.empty(count, np.int64),
            np.empty(count, np.float32),
            np.empty((count, size), np.float32),
            {},
        )
        start = 0
        for ids, owners, qualities, vectors in self.batches(connection, condition, values):
            part = slice(start, start + len(ids))
            table.ids[part], table.owners[part], table.qualities[part], table.vectors[part] = (
                ids,
                owners,
                qualities,
                vectors,
            )
            start = part.stop
        table = Table(table.ids[:start], table.owners[:start], table.qualities[:start], table.vectors[:start], {})
        for held in np.unique(table.owners[table.owners >= 0]):
            table.names[int(held)] = self.person(connection, int(held))[0]
        return table

    def batches(
        self, connection: sqlite3.Connection, condition: str = "", values: Sequence[Any] = ()
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Go through ids, owners, qualities and embeddings in the order of the ids, some thousands at a time."""
        cursor = connection.execute(
            "SELECT f.id, i.identity, f.quality, v.vector FROM vectors v JOIN faces f ON f.id = v.face "  # noqa: S608
            f"JOIN images i ON i.id = f.image {condition} ORDER BY v.face",
            values,
        )
        while rows := cursor.fetchmany(_AT_ONCE):
            kept, vectors = self.vectors(connection, [row[0] for row in rows], [row[3] for row in rows])
            if not kept:
                continue
            ids, owners, qualities, _ = zip(*(rows[place] for place in kept), strict=True)
            yield (
                np.array(ids, np.int64),
                np.array([-1 if owner is None else owner for owner in owners], np.int64),
                np.array([q if isinstance(q, int | float) else np.nan for q in qualities], np.float32),
                vectors,
            )

    def vectors(
        self, connection: sqlite3.Connection, faces: Sequence[int], sealed: Sequence[Any]
    ) -> tuple[list[int], Any]:
        """Open embeddings; returns the places of the whole ones, and these. The others are warned of, by name."""
        size = int(self._database.get("dimension") or 0)

        def explain(face: int, what: str) -> None:
            warn(str(self._database.path), face, self._whose(connection, face), what)

        return opened_vectors(self._seal, faces, sealed, size, explain)

    def _whose(self, connection: sqlite3.Connection, face: int) -> str:
        """Name and path of a face in words, as far as they can still be read."""
        row = connection.execute(
            "SELECT p.name, i.path FROM faces f JOIN images i ON i.id = f.image "
            "LEFT JOIN identities p ON p.id = i.identity WHERE f.id = ?",
            (face,),
        ).fetchone()
        try:
            name, path = (None if value is None else self._decoded(value) for value in row)
        except (GalleryError, TypeError):
            return "somebody whose name cannot be read"
        return f"{'nobody known' if name is None else repr(name)} on {path}"

    def person(self, connection: sqlite3.Connection, owner: Any) -> tuple[str, dict[str, Any]]:
        """Name and metadata of an owner."""
        name, metadata = connection.execute("SELECT name, metadata FROM identities WHERE id = ?", (owner,)).fetchone()
        return self._decoded(name), self._metadata(metadata, repr(self._decoded(name)))

    def describe_person(self, connection: sqlite3.Connection, owner: Any) -> StoredFace | None:
        """What is known of an owner; None where they were removed meanwhile."""
        row = connection.execute("SELECT name, metadata FROM identities WHERE id = ?", (owner,)).fetchone()
        if row is None:
            return None
        return StoredFace(-1, self._decoded(row[0]), "", None, json.loads(self._seal.open(row[1])))

    def describe(self, connection: sqlite3.Connection, face: int) -> StoredFace | None:
        """What is known of a face; None where it was removed meanwhile."""
        row = connection.execute(
            "SELECT f.box, i.path, p.name, p.metadata FROM faces f JOIN images i ON i.id = f.image "
            "LEFT JOIN identities p ON p.id = i.identity WHERE f.id = ?",
            (face,),
        ).fetchone()
        if row is None:
            return None
        box, path, name, metadata = row
        return StoredFace(
            face,
            None if name is None else self._decoded(name),
            self._decoded(path),
            None if box is None else self._box(face, box),
            {} if metadata is None else self._metadata(metadata, f"face {face}"),
        )

    @staticmethod
    def counts(connection: sqlite3.Connection) -> dict[str, int]:
        """Rows of each kind."""
        return {
            table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
            for table in ("identities", "images", "faces")
        }

    @staticmethod
    def last(connection: sqlite3.Connection, table: str) -> int:
        """Highest id ever given: ids are not used twice, so that a search's memory can tell what is new."""
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return 0 if row is None else int(row[0])

    def _json(self, value: Mapping[str, Any]) -> bytes:
        return self._seal.close(json.dumps(dict(value), sort_keys=True).encode())

    def _metadata(self, sealed: object, whose: str) -> dict[str, Any]:
        content = opened(self._seal, sealed)
        try:
            value = json.loads(content) if content is not None else None
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value
        warn_of(f"{self._database.path}: the metadata of {whose} is damaged and left out")
        return {}

    def _box(self, face: int, sealed: object) -> tuple[float, float, float, float] | None:
        content = opened(self._seal, sealed)
        if content is not None and len(content) == 16:
            left, top, width, height = np.frombuffer(content, "<f4").tolist()
            if np.isfinite((left, top, width, height)).all():
                return left, top, width, height
        warn_of(f"{self._database.path}: the box of face {face} is damaged and left out")
        return None

    def _decoded(self, sealed: object) -> str:
        content = opened(self._seal, sealed)
        if content is None:
            raise GalleryError(f"{self._database.path} is damaged: a name or path in it cannot be read")
        return content.decode(errors="surrogateescape")


def _traces(values: Iterable[object]) -> list[bytes]:
    """Values as they were written; in a damaged file they may be of any type, and must be removable all the same."""
    return [
        value.encode(errors="surrogateescape") if isinstance(value, str) else value
        for value in values
        if isinstance(value, str | bytes)
    ]


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _condition(owner: int | None, which: Which | None) -> tuple[str, tuple[int, ...]]:
    if owner is not None:
        return "WHERE i.identity = ?", (owner,)
    return {None: "", "known": "WHERE i.identity IS NOT NULL", "unknown": "WHERE i.identity IS NULL"}[which], ()
