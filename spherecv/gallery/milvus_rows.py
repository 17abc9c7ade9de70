"""Conversion between rows of Milvus and a gallery's records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecv.errors import InvalidArgumentError
from spherecv.gallery.milvus_client import word
from spherecv.gallery.rows import Hit, Table, Vector
from spherecv.gallery.store import Which
from spherecv.metrics import Metric, distance


def owner_of(identity: str | None) -> str:
    """Word that a person's rows are found by; empty for nobody."""
    return "" if identity is None else word(identity)


def where(identity: str | None, which: Which | None) -> str:
    """Expression that picks the faces of a person, of everybody known, of nobody, or all."""
    if identity is not None:
        return f"owner == {json.dumps(word(identity))}"
    return {None: "id >= 0", "known": 'owner != ""', "unknown": 'owner == ""'}[which]


def checked_text(text: str, limit: int) -> str:
    """A text as Milvus takes it: UTF-8 of a bounded length."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"Milvus takes names in UTF-8 only, but got {text!r}") from None
    if size > limit:
        raise InvalidArgumentError(f"Milvus keeps names of at most {limit} bytes, but got one of {size}")
    return text


def table_of(rows: Sequence[dict[str, Any]], dimension: int = 0) -> Table:
    """Rows as a table of embeddings."""
    people = sorted({row["name"] for row in rows if row.get("name")})
    number = {name: place for place, name in enumerate(people)}
    qualities = [row["details"]["quality"] for row in rows]
    vectors = np.array([row["vector"] for row in rows], np.float32)
    return Table(
        np.array([row.get("id", 0) for row in rows], np.int64),
        np.array([number.get(row.get("name", ""), -1) for row in rows], np.int64),
        np.array([np.nan if quality is None else quality for quality in qualities], np.float32),
        vectors if len(rows) else np.empty((0, dimension), np.float32),
        {place: name for name, place in number.items()},
    )


def hits_of(probe: Vector, rows: Sequence[tuple[Any, dict[str, Any]]], metric: Metric, key: str) -> list[Hit]:
    """Rows near a probe as hits, their distances computed from the stored embeddings."""
    if not rows:
        return []
    away = distance(probe, np.array([entity["vector"] for _, entity in rows], np.float32), metric)
    hits = [
        Hit(-1 if key == "owner" else int(face), entity["name"] or None, float(far))
        for (face, entity), far in zip(rows, away, strict=True)
    ]
    return sorted(hits, key=lambda hit: hit.distance)
