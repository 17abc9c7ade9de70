"""Exact search in the embedded store: embeddings in memory, kept in step with the file."""

from __future__ import annotations

import sqlite3
import threading

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import NotEnoughDataError
from spherecv.gallery import exact
from spherecv.gallery.database import Database
from spherecv.gallery.matrix import Matrix
from spherecv.gallery.rows import Hit, Vector
from spherecv.gallery.seal import Seal
from spherecv.gallery.sqlite_index import IndexKeeper
from spherecv.gallery.sqlite_rows import Rows
from spherecv.gallery.store import Which
from spherecv.metrics import Metric


class Search:
    """The embeddings of a file, read once and then only what is new.

    Parameters
    ----------
    database : Database
    seal : Seal
    index : {"auto", "exact", "hnsw", "ivf"}
        How to search among known people.
    """

    def __init__(self, database: Database, seal: Seal, index: str) -> None:
        self._database = database
        self._rows = Rows(database, seal)
        self._lock = threading.RLock()
        self._memories: dict[tuple[Metric, Which], Memory] = {}
        self.index = IndexKeeper(database, seal, index)
        self._templates: dict[Metric, tuple[tuple[int, int], Matrix, NDArray[np.int64]]] = {}

    def close(self) -> None:
        """Let go of the memory."""
        with self._lock:
            self._memories.clear()
            self._templates.clear()

    def nearest(self, probes: Vector, count: int, metric: Metric, which: Which) -> list[list[Hit]]:
        """Nearest faces of each probe."""
        if which == "known" and self.index.serves(metric):
            try:
                return self.index.nearest(probes, count, metric)
            except NotEnoughDataError:  # too few for an index, or after many removals too few left: exact is as fast
                self.index.drop()
        with self._lock:
            memory = self._memory(metric, which)
            rows, distances = exact.nearest(memory.matrix, probes, count)
            ids, owners = memory.ids, memory.owners
        return _hits(rows, distances, ids, owners)

    def nearest_templates(self, probes: Vector, count: int, metric: Metric) -> list[list[Hit]]:
        """People nearest to each probe by the mean of their embeddings."""
        with self._lock:
            memory = self._memory(metric, "known")
            state = (memory.changes, memory.last)
            if metric not in self._templates or self._templates[metric][0] != state:
                self._templates[metric] = (state, *memory.matrix.means(memory.owners, memory.qualities))
            _, matrix, owners = self._templates[metric]
            rows, distances = exact.nearest(matrix, probes, count)
        return _hits(rows, distances, np.full(len(owners), -1), owners)

    def _memory(self, metric: Metric, which: Which) -> Memory:
        key = (metric, which)
        if key not in self._memories:
            self._memories[key] = Memory(metric, which)
        memory = self._memories[key]
        with self._database.read() as connection:
            memory.refresh(connection, self._rows)
        return memory


class Memory:
    """Embeddings of the known or of the unknown, in the order of their ids.

    Attributes
    ----------
    matrix : Matrix
    ids, owners : ndarray of int64, shape (N,)
    qualities : ndarray of float32, shape (N,)
    changes, last : int
        The state of the file that this is: how often rows went or changed hands, and the highest id read.
    """

    def __init__(self, metric: Metric, which: Which) -> None:
        self._metric = metric
        self._mine = f"i.identity IS {'NOT ' if which == 'known' else ''}NULL"
        self._start_again()

    def _start_again(self) -> None:
        self.matrix = Matrix(0, self._metric)
        self.ids = np.empty(0, np.int64)
        self.owners = np.empty(0, np.int64)
        self.qualities = np.empty(0, np.float32)
        self.changes, self.last = 0, 0

    def refresh(self, connection: sqlite3.Connection, rows: Rows) -> None:
        """Read what is new, and drop what is gone."""
        try:
            self._refresh(connection, rows)
        except BaseException:  # half read (Ctrl-C, a broken disk): embeddings and owners would no longer match
            self._start_again()
            raise

    def _refresh(self, connection: sqlite3.Connection, rows: Rows) -> None:
        changes = rows.changes(connection)
        if changes != self.changes:
            self._reconcile(connection)
            self.changes = changes
        parts = []
        condition = f"WHERE {self._mine} AND f.id > ?"
        for ids, owners, qualities, vectors in rows.batches(connection, condition, (self.last,)):
            if not self.matrix.dimension:
                self.matrix = Matrix(vectors.shape[1], self._metric)
            self.matrix.append(vectors)
            parts.append((ids, owners, qualities))
        if parts:
            self.last = int(parts[-1][0][-1])
            self.ids, self.owners, self.qualities = (
                np.concatenate([old, *new])
                for old, new in zip((self.ids, self.owners, self.qualities), zip(*parts, strict=True), strict=True)
            )

    def _reconcile(self, connection: sqlite3.Connection) -> None:
        """After removals and merges: read owners again, which is little beside the embeddings."""
        found = connection.execute(
            "SELECT f.id, i.identity FROM faces f JOIN images i ON i.id = f.image "  # noqa: S608
            f"WHERE {self._mine} AND f.id <= ? ORDER BY f.id",
            (self.last,),
        ).fetchall()
        table = np.array([(face, -1 if owner is None else owner) for face, owner in found], np.int64).reshape(-1, 2)
        if not np.isin(table[:, 0], self.ids, assume_unique=True).all():
            self._start_again()  # a face that was nobody's got a name
            return
        kept = np.isin(self.ids, table[:, 0], assume_unique=True)
        self.matrix.keep(kept)
        self.ids, self.owners, self.qualities = self.ids[kept], table[:, 1].copy(), self.qualities[kept]


def _hits(
    rows: NDArray[np.int64], distances: NDArray[np.float64], ids: NDArray[np.int64], owners: NDArray[np.int64]
) -> list[list[Hit]]:
    return [
        [
            Hit(int(ids[row]), None if owners[row] < 0 else int(owners[row]), float(distance))
            for row, distance in zip(found, values, strict=True)
        ]
        for found, values in zip(rows, distances, strict=True)
    ]
