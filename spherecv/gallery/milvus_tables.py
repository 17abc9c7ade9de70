"""The two Milvus collections of a gallery: creation, writing, checks, rewriting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from spherecv.errors import GalleryError, GalleryMismatchError
from spherecv.gallery.milvus_client import Address, all_rows
from spherecv.gallery.rows import Origin
from spherecv.metrics import Metric

FORMAT = 1
PEOPLE = 'owner != ""'
"""Picks the rows of people; the one row of nobody holds what the gallery was made by."""
FACE_FIELDS = ("id", "owner", "name", "place", "path", "digest", "details", "vector")
PEOPLE_FIELDS = ("owner", "name", "metadata", "counts", "vector")
_BYTES_AT_ONCE = 8 << 20


class Tables:
    """Collections of one gallery.

    Parameters
    ----------
    client : pymilvus.MilvusClient
    address : Address
    """

    def __init__(self, client: Any, address: Address) -> None:
        self._client = client
        self._address = address
        self.faces = f"{address.collection}_faces"
        self.people = f"{address.collection}_people"

    def open(self) -> dict[str, Any] | None:
        """Read what the gallery was made by; None where it is not made yet.

        Raises
        ------
        GalleryError
            A collection of something else has the name.
        GalleryMismatchError
            Of another version.
        """
        for collection in (self.faces, self.people):
            self._take_up(collection)
        if not (self._client.has_collection(self.faces) and self._client.has_collection(self.people)):
            return None
        fields = {field["name"] for field in self._client.describe_collection(self.people)["fields"]}
        if fields != set(PEOPLE_FIELDS):
            raise GalleryError(f"{self._address.uri}: the collection {self.people} is not one of a gallery")
        for collection in (self.faces, self.people):
            self._client.load_collection(collection)
        rows = self._client.query(self.people, filter='owner == ""', output_fields=["metadata"])
        if not rows:
            return None
        note: dict[str, Any] = dict(rows[0]["metadata"])
        if note.get("format") != FORMAT:
            raise GalleryMismatchError(
                f"{self._address.uri} holds a gallery of format {note.get('format')}, but this version of SphereCV "
                f"reads format {FORMAT}"
            )
        return note

    def make(self, origin: Origin, dimension: int, metric: Metric) -> dict[str, Any]:
        """Make the collections, and write down what the gallery is made by as the last thing."""
        note = {
            "format": FORMAT,
            "origin": {"model": origin.model, "key": origin.key, "detector": origin.detector},
            "dimension": dimension,
            "metric": metric,
        }
        for collection in (self.faces, self.people):
            if not self._client.has_collection(collection):
                self._make(collection, note)
        self.upsert(self.people, [_nobody(note)])
        return note

    def _make(self, collection: str, note: dict[str, Any], *, of: str | None = None) -> None:
        from pymilvus import DataType

        people = (of or collection) == self.people
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        if people:
            schema.add_field("owner", DataType.VARCHAR, max_length=64, is_primary=True)
        else:
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("owner", DataType.VARCHAR, max_length=64)
        schema.add_field("name", DataType.VARCHAR, max_length=4096)
        if people:
            schema.add_field("metadata", DataType.JSON)
            schema.add_field("counts", DataType.JSON)
        else:
            schema.add_field("place", DataType.VARCHAR, max_length=64)
            schema.add_field("path", DataType.VARCHAR, max_length=8192)
            schema.add_field("digest", DataType.VARCHAR, max_length=128)
            schema.add_field("details", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=note["dimension"])
        asked = self._client.prepare_index_params()
        measure = "COSINE" if note["metric"] == "cosine" else "L2"
        asked.add_index("vector", index_type=self._address.index, metric_type=measure)
        self._client.create_collection(collection, schema=schema, index_params=asked, consistency_level="Strong")
        made = self._client.describe_index(collection, self._client.list_indexes(collection)[0])
        if made["index_type"] != self._address.index or made["metric_type"] != measure:
            self._client.drop_collection(collection)
            raise GalleryError(
                f"Milvus at {self._address.uri} was asked for the index {self._address.index} and made "
                f"{made['index_type']}: ask for that with ?index={made['index_type']}"
            )

    def insert(self, collection: str, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, as many at once as one message carries."""
        for part in _messages(rows):
            self._client.insert(collection, part)

    def upsert(self, collection: str, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, or replace those of the same key."""
        for part in _messages(rows):
            self._client.upsert(collection, part)

    def count(self, collection: str, expression: str) -> int:
        """Count the rows that an expression picks."""
        rows = self._client.query(collection, filter=expression, output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    def erase(self, note: dict[str, Any] | None) -> bool:
        """Drop the bytes of deleted rows: at once in Milvus Lite, at the server's leisure otherwise."""
        if note is None:
            return True
        if not self._address.lite:
            for collection in (self.faces, self.people):
                self._client.compact(collection)
            return False
        for collection, fields in ((self.faces, FACE_FIELDS), (self.people, PEOPLE_FIELDS)):
            self._write_anew(collection, fields, note)
        return True

    def _write_anew(self, collection: str, fields: Sequence[str], note: dict[str, Any]) -> None:
        fresh = f"{collection}_new"
        if self._client.has_collection(fresh):
            self._client.drop_collection(fresh)
        self._make(fresh, note, of=collection)
        expression = "id >= 0" if "id" in fields else PEOPLE
        waiting: list[dict[str, Any]] = [] if "id" in fields else [_nobody(note)]
        for row in all_rows(self._client, collection, expression, fields):
            waiting.append({name: row[name] for name in fields})
            if len(waiting) >= 1000:
                self.insert(fresh, waiting)
                waiting = []
        self.insert(fresh, waiting)
        self._client.flush(fresh)
        self._client.drop_collection(collection)
        self._take_up(collection)

    def _take_up(self, collection: str) -> None:
        """Give a collection that was written again its place; also after a kill between the two steps."""
        fresh = f"{collection}_new"
        if not self._client.has_collection(fresh):
            return
        if self._client.has_collection(collection):
            self._client.drop_collection(fresh)  # killed before it was whole
            return
        self._client.rename_collection(fresh, collection)
        self._client.load_collection(collection)


def _nobody(note: dict[str, Any]) -> dict[str, Any]:
    vector = np.zeros(note["dimension"], np.float32)
    vector[0] = 1  # Milvus Lite divides by the length
    return {"owner": "", "name": "", "metadata": note, "counts": {}, "vector": vector}


def _messages(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    if not rows:
        return
    size = max(1, _BYTES_AT_ONCE // (4 * len(rows[0]["vector"]) + 512))
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])

