"""Approximate index of an embedded store, kept in step with the file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import GalleryLockedError, StorageError
from spherecv.gallery.approximate import (
    MOST_WASTED,
    FaceIndex,
    IndexNote,
    Kind,
    add_all,
    check_index,
    index_path,
    sweep,
)
from spherecv.gallery.database import Database
from spherecv.gallery.rows import Hit, Vector
from spherecv.gallery.seal import Seal
from spherecv.gallery.sqlite_rows import Rows
from spherecv.metrics import Metric

LARGE = 2_000_000
"""Faces from which `auto` builds an IVF index by itself: an exact search among them takes a good fifth of a second a
probe and their embeddings four gigabytes."""
_SAMPLE = {"hnsw": 20_000, "ivf": 200_000}
_SAVE_FROM = 0.1
_FETCHED, _RANKED = 500, 128


class IndexKeeper:
    """Finds faces through FAISS where that was asked for, or built.

    Parameters
    ----------
    database : Database
    seal : Seal
    mode : {"auto", "exact", "hnsw", "ivf"}
    """

    def __init__(self, database: Database, seal: Seal, mode: str) -> None:
        self._database = database
        self._seal = seal
        self._rows = Rows(database, seal)
        self._mode = check_index(mode)
        self._path = index_path(database.path)
        self._lock = threading.RLock()
        self._index: FaceIndex | None = None
        self._saved = 0
        self._owners = Owners(self._rows)
        self._left_out = 0

    def serves(self, metric: Metric) -> bool:
        """Whether a search shall go through the index."""
        if self._mode == "exact":
            return False
        if self._mode in ("hnsw", "ivf"):
            return True
        if not _faiss_is_there():
            return False
        with self._database.read() as connection, self._lock:
            if self._index is None and self._path.exists():
                self._index = self._read()
            if self._index is not None:
                return self._index.note.metric == metric
            # The highest id instead of a count: that would read the whole table, with every question.
            return self._rows.last(connection, "faces") >= LARGE

    def nearest(self, probes: Vector, count: int, metric: Metric) -> list[list[Hit]]:
        """Nearest faces of known people to each probe; distances are of the stored embeddings."""
        with self._database.read() as connection, self._lock:
            index = self._current(connection, metric)
            found = index.search(probes, 2 + count + count // 2)  # codes of 8 bits seldom swap more than neighbours
            hits: list[list[Hit]] = []
            for start in range(0, len(probes), _RANKED):
                part = found[start : start + _RANKED]
                faces, vectors = self._vectors(connection, np.unique(part[part >= 0]))
                owners = self._owners.of(faces)
                hits += _ranked(probes[start : start + _RANKED], part, faces, owners, vectors, metric, count)
            due = self._due
        if due:
            self._save_in_turn()
        return hits

    def build(self, kind: Kind, metric: Metric) -> int:
        """Make the index again and write it; returns how many faces it holds."""
        with self._database.write(rows=False) as connection, self._lock:
            self._index = self._made(connection, kind, metric)
            self._save()
            return len(self._index.ids)

    def drop(self) -> None:
        """Forget the index and its file."""
        with self._lock:
            self._index = None
            self._path.unlink(missing_ok=True)

    def forget(self, connection: sqlite3.Connection) -> None:
        """Take removed faces out of the index file, within the transaction that removes them.

        Not only those of this transaction: what another process removed since this one read the index must not come
        back with it either.

        Killed between the two, the index lacks faces that the gallery holds, and takes them in again; the other way
        round it would keep faces that are gone.
        """
        with self._lock:
            sweep(self._path)
            if not self._path.exists():
                return
            index = (self._index or self._read()) if _faiss_is_there() else None
            if index is None:
                self.drop()
                return
            self._owners.refresh(connection)
            index.remove(np.setdiff1d(index.ids, self._owners.ids, assume_unique=True).tolist())
            # Owners are read again: this transaction may still be taken back.
            self._index, self._owners = index, Owners(self._rows)
            try:
                self._save()
            except StorageError:  # a full disk must not keep anybody in the gallery; an index can be built again
                self.drop()

    def _current(self, connection: sqlite3.Connection, metric: Metric) -> FaceIndex:
        if self._index is None and self._path.exists():
            self._index = self._read()
        index = self._index
        changed = self._owners.refresh(connection)
        other_kind = index is not None and self._mode in ("hnsw", "ivf") and index.note.kind != self._mode
        if index is None or index.note.metric != metric or other_kind:
            self._index = index = self._made(connection, "hnsw" if self._mode == "hnsw" else "ivf", metric)
        elif changed or len(index.ids) + self._left_out != len(self._owners.ids):
            index = self._index = self._synchronised(connection, index)
        return index

    def _synchronised(self, connection: sqlite3.Connection, index: FaceIndex) -> FaceIndex:
        index.remove(np.setdiff1d(index.ids, self._owners.ids, assume_unique=True).tolist())
        missing = np.setdiff1d(self._owners.ids, index.ids, assume_unique=True)
        if index.wasted > MOST_WASTED or len(missing) > len(index.ids):
            return self._made(connection, index.note.kind, index.note.metric)
        if len(missing):
            # Ids grow: what is missing is nearly always the end, so reading from the first missing one is enough.
            condition = "WHERE i.identity IS NOT NULL AND f.id >= ?"
            add_all(index, self._rows.batches(connection, condition, (int(missing[0]),)))
        self._left_out = len(self._owners.ids) - len(index.ids)  # damaged faces
        return index

    @property
    def _due(self) -> bool:
        """Whether so much was taken in since the last saving that another process had better not do it again."""
        return self._index is not None and len(self._index.ids) - self._saved > _SAVE_FROM * self._saved

    def _save_in_turn(self) -> None:
        """Save while nobody writes, in step with the file: else a face just removed could come back with it."""
        with suppress(GalleryLockedError, StorageError), self._database.write(rows=False) as connection, self._lock:
            if self._index is not None and self._owners.refresh(connection):
                self._index = self._synchronised(connection, self._index)
            self._save()

    def _save(self) -> None:
        if self._index is not None:
            sweep(self._path)
            self._index.save(self._path, self._seal)
            self._saved = len(self._index.ids)

    def _read(self) -> FaceIndex | None:
        index = FaceIndex.load(self._path, self._seal)
        if index is None or index.note.gallery != self._database.get("uuid"):
            return None
        self._saved = len(index.ids)
        return index

    def _made(self, connection: sqlite3.Connection, kind: Kind, metric: Metric) -> FaceIndex:
        self._owners.refresh(connection)
        dimension = int(self._database.get("dimension") or 0)
        note = IndexNote(self._database.get("uuid") or "", kind, metric, dimension)
        picked = self._owners.ids
        sampled = _SAMPLE[kind]
        if len(picked) > sampled:
            picked = np.sort(np.random.default_rng(0).choice(picked, sampled, replace=False))
        sample = self._vectors(connection, picked)[1]
        np.random.default_rng(0).shuffle(sample)
        index = FaceIndex.build(note, sample, len(self._owners.ids))
        del sample
        add_all(index, self._rows.batches(connection, "WHERE i.identity IS NOT NULL"))
        self._left_out = len(self._owners.ids) - len(index.ids)
        return index

    def _vectors(
        self, connection: sqlite3.Connection, faces: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Vector]:
        """Those of some faces that the file holds, ascending, and their embeddings."""
        held: list[int] = []
        rows = np.empty((len(faces), int(self._database.get("dimension") or 0)), np.float32)
        for start in range(0, len(faces), _FETCHED):
            part = faces[start : start + _FETCHED].tolist()
            marks = ",".join("?" * len(part))
            found = connection.execute(
                f"SELECT face, vector FROM vectors WHERE face IN ({marks}) ORDER BY face", part  # noqa: S608 - question marks only
            ).fetchall()
            ids = [row[0] for row in found]
            sums = self._owners.sums_of(ids)
            kept, vectors = self._rows.vectors(connection, ids, [row[1] for row in found], sums)
            rows[len(held) : len(held) + len(kept)] = vectors
            held += [ids[place] for place in kept]
        return np.array(held, np.int64), rows[: len(held)]


def _ranked(
    probes: Vector,
    found: NDArray[np.int64],
    faces: NDArray[np.int64],
    owners: NDArray[np.int64],
    vectors: Vector,
    metric: Metric,
    count: int,
) -> list[list[Hit]]:
    """Candidates of each probe in the order of their distances, computed from the stored embeddings."""
    if not len(faces):
        return [[] for _ in probes]
    places = np.minimum(np.searchsorted(faces, found), len(faces) - 1)
    away = _distances(probes, vectors, places, metric)
    away[faces[places] != found] = np.inf  # no candidate, or one removed since the index was made
    order = np.lexsort((found, away), axis=1)[:, :count]
    return [
        [
            Hit(int(faces[place]), int(owners[place]), far)
            for place, far in zip(row, aways, strict=True)
            if np.isfinite(far)
        ]
        for row, aways in zip(
            np.take_along_axis(places, order, axis=1).tolist(),
            np.take_along_axis(away, order, axis=1).tolist(),
            strict=True,
        )
    ]


def _distances(
    probes: Vector, vectors: Vector, places: NDArray[np.int64], metric: Metric
) -> NDArray[np.float64]:
    """Distances in float64 of each probe to some of the vectors, shape (P, K).

    Probe by probe: a product of a few rows takes a third of the time of one sum over an array (P, K, D).
    """
    asked, held = probes.astype(np.float64), vectors.astype(np.float64)
    if metric == "euclidean":
        apart = (held[own] - probe for own, probe in zip(places, asked, strict=True))
        return np.sqrt([np.einsum("kd,kd->k", rows, rows) for rows in apart])
    products = np.array([held[own] @ probe for own, probe in zip(places, asked, strict=True)])
    lengths = _lengths(asked)[:, None] * _lengths(held)[places]
    np.divide(products, lengths, out=products, where=lengths > 0)
    return np.asarray(1.0 - np.clip(products, -1.0, 1.0))


def _lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))


class Owners:
    """Whose each face of a known person is, and the checksums of their embeddings, without these.

    Parameters
    ----------
    rows : Rows

    Attributes
    ----------
    ids : ndarray of int64, shape (N,)
        Ascending.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.ids = np.empty(0, np.int64)
        self._people = np.empty(0, np.int64)
        self._sums = np.empty(0, np.int64)
        self._state: tuple[int, bool] | None = None

    def of(self, faces: NDArray[np.int64]) -> NDArray[np.int64]:
        """Owners of faces that are among them."""
        return self._people[np.searchsorted(self.ids, faces)]

    def sums_of(self, faces: Sequence[int]) -> list[int] | None:
        """Checksums of faces that are among them; None in a file of an earlier version."""
        if self._state is None or not self._state[1]:
            return None
        sums: list[int] = self._sums[np.searchsorted(self.ids, np.asarray(faces, np.int64))].tolist()
        return sums

    def refresh(self, connection: sqlite3.Connection) -> bool:
        """Read what is new; True where anything was."""
        state = self._rows.changes(connection), self._rows.checked(connection)
        first = int(self.ids[-1]) + 1 if state == self._state and len(self.ids) else 0
        parts = list(self._rows.owner_batches(connection, first))
        if state == self._state and not parts:
            return False
        before = [(self.ids, self._people, self._sums)] if first else []
        self.ids, self._people, self._sums = (
            (np.concatenate(column) for column in zip(*before, *parts, strict=True))
            if before or parts
            else (np.empty(0, np.int64) for _ in range(3))
        )
        self._state = state
        return True


def _faiss_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("faiss") is not None
