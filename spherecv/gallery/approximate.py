"""Approximate search by FAISS, for galleries too large to compare with everybody: an index in a file of its own.

The index finds candidates from quantised embeddings; their distances are computed again from the stored ones: the
distance in an answer never depends on how it was found.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from glob import escape
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from spherecv.checks import check_choice
from spherecv.errors import GalleryKeyError, MissingDependencyError, NotEnoughDataError
from spherecv.files import open_whole, parts_of, sha256_so_far
from spherecv.gallery.exact import unit
from spherecv.gallery.graph import unlink
from spherecv.gallery.seal import Seal
from spherecv.gallery.sealed_stream import PIECE, SealedReader, SealedWriter
from spherecv.metrics import Metric

Kind = Literal["hnsw", "ivf"]
_MAGIC, _UNHASHED = b"SphereCV index 3\n", b"SphereCV index 2\n"
_HASH_BYTES = 32
"""SHA-256 of all before it, at the end of the file: changed codes would miss people in silence."""

# Measured by benchmarks/gallery_search.py: at least 0.97 of the nearest faces found, at ten times the speed and more.
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 16, 80, 30
_FACES_PER_LIST, _TRAIN_PER_LIST = 500, 40
_FEWEST = 1000
_SCALED_BY = 20_000
"""Faces whose values say how they are scaled to 8 bits; it is their spread that counts, which few tell as well."""
MOST_WASTED = 0.2
"""Share of removed nodes up to which a graph's links are mended; beyond it the graph is built again, which costs less
than the memory and the links that removed nodes hold."""
_WIDER = 3.0
"""By how much wider a graph is searched for each share of removed nodes: on 2,000 faces of 64 numbers the recall stays
within 0.5 points of a fresh graph's for shares up to a half."""
_LEVELS, _ZERO_CODE = 127.0, 128


@dataclass(frozen=True)
class IndexNote:
    """What an index file belongs to.

    Attributes
    ----------
    gallery : str
        Identity of the gallery's file.
    kind : {"hnsw", "ivf"}
    metric : {"cosine", "euclidean"}
    dimension : int
    scale : float
        What embeddings are multiplied by to lie within -127..127, the codes of 8 bits. One number for all columns: the
        codes are then compared as they are, which is twice as fast as with a range for each column.
    """

    gallery: str
    kind: Kind
    metric: Metric
    dimension: int
    scale: float = 1.0


