"""A gallery on Milvus: the same calls for Milvus Lite on this machine and for a cluster.

Two collections: one row for each face, and one for each person with their template. Milvus has no transactions over
several rows: the faces count, and a person's row is made again from them with every change.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from spherecv.errors import GalleryError, GalleryMismatchError, IdentityError
from spherecv.gallery.milvus_client import Address, all_rows, connect, explained, one_of, release, rows_of, word
from spherecv.gallery.milvus_rows import checked_text, hits_of, owner_of, table_of, where
from spherecv.gallery.milvus_tables import FACE_FIELDS, PEOPLE, Tables
from spherecv.gallery.rows import (
    Added,
    Entry,
    Hit,
    IdentityInfo,
    ImageKey,
    Origin,
    Removed,
    StoredFace,
    StoredImage,
    Table,
    Vector,
)
from spherecv.gallery.sqlite import check_origin, checked_size
from spherecv.gallery.store import IfExists, Which
from spherecv.metrics import Metric
from spherecv.templates import pooled

_MOST_HITS = 16_384
_DELETED_AT_ONCE = 500


class MilvusStore:
    """A gallery on Milvus.

    Parameters
    ----------
    location : str
        See `Address.of`.
    create : bool
        Whether missing collections are made.
    metric : {"cosine", "euclidean"}
        Fixed when the collections are made.
    timeout : float
        Seconds to wait for the server, at least 5; see `Patient`.

    Raises
    ------
    GalleryError, GalleryLockedError, GalleryMismatchError, InvalidArgumentError, MissingDependencyError
    """

    def __init__(self, location: str, *, create: bool = True, metric: Metric = "cosine", timeout: float = 5.0) -> None:
        self._address = Address.of(location).settled()
        self.label = location
        self._metric: Metric = metric
        self._client = connect(self._address, create=create, timeout=max(timeout, 5.0))
        self._closed = False
        self._tables = Tables(self._client, self._address)
        try:
            with explained(self._address):
                self._note = self._tables.open()
            if self._note is None and not create:
                raise GalleryError(f"{location}: no such gallery (make one with `spherecv gallery enrol`)")
            if self._note is not None and self._note["metric"] != metric:
                raise GalleryMismatchError(
                    f"{location} was made for the {self._note['metric']} distance: open it with metric="
                    f"{self._note['metric']!r}"
                )
        except BaseException:
            self.close()
            raise

    @property
    def writable(self) -> bool:
        """Always: what a user may do is the server's to say, call by call."""
        return True

    @property
    def names_settled(self) -> bool:
        """Never: a server's collections may be written by earlier versions still."""
        return False

    def note_names_settled(self) -> None:
        """Nothing is kept."""

    @property
    def origin(self) -> Origin | None:
        """What made the embeddings; None before the first."""
        return None if self._note is None else Origin(**self._note["origin"])

    @property
    def dimension(self) -> int | None:
        """Numbers of an embedding."""
        return None if self._note is None else int(self._note["dimension"])

    def close(self) -> None:
        """Close the connection, and with it a Lite folder, which then another process may open."""
        if not self._closed:
            self._closed = True
            release(self._client, self._address)

    def add(
        self,
        entries: Sequence[Entry],
        origin: Origin,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        if_exists: IfExists = "add",
    ) -> Added:
        """Take in images with their faces; images without one are not kept."""
        size = checked_size(entries)
        check_origin(self.origin, origin, self.label)
        if size is not None and self.dimension not in (None, size):
            raise GalleryMismatchError(f"{self.label} holds embeddings of {self.dimension} numbers, but got {size}")
        with explained(self._address):
            if self._note is None:
                if size is None:
                    return Added()
                self._note = self._tables.make(origin, size, self._metric)
            people = sorted({entry.identity for entry in entries if entry.identity is not None})
            if if_exists != "add":
                self._make_room(people, if_exists)
            added = self._insert([entry for entry in entries if entry.faces])
            self._renew(people, metadata or {})
        return added

    def _make_room(self, people: Sequence[str], if_exists: IfExists) -> None:
        held = {str(row["name"]) for row in self._people([word(name) for name in people])}
        if held and if_exists == "raise":
            raise IdentityError(
                f"{min(held)!r} is in {self.label} already: if_exists='add' adds images, 'replace' replaces them"
            )
        for name in held:
            self._delete(f"owner == {json.dumps(word(name))}")

    def _insert(self, entries: Sequence[Entry]) -> Added:
        places = {(owner_of(entry.identity), word(entry.image.path)): entry for entry in reversed(entries)}
        held: dict[tuple[str, str], str] = {}
        wanted = sorted({place for _, place in places})
        for row in rows_of(self._client, self._tables.faces, "place", wanted, ("owner", "place", "digest")):
            held[row["owner"], row["place"]] = row["digest"]
        changed = {place for place, entry in places.items() if place in held and held[place] != entry.image.digest}
        for owner, place in changed:
            self._delete(f"owner == {json.dumps(owner)} and place == {json.dumps(place)}")
        new = [entry for place, entry in places.items() if place not in held or place in changed]
        rows = [row for entry in new for row in self._face_rows(entry)]
        self._tables.upsert(self._tables.faces, rows)  # a message that is sent twice is there once
        return Added(len(rows), len(new) - len(changed), len(changed), len(entries) - len(new))

    @staticmethod
    def _face_rows(entry: Entry) -> Iterator[dict[str, Any]]:
        for face in entry.faces:
            details = {
                "box": None if face.box is None else list(face.box),
                "size": entry.image.size,
                "time": entry.image.mtime_ns,
                "quality": face.quality,
            }
            yield {
                "id": secrets.randbits(62),
                "owner": owner_of(entry.identity),
                "name": checked_text(entry.identity or "", 4096),
                "place": word(entry.image.path),
                "path": checked_text(entry.image.path, 8192),
                "digest": entry.image.digest,
                "details": details,
                "vector": np.asarray(face.vector, np.float32),
            }

    def _renew(self, names: Iterable[str], metadata: Mapping[str, Mapping[str, Any]]) -> None:
        """Make people's rows from their faces; a person without faces goes."""
        owners = {word(name): name for name in names}
        notes = {row["owner"]: row["metadata"] for row in self._people(list(owners))}
        held: dict[str, list[dict[str, Any]]] = {owner: [] for owner in owners}
        fields = ("owner", "place", "details", "vector")
        for row in rows_of(self._client, self._tables.faces, "owner", list(owners), fields):
            held[row["owner"]].append(row)
        gone = [owner for owner, rows in held.items() if not rows]
        if gone:
            self._client.delete(self._tables.people, filter=one_of("owner", gone))
        fresh = []
        for owner, rows in held.items():
            if rows:
                note = {**notes.get(owner, {}), **metadata.get(owners[owner], {})}
                counts = {"images": len({row["place"] for row in rows}), "faces": len(rows)}
                table = table_of(rows)
                mean = pooled(table.vectors, table.qualities, metric=self._metric)
                person = {"owner": owner, "name": owners[owner], "metadata": note, "counts": counts}
                fresh.append({**person, "vector": mean})
        self._tables.upsert(self._tables.people, fresh)

    def remove(self, identity: str) -> Removed:
        """Forget a person.

        Milvus Lite marks deleted rows and keeps their bytes, and its `compact` does nothing: so its collections are
        written again. A server drops the bytes at its next compaction, which is asked for; `erased` is then False.
        """
        self._known([identity])
        return self._remove([f"owner == {json.dumps(word(identity))}"], [identity])

    def remove_images(self, places: Sequence[tuple[str | None, str]]) -> Removed:
        """Forget images, each given by whose it is and its path; a person goes with their last one."""
        self._known([identity for identity, _ in places if identity is not None])
        wheres = []
        for identity, path in places:
            wheres.append(f"owner == {json.dumps(owner_of(identity))} and place == {json.dumps(word(path))}")
            if not self._faces(wheres[-1], ("id",)):
                whose = "nobody" if identity is None else repr(identity)
                raise IdentityError(f"{self.label} holds no image {path} of {whose}")
        return self._remove(wheres, sorted({identity for identity, _ in places if identity is not None}))

    def _remove(self, wheres: Sequence[str], people: Sequence[str]) -> Removed:
        faces, images = 0, 0
        with explained(self._address):
            for where in wheres:
                found = self._delete(where)
                faces, images = faces + len(found), images + len({row["place"] for row in found})
            self._renew(people, {})
            return Removed(faces, images, self._tables.erase(self._note))

    def holds(self, identity: str) -> bool:
        """Whether there is somebody of that name."""
        return bool(self._people([word(identity)]))

    def _delete(self, expression: str) -> list[dict[str, Any]]:
        """Delete faces by their keys, so that a deletion that comes late meets none that were added since."""
        found = list(all_rows(self._client, self._tables.faces, expression, ("id", "place")))
        for start in range(0, len(found), _DELETED_AT_ONCE):
            keys = [row["id"] for row in found[start : start + _DELETED_AT_ONCE]]
            self._client.delete(self._tables.faces, filter=one_of("id", keys))
        return found

    def rename(self, old: str, new: str) -> None:
        """Give a person another name, which must be free."""
        self._known([old])
        with explained(self._address):
            if old != new and self._people([word(new)]):
                raise IdentityError(f"{new!r} is in {self.label} already: merge the two instead (merge, or --merge)")
        self.merge([old], new)

    def merge(self, names: Sequence[str], into: str) -> None:
        """Make several people one; metadata of `into` wins over that of the others."""
        self._known(names)
        checked_size([Entry(into, ImageKey("", ""))])
        with explained(self._address):
            others = [name for name in names if name != into]
            notes = {row["name"]: row["metadata"] for row in self._people([word(name) for name in (*others, into)])}
            metadata: dict[str, Any] = {}
            for name in (into, *others):
                metadata = {**notes.get(name, {}), **metadata}
            faces, owners = self._tables.faces, [word(name) for name in others]
            moved = list(rows_of(self._client, faces, "owner", owners, FACE_FIELDS))
            kept = {row["place"] for row in rows_of(self._client, faces, "owner", [word(into)], ("place",))}
            twice = [row["id"] for row in moved if row["place"] in kept]
            if twice:
                self._client.delete(self._tables.faces, filter=one_of("id", twice))
            fresh = [{**row, "owner": word(into), "name": into} for row in moved if row["place"] not in kept]
            self._tables.upsert(self._tables.faces, fresh)
            self._renew([*others, into], {into: metadata})
            self._tables.erase(self._note)

    def names(self) -> list[str]:
        """Names of everybody known, in no order."""
        return [row["name"] for row in self._people(None)]

    def identities(self) -> list[IdentityInfo]:
        """Everybody, by name."""
        return sorted(
            (
                IdentityInfo(row["name"], row["counts"]["images"], row["counts"]["faces"], row["metadata"])
                for row in self._people(None)
            ),
            key=lambda person: person.name,
        )

    def images(self, identity: str | None = None, *, which: Which | None = None) -> Iterator[StoredImage]:
        """Images of one person, of everybody known, of nobody, or all."""
        if identity is not None:
            self._known([identity])
        counts: dict[tuple[str, str], int] = {}
        first: dict[tuple[str, str], dict[str, Any]] = {}
        fields = ("owner", "name", "place", "path", "digest", "details")
        for row in self._faces(where(identity, which), fields):
            place = (row["owner"], row["place"])
            counts[place] = counts.get(place, 0) + 1
            first.setdefault(place, row)
        for place, row in first.items():
            key = ImageKey(row["path"], row["digest"], row["details"]["size"], row["details"]["time"])
            yield StoredImage(0, row["name"] or None, key, counts[place], "")

    def table(self, which: Which | None = None, identity: str | None = None) -> Table:
        """Embeddings with their owners."""
        if identity is not None:
            self._known([identity])
        rows = sorted(self._faces(where(identity, which), FACE_FIELDS), key=lambda row: int(row["id"]))
        return table_of(rows, self.dimension or 0)

    def nearest(self, probes: Vector, count: int, metric: Metric, which: Which) -> list[list[Hit]]:
        """Nearest faces of each probe; distances are of the stored embeddings."""
        return self._search(self._tables.faces, probes, count, metric, where(None, which), "id")

    def nearest_templates(self, probes: Vector, count: int, metric: Metric) -> list[list[Hit]]:
        """People nearest to each probe by the mean of their embeddings."""
        return self._search(self._tables.people, probes, count, metric, PEOPLE, "owner")

    def _search(
        self, collection: str, probes: Vector, count: int, metric: Metric, expression: str, key: str
    ) -> list[list[Hit]]:
        if self._note is None:
            return [[] for _ in probes]
        if probes.shape[1] != self.dimension:
            raise GalleryMismatchError(
                f"{self.label} holds embeddings of {self.dimension} numbers, but got {probes.shape[1]}"
            )
        with explained(self._address):
            found = self._client.search(
                collection,
                data=list(np.asarray(probes, np.float32)),
                limit=min(count, _MOST_HITS),
                filter=expression,
                output_fields=["name", "vector"],
            )
        return [
            hits_of(probe, [(row[key] if key in row else row["id"], row["entity"]) for row in rows], metric, key)
            for probe, rows in zip(probes, found, strict=True)
        ]

    def people_metadata(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        """What the caller said of people."""
        held = {row["name"]: row["metadata"] for row in self._people([word(name) for name in names])}
        return [held.get(name, {}) for name in names]

    def describe_people(self, owners: Sequence[Hashable]) -> list[StoredFace | None]:
        """What is known of owners, which are names here; None for one that was removed meanwhile."""
        names = [str(owner) for owner in owners]
        held = {row["name"]: row["metadata"] for row in self._people([word(name) for name in names])}
        return [StoredFace(-1, name, "", None, held[name]) if name in held else None for name in names]

    def snapshot(self) -> AbstractContextManager[object]:
        """Nothing: Milvus shows each query the newest state."""
        return nullcontext()

    def describe(self, faces: Sequence[int]) -> list[StoredFace | None]:
        """What is known of faces; None for one that was removed meanwhile."""
        fields = ("id", "name", "path", "details")
        with explained(self._address):
            found = rows_of(self._client, self._tables.faces, "id", list(faces), fields, key=True)
            held = {row["id"]: row for row in found}
        names = sorted({row["name"] for row in held.values()})
        notes = dict(zip(names, self.people_metadata(names), strict=True))
        described: list[StoredFace | None] = []
        for face in faces:
            row = held.get(face)
            if row is None:
                described.append(None)
                continue
            box = row["details"]["box"]
            where = None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
            described.append(StoredFace(face, row["name"] or None, row["path"], where, notes[row["name"]]))
        return described

    def counts(self) -> dict[str, int]:
        """Numbers of identities and faces; to count images would mean to read every row."""
        if self._note is None:
            return {"identities": 0, "faces": 0}
        with explained(self._address):
            return {
                "identities": self._tables.count(self._tables.people, PEOPLE),
                "faces": self._tables.count(self._tables.faces, ""),
            }

    @property
    def changes(self) -> int:
        """Not counted: nothing can be attached."""
        return 0

    def attach(self, name: str, value: bytes | None, *, changes: int) -> None:  # noqa: ARG002 - the engines' common form
        """Refuse: rows of Milvus are too small for a classifier."""
        if value is not None:
            raise GalleryError(f"{self.label} cannot keep a {name}: fit it in the embedded store (export, import)")

    def attachment(self, name: str) -> bytes | None:  # noqa: ARG002 - the engines' common form
        """None: see `attach`."""
        return None

    def _people(self, owners: list[str] | None) -> list[dict[str, Any]]:
        fields = ("owner", "name", "metadata", "counts")
        if self._note is None:
            return []
        with explained(self._address):
            if owners is None:
                return list(all_rows(self._client, self._tables.people, PEOPLE, fields))
            return list(rows_of(self._client, self._tables.people, "owner", owners, fields, key=True))

    def _faces(self, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        if self._note is None:
            return []
        with explained(self._address):
            return list(all_rows(self._client, self._tables.faces, expression, fields))

    def _known(self, names: Sequence[str]) -> None:
        held = {row["name"] for row in self._people([word(name) for name in names])}
        for name in names:
            if name not in held:
                raise IdentityError(f"{self.label} holds nobody called {name!r}")
