"""Embedded store: one SQLite file with many readers and one writer."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from spherecv.errors import (
    GalleryError,
    GalleryLockedError,
    GalleryMismatchError,
    IdentityError,
    InvalidArgumentError,
    StorageError,
)
from spherecv.gallery import checksums, salvage
from spherecv.gallery.checkup import Checkup, check_file
from spherecv.gallery.damage import OnDamage
from spherecv.gallery.database import CorruptFileError, Database
from spherecv.gallery.rows import (
    Added,
    Entry,
    Hit,
    IdentityInfo,
    Origin,
    Removed,
    StoredFace,
    StoredImage,
    Table,
    Vector,
)
from spherecv.gallery.seal import Seal, new_seal, open_seal, passphrase_of
from spherecv.gallery.sqlite_index import IndexKeeper
from spherecv.gallery.sqlite_rows import Gone, Note, Rows
from spherecv.gallery.sqlite_search import Search
from spherecv.gallery.store import IfExists, Which
from spherecv.metrics import Metric
from spherecv.zoo import are_comparable, is_earlier
from spherecv.zoo.key import ModelKey

_NAMES, _SETTLED = "names", "NFC"
"""A property of the file, and its value once every name has its one form."""


class SqliteStore:
    """A gallery in one file.

    Parameters
    ----------
    path : path
    create : bool
        Whether a missing file is made.
    key : str, optional
        Passphrase of an encrypted gallery; by default the environment's `SPHERECV_GALLERY_KEY`.
    timeout : float
        Seconds to wait for another process that writes.
    index : {"auto", "exact", "hnsw", "ivf"}
        How to search; see `spherecv.gallery.approximate`.
    damaged : {"warn", "raise"}
        Whether what is damaged is left out with a `DamageWarning`, or is a `GalleryError`.

    Raises
    ------
    GalleryError, GalleryMismatchError, GalleryKeyError, StorageError
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        key: str | None = None,
        timeout: float = 5.0,
        index: str = "auto",
        damaged: OnDamage = "warn",
    ) -> None:
        self._database = Database(path, create=create, timeout=timeout, damaged=damaged)
        self.label = str(self._database.path)
        try:
            passphrase = passphrase_of(key)
            self._seal = self._opened_seal(passphrase)
            self._rows = Rows(self._database, self._seal)
            self._search = Search(self._database, self._seal, index)
            self.flush()
        except BaseException:
            self._database.close()
            raise

    @property
    def writable(self) -> bool:
        """Whether this process may change the file."""
        return self._database.writable

    @property
    def names_settled(self) -> bool:
        """Whether the file says that every name has its one form."""
        return self._database.get(_NAMES) == _SETTLED

    def note_names_settled(self) -> None:
        """Keep it in the file; not in one of an earlier version, which earlier versions write to."""
        with self._database.write(rows=False, wait=False) as connection:
            if self._database.checked(connection):
                self._database.put(connection, _NAMES, _SETTLED)

    @property
    def index(self) -> IndexKeeper:
        """The approximate index beside the file."""
        return self._search.index

    def _opened_seal(self, passphrase: str | None) -> Seal:
        note = self._database.get("seal")
        if note is not None:
            return open_seal(note, passphrase, self.label)
        # Written down once; of two processes that make the gallery at once, the first decides.
        seal, note = new_seal(passphrase)
        with self._database.write() as connection:
            if self._rows_are_there(connection):
                raise GalleryError(f"{self.label} is damaged: how it is sealed is missing; bring back a copy of it")
            self._database.put(connection, "seal", note, anew=False)
            self._database.put(connection, "uuid", secrets.token_hex(16), anew=False)
        settled = self._database.get("seal") or ""
        return seal if settled == note else open_seal(settled, passphrase, self.label)

    @staticmethod
    def _rows_are_there(connection: sqlite3.Connection) -> bool:
        return any(Rows.last(connection, table) for table in ("identities", "images"))

    @property
    def encrypted(self) -> bool:
        """Whether the file is of no use without its key."""
        return bool(self._database.get("seal"))

    @property
    def origin(self) -> Origin | None:
        """What made the embeddings; None before the first."""
        text = self._database.get("origin")
        return None if text is None else Origin(**json.loads(text))

    @property
    def dimension(self) -> int | None:
        """Numbers of an embedding."""
        text = self._database.get("dimension")
        return None if text is None else int(text)

    def close(self) -> None:
        """Close the file."""
        self._search.close()
        self._database.close()

    def add(
        self,
        entries: Sequence[Entry],
        origin: Origin,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        if_exists: IfExists = "add",
    ) -> Added:
        """Take in images with their faces, all or none; an image of the same content is left as it is."""
        size = checked_size(entries)
        gone, note = Gone([], 0, []), None
        with self._database.write() as connection:
            self._bind(connection, origin, size)
            if if_exists != "add":
                self._make_room(connection, entries, if_exists, gone)
            added = self._rows.add(connection, entries, metadata or {}, gone)
            if gone.traces:
                note = self._rows.note_removal(connection)
                self._search.index.forget(connection)
        if note is not None:
            self._erase(note, gone.traces)
        return added

    def _bind(self, connection: sqlite3.Connection, origin: Origin, size: int | None) -> None:
        check_origin(self.origin, origin, self.label)
        known = self.dimension
        if size is not None and known is not None and size != known:
            raise GalleryMismatchError(f"{self.label} holds embeddings of {known} numbers, but got {size}")
        text = json.dumps({"model": origin.model, "key": origin.key, "detector": origin.detector})
        self._database.put(connection, "origin", text, anew=False)
        if size is not None:
            self._database.put(connection, "dimension", str(size), anew=False)

    def _make_room(
        self, connection: sqlite3.Connection, entries: Sequence[Entry], if_exists: IfExists, gone: Gone
    ) -> None:
        for name in {entry.identity for entry in entries if entry.identity is not None}:
            owner = self._rows.find(connection, name)
            if owner is None:
                continue
            if if_exists == "raise":
                raise IdentityError(
                    f"{name!r} is in {self.label} already: if_exists='add' adds images, 'replace' replaces them"
                )
            gone.add(self._rows.remove_owner(connection, owner))

    def remove(self, identity: str) -> Removed:
        """Forget a person, and every byte that was kept of them."""
        try:
            with self._database.write() as connection:
                gone = self._rows.remove_owner(connection, self._known(connection, identity))
                note = self._rows.note_removal(connection)
                self._search.index.forget(connection)
        except CorruptFileError:
            return self._salvaged_without(identity)
        return Removed(len(gone.faces), gone.images, self._erase(note, gone.traces))

    def _salvaged_without(self, identity: str) -> Removed:
        left = salvage.rewrite(self._database, lambda row: self._rows.is_named(row, identity))
        if not left.people:
            raise IdentityError(f"{self.label} holds nobody called {identity!r}")
        with self._database.write() as connection:
            note = self._rows.note_removal(connection)
            self._search.index.forget(connection)
        return Removed(left.faces, left.images, self._erase(note._replace(alone=False), ()))

    def remove_images(self, places: Sequence[tuple[str | None, str]]) -> Removed:
        """Forget images, each given by whose it is and its path; a person goes with their last one."""
        gone, images = Gone([], 0, []), 0
        with self._database.write() as connection:
            for identity, path in places:
                owner = None if identity is None else self._known(connection, identity)
                one = self._rows.remove_image(connection, owner, path)
                if one is None:
                    whose = "nobody" if identity is None else repr(identity)
                    raise IdentityError(f"{self.label} holds no image {path} of {whose}")
                gone.add(one)
                images += one.images
                if owner is not None:
                    gone.traces.extend(self._rows.drop_if_empty(connection, owner))
            note = self._rows.note_removal(connection)
            self._search.index.forget(connection)
        return Removed(len(gone.faces), images, self._erase(note, gone.traces))

    def holds(self, identity: str) -> bool:
        """Whether there is somebody of that name."""
        with self._question() as connection:
            return self._rows.find(connection, identity) is not None

    def flush(self) -> bool:
        """Finish erasing what an earlier removal could not; True when nothing removed is left in any file."""
        mark = self._database.get("unerased")
        return mark is None or self._erase(Note(mark, alone=False), ())

    def _erase(self, note: Note, traces: Sequence[bytes]) -> bool:
        """Erase what was removed; False where others are at work, or there is no room: the removal itself holds.

        Where an earlier removal's bytes wait too, nobody knows any more what they were: the file is written again. The
        mark goes only if it is still ours: what another process removes meanwhile has yet to be erased.
        """
        try:
            if not self._erased(traces if note.alone else None):
                return False
            with self._database.write() as connection:
                connection.execute("DELETE FROM properties WHERE name = 'unerased' AND value = ?", (note.mark,))
        except (GalleryLockedError, StorageError):
            return False
        return True

    def _erased(self, traces: Sequence[bytes] | None) -> bool:
        if self._database.doubted:  # VACUUM copies a damaged index as it is
            salvage.rewrite(self._database)
            traces = None
        try:
            return self._database.erase(traces)
        except CorruptFileError:  # SQLite does not write a damaged file again
            self._database.renew()
            salvage.rewrite(self._database)
            return self._database.erase(None)

    def rename(self, old: str, new: str) -> None:
        """Give a person another name, which must be free."""
        check_name(new)
        with self._database.write() as connection:
            owner = self._known(connection, old)
            taken = self._rows.find(connection, new)
            if taken not in (None, owner):
                raise IdentityError(f"{new!r} is in {self.label} already: merge the two instead (merge, or --merge)")
            traces = self._rows.rename(connection, owner, new)
            note = self._rows.note_removal(connection)
        self._erase(note, traces)

    def merge(self, names: Sequence[str], into: str) -> None:
        """Make several people one; metadata of `into` wins over that of the others."""
        check_name(into)
        with self._database.write() as connection:
            owners = [self._known(connection, name) for name in names]
            gone = self._rows.merge(connection, owners, into)
            note = self._rows.note_removal(connection)
            self._search.index.forget(connection)
        self._erase(note, gone.traces)

    @contextmanager
    def _question(self) -> Iterator[sqlite3.Connection]:
        """One state of the file, whose tables were seen to be whole, or said not to be."""
        with self._database.read() as connection:
            self._database.check_structure()
            yield connection

    def names(self) -> list[str]:
        """Names of everybody known, in no order."""
        with self._database.read() as connection:
            return self._rows.names(connection)

    def identities(self) -> list[IdentityInfo]:
        """Everybody, by name."""
        with self._question() as connection:
            return self._rows.identities(connection)

    def images(self, identity: str | None = None, *, which: Which | None = None) -> Iterator[StoredImage]:
        """Images of one person, of everybody known, of nobody, or all."""
        with self._question() as connection:
            owner = None if identity is None else self._known(connection, identity)
            found = self._rows.images(connection, owner, which)
        yield from found

    def table(self, which: Which | None = None, identity: str | None = None) -> Table:
        """Embeddings with their owners."""
        with self._question() as connection:
            owner = None if identity is None else self._known(connection, identity)
            return self._rows.table(connection, self.dimension or 0, which, owner)

    def nearest(self, probes: Vector, count: int, metric: Metric, which: Which) -> list[list[Hit]]:
        """Nearest faces of each probe."""
        with self._question():
            checked = self._checked(probes)
        return self._search.nearest(checked, count, metric, which)

    def nearest_templates(self, probes: Vector, count: int, metric: Metric) -> list[list[Hit]]:
        """People nearest to each probe by the mean of their embeddings."""
        with self._question():
            checked = self._checked(probes)
        return self._search.nearest_templates(checked, count, metric)

    def people_metadata(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        """What the caller said of people."""
        with self._question() as connection:
            return [self._rows.person(connection, self._known(connection, name))[1] for name in names]

    def describe(self, faces: Sequence[int]) -> list[StoredFace | None]:
        """What is known of faces; None for one that was removed meanwhile."""
        with self._question() as connection:
            return [self._rows.describe(connection, face) for face in faces]

    def describe_people(self, owners: Sequence[Hashable]) -> list[StoredFace | None]:
        """What is known of owners; None for one that was removed meanwhile."""
        with self._question() as connection:
            return [self._rows.describe_person(connection, owner) for owner in owners]

    def check(self) -> Checkup:
        """Read everything, and say what is damaged."""
        return check_file(self._database, self._rows)

    def snapshot(self) -> AbstractContextManager[object]:
        """Read one state, whatever others write, until the block ends."""
        return self._database.read()

    def counts(self) -> dict[str, int]:
        """Numbers of identities, images and faces, and bytes on disk."""
        with self._database.read() as connection:
            return {**self._rows.counts(connection), "bytes": self._database.bytes_on_disk()}

    @property
    def changes(self) -> int:
        """How often people or images were removed, renamed or merged."""
        with self._database.read() as connection:
            return self._rows.changes(connection)

    def attach(self, name: str, value: bytes | None, *, changes: int) -> None:
        """Keep a value beside the faces, or drop it; refused where it was made before a removal."""
        with self._database.write() as connection:
            if value is not None and self._rows.changes(connection) != changes:
                raise GalleryError(f"somebody was removed from {self.label}, or renamed, meanwhile: make it again")
            connection.execute("DELETE FROM attachments WHERE name = ?", (name,))
            if value is not None:
                sealed = self._seal.close(value)
                row = (name, sealed, checksums.of_attachment(name, sealed))
                connection.execute("INSERT INTO attachments VALUES (?, ?, ?)", row)

    def attachment(self, name: str) -> bytes | None:
        """Value that was attached."""
        with self._database.read() as connection:
            damaged = f"{self.label}: its {name} is damaged: fit it again"
            value = self._database.stored(connection, "attachments", name, checksums.of_attachment, damaged)
        return None if value is None else self._seal.open(value)

    def _known(self, connection: sqlite3.Connection, name: str) -> int:
        owner = self._rows.find(connection, name)
        if owner is None:
            owner = self._rows.search(connection, name)
        if owner is None:
            raise IdentityError(f"{self.label} holds nobody called {name!r}")
        return owner

    def _checked(self, probes: Vector) -> Vector:
        known = self.dimension
        if known is not None and probes.shape[1] != known:
            raise GalleryMismatchError(f"{self.label} holds embeddings of {known} numbers, but got {probes.shape[1]}")
        return probes


def check_origin(held: Origin | None, wanted: Origin, label: str) -> None:
    """Refuse embeddings of another model or recipe than the gallery's."""
    if held is not None and not are_comparable(held.model, held.key, wanted.key):
        mine, other = ModelKey.of(held.key), ModelKey.of(wanted.key)
        if mine._replace(precision=other.precision) == other:
            raise GalleryMismatchError(
                f"{label} holds embeddings that {held.model} gave in {mine.precision}, and nobody measured how they "
                f"compare with those in {other.precision}: open it with precision={mine.precision!r} "
                f"(--precision {mine.precision})"
            )
        if held.model == wanted.model and is_earlier(held.model, held.key):
            raise GalleryMismatchError(
                f"{label} holds embeddings of an earlier edition of {held.model} (key {held.key}), which embeds "
                "otherwise than today's: enrol the photographs again, in a new gallery"
            )
        if held.model == wanted.model and is_earlier(wanted.model, wanted.key):
            raise GalleryMismatchError(
                f"the embeddings are of an earlier edition of {held.model} (key {wanted.key}), which embeds otherwise "
                f"than the one of {label}: embed the photographs again"
            )
        what = "another recipe or version of it" if held.model == wanted.model else wanted.model
        raise GalleryMismatchError(
            f"{label} holds embeddings of {held.model} (key {held.key}), which cannot be compared with those of {what} "
            f"(key {wanted.key}): open it with the model it was made with, or make another gallery"
        )


def checked_size(entries: Sequence[Entry]) -> int | None:
    """How many numbers the embeddings have, all alike, all finite."""
    sizes = set()
    for entry in entries:
        if entry.identity is not None:
            check_name(entry.identity)
        _check_text("the name of an image", entry.image.path)
        for face in entry.faces:
            sizes.add(face.vector.shape)
            if not np.isfinite(face.vector).all():
                raise InvalidArgumentError(f"the embedding of {entry.image.path} has values that are not finite")
    if len(sizes) > 1 or any(len(shape) != 1 or not shape[0] for shape in sizes):
        raise InvalidArgumentError(f"embeddings must be rows of one length, but got the shapes {sorted(sizes)}")
    return sizes.pop()[0] if sizes else None


def check_name(name: object) -> None:
    """Raise `InvalidArgumentError` for what cannot be the name of a person."""
    _check_text("an identity", name)
    if not str(name).strip() or "\0" in str(name):
        raise InvalidArgumentError(f"an identity must have a name, but got {name!r}")


def _check_text(what: str, text: object) -> None:
    try:
        if isinstance(text, str):
            text.encode(errors="surrogateescape")  # names of files may be no UTF-8
            return
    except UnicodeEncodeError:
        pass
    raise InvalidArgumentError(f"{what} must be a text, but got {text!r}")