class FaceIndex:
    """A FAISS index of faces by their ids.

    Parameters
    ----------
    note : IndexNote
    index : faiss index
        An `IndexIDMap` over HNSW, or an IVF, with 8-bit scalar quantisation.
    """

    def __init__(self, note: IndexNote, index: Any) -> None:
        self.note = note
        self._index = index
        self._inner = import_faiss().downcast_index(index.index) if note.kind == "hnsw" else index
        self.ids = self._held_ids()
        if note.kind == "hnsw":
            self._unlink_removed()

    @classmethod
    def build(cls, note: IndexNote, sample: NDArray[np.float32], rows: int) -> FaceIndex:
        """Make an empty index, trained on a sample of what it shall hold.

        Parameters
        ----------
        note : IndexNote
        sample : ndarray of float32, shape (S, D)
        rows : int
            How many it shall hold, about.
        """
        faiss = import_faiss()
        if len(sample) < _FEWEST:
            raise NotEnoughDataError(
                f"an index pays from {_FEWEST} faces on, but there are {len(sample)}: "
                "search without one, which is exact"
            )
        measure = faiss.METRIC_INNER_PRODUCT if note.metric == "cosine" else faiss.METRIC_L2
        quantised = faiss.ScalarQuantizer.QT_8bit_direct_signed
        note = replace(note, scale=_scale_of(_prepared(sample[:_SCALED_BY], note)))
        if note.kind == "hnsw":
            graph = faiss.IndexHNSWSQ(note.dimension, quantised, _LINKS, measure)
            graph.hnsw.efConstruction = _BUILD_WIDTH
            graph.train(_coded(sample[:_FEWEST], note))
            index = faiss.IndexIDMap(graph)
            graph.this.disown()
            index.own_fields = True
            return cls(note, index)
        lists = lists_of(rows)
        centres = faiss.IndexFlat(note.dimension, measure)
        index = faiss.IndexIVFScalarQuantizer(centres, note.dimension, lists, quantised, measure, False)
        centres.this.disown()
        index.own_fields = True
        index.cp.niter = 8
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = _TRAIN_PER_LIST
        index.train(_coded(sample[: lists * _TRAIN_PER_LIST], note))
        return cls(note, index)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take in faces, shapes (N,) and (N, D)."""
        self._index.add_with_ids(_coded(vectors, self.note), ids)
        follows = not len(self.ids) or ids[0] > self.ids[-1]
        self.ids = np.concatenate([self.ids, ids]) if follows else np.union1d(self.ids, ids)

    def remove(self, ids: Sequence[int]) -> None:
        """Drop faces: out of lists, or out of a graph's links, where their embeddings are overwritten."""
        faiss = import_faiss()
        gone = np.intersect1d(np.asarray(ids, np.int64), self.ids)
        if not len(gone):
            return
        if self.note.kind == "ivf":
            self._index.remove_ids(faiss.IDSelectorBatch(gone))
        else:
            self._overwrite(gone)
        self.ids = np.setdiff1d(self.ids, gone, assume_unique=True)

    def _overwrite(self, gone: NDArray[np.int64]) -> None:
        """A graph cannot lose a node without being built again; what the node holds can be lost, and all ways to it.

        A node that only lost its embedding would be nearer to most probes than strangers are, and fill every search.
        """
        faiss = import_faiss()
        held = faiss.rev_swig_ptr(self._index.id_map.data(), self._index.id_map.size())
        places = np.flatnonzero(np.isin(held, gone))
        codes = self._codes(len(held))
        codes[places] = _ZERO_CODE
        held[places] = -1
        if np.count_nonzero(held < 0) <= MOST_WASTED * len(held):
            unlink(faiss, self._inner.hnsw, codes, places, inner=self.note.metric == "cosine")

    def _codes(self, rows: int) -> NDArray[np.uint8]:
        faiss = import_faiss()
        storage = faiss.downcast_index(self._inner.storage)
        return np.asarray(faiss.rev_swig_ptr(storage.codes.data(), storage.codes.size())).reshape(rows, -1)

    def _unlink_removed(self) -> None:
        """Files written so far keep removed nodes linked."""
        faiss = import_faiss()
        held = faiss.rev_swig_ptr(self._index.id_map.data(), self._index.id_map.size())
        places = np.flatnonzero(held < 0)
        if len(places) and self.wasted <= MOST_WASTED:
            unlink(faiss, self._inner.hnsw, self._codes(len(held)), places, inner=self.note.metric == "cosine")

    @property
    def wasted(self) -> float:
        """Share of the graph's nodes that hold nobody any more: beyond `MOST_WASTED` it is to be built again."""
        total = int(self._index.ntotal)
        return 1.0 - len(self.ids) / total if total else 0.0

    def search(self, probes: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Candidates of each probe, shape (P, count), in no certain order; -1 where there are fewer."""
        faiss = import_faiss()
        rows = _prepared(probes, self.note) * np.float32(self.note.scale)
        if self.note.kind == "hnsw":
            # Mended links are not quite those of a fresh graph: a wider search makes up for it.
            wide = math.ceil(max(_SEARCH_WIDTH, 2 * count) * (1 + _WIDER * self.wasted))
            return np.asarray(self._inner_search(rows, count, faiss.SearchParametersHNSW(efSearch=wide)))
        lists = lists_probed(len(self.ids), self._index.nlist)
        return np.asarray(self._index.search(rows, count, params=faiss.SearchParametersIVF(nprobe=lists))[1])

    def _inner_search(self, rows: NDArray[np.float32], count: int, width: Any) -> NDArray[np.int64]:
        faiss = import_faiss()
        places = self._inner.search(rows, count, params=width)[1]
        held = faiss.rev_swig_ptr(self._index.id_map.data(), self._index.id_map.size())
        return np.where(places < 0, -1, held[np.maximum(places, 0)])

    def _held_ids(self) -> NDArray[np.int64]:
        faiss = import_faiss()
        if self.note.kind == "hnsw":
            ids = faiss.vector_to_array(self._index.id_map)
            return np.sort(ids[ids >= 0])
        lists = self._index.invlists
        parts = [
            faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
            for number in range(lists.nlist)
            if lists.list_size(number)
        ]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def save(self, path: Path, seal: Seal) -> None:
        """Write the index, sealed as the gallery is; the old file is replaced at the end.

        Raises
        ------
        StorageError
        """
        faiss = import_faiss()
        with open_whole(path) as stream:
            note = seal.close(json.dumps(asdict(self.note)).encode())
            stream.write(_MAGIC + struct.pack("<I", len(note)) + note)
            pieces = SealedWriter(stream, seal)
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(pieces.write, PIECE))
            pieces.close()
            stream.write(sha256_so_far(stream))

    @classmethod
    def load(cls, path: Path, seal: Seal) -> FaceIndex | None:
        """Read an index; None for a file that is missing, cut, changed, sealed otherwise, or none of ours."""
        faiss = import_faiss()
        try:
            with path.open("rb") as stream:
                _check_hash(stream)
                note = _read_note(stream, seal)
                reader = SealedReader(stream, seal)
                return cls(note, faiss.read_index(faiss.PyCallbackIOReader(reader.read, PIECE)))
        # FAISS raises RuntimeError; a broken note any of the others. An index can always be made again.
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, struct.error, GalleryKeyError):
            return None


def is_whole(path: Path) -> bool:
    """Whether the file of an index is as it was written, as far as its hash tells; a missing one is."""
    try:
        with path.open("rb") as stream:
            _check_hash(stream)
            return stream.read(len(_MAGIC)) in (_MAGIC, _UNHASHED)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _check_hash(stream: IO[bytes]) -> None:
    """Refuse a file that is not as it was written; those of earlier versions have no hash."""
    hashed = stream.read(len(_MAGIC)) == _MAGIC
    stream.seek(0)
    if not hashed:
        return
    left = stream.seek(0, os.SEEK_END) - _HASH_BYTES
    stream.seek(0)
    digest = sha256()
    while left > 0:
        block = stream.read(min(left, PIECE))
        digest.update(block)
        left -= len(block)
    if stream.read() != digest.digest():
        raise ValueError("changed")
    stream.seek(0)


def _read_note(stream: IO[bytes], seal: Seal) -> IndexNote:
    if stream.read(len(_MAGIC)) not in (_MAGIC, _UNHASHED):
        raise ValueError("not an index")
    return IndexNote(**json.loads(seal.open(stream.read(struct.unpack("<I", stream.read(4))[0]))))


def lists_probed(faces: int, lists: int) -> int:
    """How many lists are looked through, of so many lists.

    As the square root of their number, so that the work for both stays alike; after many removals, as large a share of
    them as an index that was made for the faces left would look through.
    """
    usual = lists_of(faces)
    share = min(1.0, _probed(usual) / usual)
    return min(lists, max(_probed(lists), math.ceil(share * lists)))


def _probed(lists: int) -> int:
    return 4 + round(0.3 * math.sqrt(lists))


def lists_of(faces: int) -> int:
    """How many lists an index of so many faces is made with."""
    return max(1, faces // _FACES_PER_LIST)


def _prepared(rows: NDArray[np.float32], note: IndexNote) -> NDArray[np.float32]:
    return unit(rows) if note.metric == "cosine" else np.ascontiguousarray(rows, dtype=np.float32)


def _coded(rows: NDArray[np.float32], note: IndexNote) -> NDArray[np.float32]:
    """Rows as whole numbers in the range of the codes; the few values beyond it are cut, since codes wrap around."""
    values = _prepared(rows, note) * np.float32(note.scale)
    return np.clip(np.rint(values, out=values), -_LEVELS, _LEVELS, out=values)


def _scale_of(rows: NDArray[np.float32]) -> float:
    largest = float(np.quantile(np.abs(rows), 0.9999))
    return _LEVELS / largest if largest > 0 else 1.0


def check_index(name: str) -> str:
    """Return a way to search, or raise `InvalidArgumentError`."""
    check_choice("index", name, ("auto", "exact", "hnsw", "ivf"))
    if name in ("hnsw", "ivf"):
        import_faiss()
    return name


def import_faiss() -> Any:
    """Import FAISS, or say which extra brings it."""
    try:
        import faiss
    except ImportError:
        raise MissingDependencyError("faiss-cpu", "gallery", "an approximate index") from None
    return faiss


def sweep(path: Path) -> None:
    """Delete what a process that was killed while it wrote the index left behind: it may hold faces removed since.

    The caller must hold the gallery's lock for writing.
    """
    by_earlier_versions = path.parent.glob(f".{escape(path.stem)}-????????{path.suffix}")
    for leftover in (*parts_of(path), *by_earlier_versions):
        with suppress(OSError):
            leftover.unlink()


def index_path(gallery: str | os.PathLike[str]) -> Path:
    """Where the index of a gallery's file lies: beside it."""
    path = Path(gallery)
    return path.with_name(path.name + ".index")


def add_all(index: FaceIndex, batches: Iterable[tuple[Any, Any, Any, Any]]) -> None:
    """Take in batches of ids, owners, qualities and embeddings that are not in it yet."""
    for ids, _, _, vectors in batches:
        new = ~np.isin(ids, index.ids)
        if new.any():
            index.add(ids[new], vectors[new])
