"""Rows of the embedded store: every statement that reads or changes people, images and faces."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import GalleryError
from spherecv.gallery import checksums
from spherecv.gallery.damage import opened, opened_vectors
from spherecv.gallery.database import Database
from spherecv.gallery.rows import Added, Entry, IdentityInfo, ImageKey, StoredFace, StoredImage, Table
from spherecv.gallery.seal import Seal
from spherecv.gallery.store import Which

_AT_ONCE = 1024
"""Rows read together: their embeddings, 2 MB of 512 numbers, stay in the cache while they are checked and copied."""
_UNCHECKED = "unchecked"
"""Stands for the checksum in a file whose rows have none."""
_IMAGE = "i.id, i.identity, i.lookup, i.path, i.digest, i.size, i.mtime_ns, i.problem"


Ids = NDArray[np.int64]


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


class Person(NamedTuple):
    """Name and metadata of somebody."""

    name: str
    metadata: dict[str, Any]


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

    def search(self, connection: sqlite3.Connection, name: str) -> int | None:
        """Owner of a name where what it is looked up by may be damaged: everybody is read."""
        for row in connection.execute("SELECT id, lookup, name FROM identities NOT INDEXED"):
            if self.is_named(row, name):
                return int(row[0])
        return None

    def is_named(self, row: Sequence[Any], name: str) -> bool:
        """Whether a person (id, lookup, name, ...) is looked up by a name, or called so."""
        return bool(row[1] == self._seal.lookup(name) or opened(self._seal, row[2]) == _encoded(name))

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
            row = (image, owner, *self._image_row(entry))
            images.append((*row, checksums.of_image(*row)))
            for new in entry.faces:
                face += 1
                box = None if new.box is None else self._seal.close(np.asarray(new.box, "<f4").tobytes())
                vector = self._seal.close(np.ascontiguousarray(new.vector, "<f4").tobytes())
                score, quality = _number(new.score), _number(new.quality)
                told = checksums.of_face(face, image, owner, box, score, quality)
                faces.append((face, image, box, score, quality, told, checksums.of_vector(face, vector)))
                vectors.append((face, vector))
        connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", images)
        connection.executemany("INSERT INTO faces VALUES (?, ?, ?, ?, ?, ?, ?)", faces)
        connection.executemany("INSERT INTO vectors VALUES (?, ?)", vectors)
        known = sum(row[1] is not None for row in images)
        self._database.count(connection, known, len(images) - known)
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
            f"SELECT {_IMAGE}, checksum FROM images i WHERE lookup = ? AND identity IS ?",  # noqa: S608 - names of columns
            (self._seal.lookup(entry.image.path), owner),
        ).fetchone()
        if row is None:
            return "new"
        if checksums.of_image(*row[:-1]) != row[-1]:  # damaged: this one is whole
            return "replaced"
        number, _, lookup, path, digest, size, mtime_ns, problem, _ = row
        if self._decoded(digest) != entry.image.digest or bool(self._seal.open(problem)) != bool(entry.problem):
            return "replaced"
        if not self._faces_are_whole(connection, number, owner):
            return "replaced"
        if (size, mtime_ns) != (entry.image.size, entry.image.mtime_ns):
            size, mtime_ns = entry.image.size, entry.image.mtime_ns
            told = checksums.of_image(number, owner, lookup, path, digest, size, mtime_ns, problem)
            connection.execute(
                "UPDATE images SET size = ?, mtime_ns = ?, checksum = ? WHERE id = ?", (size, mtime_ns, told, number)
            )
        return "unchanged"

    def _faces_are_whole(self, connection: sqlite3.Connection, image: int, owner: int | None) -> bool:
        rows = connection.execute(
            f"SELECT {self._face(connection)}, v.vector FROM faces f LEFT JOIN vectors v ON v.face = f.id "  # noqa: S608
            "WHERE f.image = ?",
            (image,),
        ).fetchall()
        faces, sealed, sums = ([row[column] for row in rows] for column in (0, 7, 6))
        size = int(self._database.get("dimension") or 0)
        kept, _ = opened_vectors(self._seal, faces, sealed, sums, size, lambda _face, _what: None)
        return len(kept) == len(rows) and all(
            checksums.of_face(number, image, owner, box, score, quality) == told
            for number, image, box, score, quality, told, *_ in rows
        )

    def _image_row(self, entry: Entry) -> tuple[bytes, bytes, bytes, int | None, int | None, bytes]:
        key = entry.image
        path = self._seal.close(key.path.encode(errors="surrogateescape"))
        problem = self._seal.close(entry.problem.encode(errors="surrogateescape"))
        digest = self._seal.close(key.digest.encode())
        return self._seal.lookup(key.path), path, digest, key.size, key.mtime_ns, problem

    def _owner(self, connection: sqlite3.Connection, name: str, metadata: Mapping[str, Any] | None) -> int:
        owner = self.find(connection, name)
        if owner is None:
            owner = self.last(connection, "identities") + 1
            row = (owner, self._seal.lookup(name), self._seal.close(_encoded(name)), self._json(metadata or {}))
            connection.execute("INSERT INTO identities VALUES (?, ?, ?, ?, ?)", (*row, checksums.of_identity(*row)))
        elif metadata is not None:
            merged = {**self.person(connection, owner)[1], **metadata}
            self._rewrite(connection, owner, name, self._json(merged))
        return owner

    def _rewrite(self, connection: sqlite3.Connection, owner: int, name: str, metadata: bytes) -> None:
        row = (owner, self._seal.lookup(name), self._seal.close(_encoded(name)), metadata)
        connection.execute(
            "UPDATE identities SET lookup = ?, name = ?, metadata = ?, checksum = ? WHERE id = ?",
            (*row[1:], checksums.of_identity(*row), owner),
        )

    def remove_owner(self, connection: sqlite3.Connection, owner: int) -> Gone:
        """Delete a person with all images."""
        rows = connection.execute(f"SELECT id FROM images {self._how()} WHERE identity = ?", (owner,)).fetchall()  # noqa: S608
        gone = self._remove_images(connection, [row[0] for row in rows])
        gone.traces.extend(self._drop_person(connection, owner))
        return gone

    def _how(self) -> str:
        """Hint for statements that remove: do not use indexes, which may be damaged."""
        return "" if self._database.is_whole() else "NOT INDEXED"

    def remove_image(self, connection: sqlite3.Connection, owner: int | None, path: str) -> Gone | None:
        """Delete an image; None where there is none."""
        row = connection.execute(
            f"SELECT id FROM images {self._how()} WHERE lookup = ? AND identity IS ?",  # noqa: S608
            (self._seal.lookup(path), owner),
        ).fetchone()
        return None if row is None else self._remove_images(connection, [row[0]])

    def drop_if_empty(self, connection: sqlite3.Connection, owner: int) -> list[bytes]:
        """Delete a person who has no image left; returns what was written of them."""
        (count,) = connection.execute("SELECT count(*) FROM images WHERE identity = ?", (owner,)).fetchone()
        return [] if count else self._drop_person(connection, owner)

    def _remove_images(self, connection: sqlite3.Connection, images: Sequence[int]) -> Gone:
        faces: list[int] = []
        traces: list[bytes] = []
        how, known = self._how(), 0
        for image in images:
            row = connection.execute(
                "SELECT identity, path, lookup, digest, problem FROM images WHERE id = ?", (image,)
            ).fetchone()
            known += row[0] is not None
            traces += _traces(row)
            sums = self._told(connection, "vector_checksum")
            for face, box, vector, told in connection.execute(
                f"SELECT id, box, vector, {sums} FROM faces {how} LEFT JOIN vectors ON face = id WHERE image = ?",  # noqa: S608
                (image,),
            ).fetchall():
                faces.append(int(face))
                if vector is None:
                    self._database.unled[face] = told
                traces += _traces((vector, box))
        connection.executemany("DELETE FROM vectors WHERE face = ?", [(face,) for face in faces])
        connection.executemany("DELETE FROM faces WHERE id = ?", [(face,) for face in faces])
        connection.executemany("DELETE FROM images WHERE id = ?", [(image,) for image in images])
        self._database.count(connection, -known, known - len(images))
        return Gone(faces, len(images), traces)

    def _drop_person(self, connection: sqlite3.Connection, owner: int) -> list[bytes]:
        row = connection.execute("SELECT lookup, name, metadata FROM identities WHERE id = ?", (owner,)).fetchone()
        connection.execute("DELETE FROM identities WHERE id = ?", (owner,))
        return [value for value in _traces(row or ()) if len(value) > 2]  # "{}" is everywhere, and nobody's

    def note_removal(self, connection: sqlite3.Connection) -> Note:
        """Tell other processes that rows went or changed hands, and that bytes of them wait to be erased."""
        connection.execute("DELETE FROM attachments")
        changes = str(self.changes(connection) + 1)
        self._database.put(connection, "changes", changes)
        alone = connection.execute("SELECT 1 FROM properties WHERE name = 'unerased'").fetchone() is None
        self._database.put(connection, "unerased", changes)
        return Note(changes, alone)

    @staticmethod
    def changes(connection: sqlite3.Connection) -> int:
        """How often rows went or changed hands."""
        row = connection.execute("SELECT value FROM properties WHERE name = 'changes'").fetchone()
        try:
            return 0 if row is None else int(row[0])
        except ValueError:  # damaged: any other number tells that there was a change
            return crc32(str(row[0]).encode(errors="surrogatepass"))

    def rename(self, connection: sqlite3.Connection, owner: int, new: str) -> list[bytes]:
        """Change a name; returns the old one as it was written."""
        old = connection.execute("SELECT lookup, name FROM identities WHERE id = ?", (owner,)).fetchone()
        person = self._person_of(connection, owner)
        self._rewrite(connection, owner, new, self._json({} if person is None else person.metadata))
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
            self._hand_over(connection, owner, goal)
            gone.traces.extend(self._drop_person(connection, owner))
        return gone

    def _hand_over(self, connection: sqlite3.Connection, owner: int, goal: int) -> None:
        """Give all images of one person to another; what is damaged stays damaged."""
        images, faces = [], []
        for row in connection.execute(f"SELECT {self._image(connection)} FROM images i WHERE identity = ?", (owner,)):  # noqa: S608
            whole = self._is_image(row)
            images.append((goal, checksums.of_image(row[0], goal, *row[2:8]) if whole else None, row[0]))
            for face in connection.execute(
                f"SELECT {self._face(connection)} FROM faces f WHERE image = ?", (row[0],)  # noqa: S608
            ):
                number, image, box, score, quality, *told = face
                whole = checksums.of_face(number, image, owner, box, score, quality) == told[0]
                sums = checksums.of_face(number, image, goal, box, score, quality) if whole else None
                faces.append((sums, number))
        connection.executemany("UPDATE images SET identity = ?, checksum = ? WHERE id = ?", images)
        connection.executemany("UPDATE faces SET checksum = ? WHERE id = ?", faces)

    def names(self, connection: sqlite3.Connection) -> list[str]:
        """Names of everybody known that can be read, in no order."""
        rows = connection.execute("SELECT lookup, name FROM identities")
        return [name for lookup, sealed in rows if (name := self._name(lookup, sealed)) is not None]

    def identities(self, connection: sqlite3.Connection) -> list[IdentityInfo]:
        """Everybody, by name."""
        counted = connection.execute(
            "SELECT i.identity, count(DISTINCT i.id), count(f.id) FROM images i LEFT JOIN faces f ON f.image = i.id "
            "WHERE i.identity IS NOT NULL GROUP BY i.identity"
        )
        counts = {owner: (images, faces) for owner, images, faces in counted}
        people = []
        for row in connection.execute(f"SELECT {self._identity(connection)} FROM identities p"):  # noqa: S608
            person = self._read_person(row)
            if person is not None:
                people.append(IdentityInfo(person.name, *counts.get(row[0], (0, 0)), person.metadata))
        return sorted(people, key=lambda person: person.name)

    def images(self, connection: sqlite3.Connection, owner: int | None, which: Which | None) -> list[StoredImage]:
        """Images with how many faces each has."""
        condition, values = _condition(owner, which)
        rows = connection.execute(
            f"SELECT {self._image(connection)}, count(f.id) FROM images i LEFT JOIN faces f ON f.image = i.id "  # noqa: S608
            f"{condition} GROUP BY i.id",
            values,
        )
        names: dict[int | None, str | None] = {None: None}
        found = []
        for *row, faces in rows:
            image, holder, _, path, digest, size, mtime_ns, problem, _ = row
            if not self._is_image(row) or any(opened(self._seal, value) is None for value in (path, digest)):
                self._database.damage.seen(f"image {image} is damaged ({self._path(path)})")
                continue
            if holder not in names:
                person = self._person_of(connection, holder)
                names[holder] = None if person is None else person.name
            if holder is None or names[holder] is not None:
                key = ImageKey(self._decoded(path), self._decoded(digest), size, mtime_ns)
                found.append(StoredImage(image, names[holder], key, faces, self._decoded(problem)))
        return found

    def table(self, connection: sqlite3.Connection, size: int, which: Which | None, owner: int | None) -> Table:
        """Embeddings with their owners, all at once."""
        condition, values = _condition(owner, which)
        (count,) = connection.execute(
            f"SELECT count(*) FROM faces f LEFT JOIN images i ON i.id = f.image {condition}", values  # noqa: S608
        ).fetchone()
        table, start = Table.empty(count, size), 0
        for ids, owners, qualities, vectors in self.batches(connection, condition, values):
            part = slice(start, start + len(ids))
            if part.stop > len(table.ids):  # counted by a damaged index, which lacks some
                table = table.enlarged(part.stop)
            table.ids[part], table.owners[part], table.qualities[part], table.vectors[part] = (
                ids,
                owners,
                qualities,
                vectors,
            )
            start = part.stop
        names: dict[int, str] = {}
        lost = []
        for held in np.unique(table.owners[:start][table.owners[:start] >= 0]).tolist():
            person = self._person_of(connection, held)
            if person is None:
                lost.append(held)
            else:
                names[held] = person.name
        ids, owners, qualities, vectors, _ = table
        table = Table(ids[:start], owners[:start], qualities[:start], vectors[:start], names)
        if not lost:
            return table
        kept = ~np.isin(table.owners, lost)
        return Table(table.ids[kept], table.owners[kept], table.qualities[kept], table.vectors[kept], names)

    def batches(
        self, connection: sqlite3.Connection, condition: str = "", values: Sequence[Any] = ()
    ) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Go through ids, owners, qualities and embeddings in the order of the ids, some thousands at a time."""
        cursor = connection.execute(
            f"SELECT {self._face(connection)}, i.identity, v.vector FROM faces f LEFT JOIN images i "  # noqa: S608
            f"ON i.id = f.image LEFT JOIN vectors v ON v.face = f.id {condition} ORDER BY f.id",
            values,
        )
        while rows := cursor.fetchmany(_AT_ONCE):
            if not (whole := self._whole_faces(connection, rows)):
                continue
            ids, _, _, _, qualities, _, told, owners, sealed = zip(*whole, strict=True)
            kept, vectors = self.vectors(connection, ids, sealed, told if self.checked(connection) else None)
            if not kept:
                continue
            if len(kept) < len(ids):
                ids, owners, qualities = (tuple(column[place] for place in kept) for column in (ids, owners, qualities))
            yield (
                np.array(ids, np.int64),
                np.array([-1 if owner is None else owner for owner in owners], np.int64),
                np.array(qualities, np.float32),
                vectors,
            )

    def orphans(self, connection: sqlite3.Connection) -> None:
        """Say which images, faces and embeddings belong to what is not there."""
        for table, number, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
            self._database.damage.seen(f"row {number} of {table} belongs to something that is missing in {parent}")

    def owner_batches(self, connection: sqlite3.Connection, first: int) -> Iterator[tuple[Ids, Ids, Ids]]:
        """Go through ids, owners and checksums of embeddings of known people's faces, from an id on."""
        told = "f.vector_checksum" if self.checked(connection) else "0"
        cursor = connection.execute(
            f"SELECT f.id, i.identity, CASE typeof({told}) WHEN 'integer' THEN {told} ELSE {1 << 40} END "  # noqa: S608
            "FROM faces f JOIN images i ON i.id = f.image WHERE typeof(i.identity) = 'integer' AND f.id >= ? "
            "ORDER BY f.id",
            (first,),
        )
        while rows := cursor.fetchmany(65_536):
            table = np.array(rows, np.int64)
            yield table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()

    def checked(self, connection: sqlite3.Connection) -> bool:
        """Whether the rows have checksums."""
        return self._database.checked(connection)

    def _whole_faces(self, connection: sqlite3.Connection, rows: list[Any]) -> list[Any]:
        """Rows of faces that are what was written; of the others it is said."""
        ids, images, boxes, scores, qualities, told, _, owners, *_ = zip(*rows, strict=True)
        found = checksums.of_faces(ids, images, owners, boxes, scores, qualities)
        if found == list(told) and None not in found:
            return rows
        return [row for row in rows if self._is_face(connection, row)]

    def _is_face(self, connection: sqlite3.Connection, row: Sequence[Any]) -> bool:
        """Whether the row of a face (its columns, and the id of its owner) is what was written; damage is reported."""
        number, image, box, score, quality, told, _, owner, *_ = row
        if _fits(checksums.of_face(number, image, owner, box, score, quality), told):
            return True
        self.explain(connection, number, "its row is not what was written")
        return False

    def vectors(
        self, connection: sqlite3.Connection, faces: Sequence[int], sealed: Sequence[Any], sums: Sequence[Any] | None
    ) -> tuple[list[int], Any]:
        """Open embeddings; returns the places of the whole ones, and these. The others are reported as damaged.

        `sums` are their checksums; None in a file whose rows have none.
        """
        size = int(self._database.get("dimension") or 0)
        return opened_vectors(self._seal, faces, sealed, sums, size, partial(self.explain, connection))

    def explain(self, connection: sqlite3.Connection, face: int, what: str) -> None:
        """Say of a damaged face whose it is, as far as that can still be read."""
        row = connection.execute(
            "SELECT p.lookup, p.name, i.path, i.identity FROM faces f LEFT JOIN images i ON i.id = f.image "
            "LEFT JOIN identities p ON p.id = i.identity WHERE f.id = ?",
            (face,),
        ).fetchone()
        lookup, name, path, owner = row or (None,) * 4
        known = self._name(lookup, name)
        whose = repr(known) if known else "nobody known" if row and owner is None else "somebody"
        where = f"face {face} of {whose} on {self._path(path)}"
        self._database.damage.seen(f"{where} is damaged ({what}): enrol its image again")

    def _path(self, sealed: object) -> str:
        content = opened(self._seal, sealed)
        return "an image" if content is None else content.decode(errors="replace")

    def _name(self, lookup: object, sealed: object) -> str | None:
        """Name of a person; None where it is not the one that it is looked up by."""
        content = opened(self._seal, sealed)
        if content is None:
            return None
        name = content.decode(errors="surrogateescape")
        try:
            return name if self._seal.lookup(name) == lookup else None
        except UnicodeEncodeError:
            return None

    def _read_person(self, row: Sequence[Any]) -> Person | None:
        """What is known of a person, from all columns; None where the name is damaged, which is reported."""
        owner, lookup, sealed, metadata, told = row
        name = self._name(lookup, sealed)
        if name is None:
            self._database.damage.seen(f"the name of person {owner} is damaged")
            return None
        content = opened(self._seal, metadata)
        found = checksums.of_identity(owner, lookup, sealed, metadata)
        try:
            value = json.loads(content) if content is not None else None
        except ValueError:
            value = None
        if not isinstance(value, dict) or not _fits(found, told):
            self._database.damage.seen(f"what is noted of {name!r} (metadata) is damaged")
            value = {}
        return Person(name, value)

    def _person_of(self, connection: sqlite3.Connection, owner: Any) -> Person | None:
        """What is known of an owner; None where they are not there, or their name is damaged, which is reported."""
        row = connection.execute(
            f"SELECT {self._identity(connection)} FROM identities p WHERE id = ?", (owner,)  # noqa: S608
        ).fetchone()
        if row is None:
            self._database.damage.seen(f"person {owner}, of whom there are images, is missing")
            return None
        return self._read_person(row)

    def person(self, connection: sqlite3.Connection, owner: Any) -> Person:
        """Name and metadata of an owner; raises `GalleryError` where the name is damaged."""
        found = self._person_of(connection, owner)
        if found is None:
            raise GalleryError(f"{self._database.path} is damaged: the name of person {owner} cannot be read")
        return found

    def describe_person(self, connection: sqlite3.Connection, owner: Any) -> StoredFace | None:
        """What is known of an owner; None where they were removed meanwhile."""
        row = connection.execute(
            f"SELECT {self._identity(connection)} FROM identities p WHERE id = ?", (owner,)  # noqa: S608
        ).fetchone()
        person = None if row is None else self._read_person(row)
        return None if person is None else StoredFace(-1, person.name, "", None, person.metadata)

    def describe(self, connection: sqlite3.Connection, face: int) -> StoredFace | None:
        """What is known of a face; None where it was removed meanwhile, or is damaged, which is reported."""
        row = connection.execute(
            f"SELECT {self._face(connection)}, {self._image(connection)}, {self._identity(connection)} FROM faces f "  # noqa: S608
            "LEFT JOIN images i ON i.id = f.image LEFT JOIN identities p ON p.id = i.identity WHERE f.id = ?",
            (face,),
        ).fetchone()
        if row is None:
            return None
        image, person = row[7:16], row[16:]
        owner, path, box = image[1], image[3], row[2]
        if not self._is_face(connection, (*row[:7], owner)):
            return None
        corners = self._box(box)
        content = opened(self._seal, path)
        if not self._is_image(image) or content is None or (box is not None and corners is None):
            self.explain(connection, face, "its image or box is not what was written")
            return None
        known = None
        if owner is not None:
            known = self._person_of(connection, owner) if person[0] is None else self._read_person(person)
            if known is None:
                return None
        name, notes = (None, {}) if known is None else known
        return StoredFace(face, name, content.decode(errors="surrogateescape"), corners, notes)

    @staticmethod
    def _is_image(row: Sequence[Any]) -> bool:
        return _fits(checksums.of_image(*row[:8]), row[8])

    def _identity(self, connection: sqlite3.Connection) -> str:
        return f"p.id, p.lookup, p.name, p.metadata, {self._told(connection, 'p.checksum')}"

    def _image(self, connection: sqlite3.Connection) -> str:
        return f"{_IMAGE}, {self._told(connection, 'i.checksum')}"

    def _face(self, connection: sqlite3.Connection) -> str:
        told = self._told(connection, "f.checksum"), self._told(connection, "f.vector_checksum")
        return f"f.id, f.image, f.box, f.score, f.quality, {', '.join(told)}"

    def _told(self, connection: sqlite3.Connection, column: str) -> str:
        return column if self._database.checked(connection) else f"'{_UNCHECKED}'"

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
        last = connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]  # noqa: S608 - a damaged seq may be behind
        return max(value if isinstance(value, int) else 0 for value in (row and row[0], last))

    def _json(self, value: Mapping[str, Any]) -> bytes:
        return self._seal.close(json.dumps(dict(value), sort_keys=True).encode())

    def _box(self, sealed: object) -> tuple[float, float, float, float] | None:
        content = opened(self._seal, sealed)
        if content is None or len(content) != 16:
            return None
        left, top, right, bottom = np.frombuffer(content, "<f4").tolist()
        return (left, top, right, bottom) if np.isfinite((left, top, right, bottom)).all() else None

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


def _fits(found: int | None, told: object) -> bool:
    return found is not None and told in (found, _UNCHECKED)


def _number(value: float | None) -> float | None:
    """A score or quality as SQLite keeps it, which takes NaN for none."""
    return None if value is None or value != value else float(value)


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _condition(owner: int | None, which: Which | None) -> tuple[str, tuple[int, ...]]:
    if owner is not None:
        return "WHERE i.identity = ?", (owner,)
    return {None: "", "known": "WHERE i.identity IS NOT NULL", "unknown": "WHERE i.identity IS NULL"}[which], ()
