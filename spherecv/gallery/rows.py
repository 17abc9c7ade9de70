"""Records that go into and come out of a gallery's store, whichever engine keeps it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spherecv.brief import brief
from spherecv.records import Fingerprint

Vector = NDArray[np.float32]


Origin = Fingerprint
"""What made the embeddings of a gallery."""


class NewFace(NamedTuple):
    """A face on its way into a store."""

    vector: Vector
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    quality: float | None = None


@dataclass(frozen=True)
class ImageKey:
    """How an image is known again.

    Attributes
    ----------
    path : str
        Absolute, or a name that the caller made up for an image without a file.
    digest : str
        SHA-256 of the file, or of the pixels.
    size, mtime_ns : int or None
        Of the file.
    """

    path: str
    digest: str
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True)
class Entry:
    """An image on its way into a store, with the faces found in it.

    Attributes
    ----------
    identity : str or None
        Whose faces they are; None for an image of people unknown.
    image : ImageKey
    faces : tuple of NewFace
    problem : str
        Why there are no faces, so that a folder's second run need not look again; empty where there are.
    """

    identity: str | None
    image: ImageKey
    faces: tuple[NewFace, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class IdentityInfo:
    """One person of a gallery.

    Attributes
    ----------
    name : str
    images, faces : int
    metadata : mapping
        What the caller said of them.
    """

    name: str
    images: int
    faces: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The person as plain Python values, ready for JSON."""
        return {"identity": self.name, "images": self.images, "faces": self.faces, "metadata": dict(self.metadata)}


class StoredImage(NamedTuple):
    """An image that a store holds."""

    id: int
    identity: str | None
    key: ImageKey
    faces: int
    problem: str


class StoredFace(NamedTuple):
    """What a store knows of a face, but for its embedding; of a person as a whole, with an id of -1 and no path."""

    id: int
    identity: str | None
    path: str
    box: tuple[float, float, float, float] | None
    metadata: Mapping[str, Any]


class Table(NamedTuple):
    """Embeddings with their owners, in the order of their ids.

    `ids` (N,) int64; `owners` (N,) int64, -1 for nobody; `qualities` (N,) float32, NaN where unknown; `vectors`
    (N, D) float32 as the recipe gave them; `names` by owner.
    """

    ids: NDArray[np.int64]
    owners: NDArray[np.int64]
    qualities: NDArray[np.float32]
    vectors: Vector
    names: dict[int, str]

    @classmethod
    def empty(cls, count: int, size: int) -> Table:
        """A table to be filled."""
        ids, owners = np.empty(count, np.int64), np.empty(count, np.int64)
        return cls(ids, owners, np.empty(count, np.float32), np.empty((count, size), np.float32), {})

    def enlarged(self, count: int) -> Table:
        """A copy with more rows, the new ones to be filled."""
        larger, held = Table.empty(count, self.vectors.shape[1]), slice(len(self.ids))
        larger.ids[held], larger.owners[held], larger.qualities[held] = self.ids, self.owners, self.qualities
        larger.vectors[held] = self.vectors
        return larger


class Hit(NamedTuple):
    """A stored face near a probe. `owner` says whose it is, in the store's own terms; None for nobody's."""

    face: int
    owner: Hashable | None
    distance: float


class Added(NamedTuple):
    """What a call added: `faces` new ones; `images` new, `replaced` ones of another content, and `unchanged` ones."""

    faces: int = 0
    images: int = 0
    replaced: int = 0
    unchanged: int = 0


class Removed(NamedTuple):
    """What a call removed, and whether its bytes are gone from the files too.

    `erased` is False while another process reads an older state: the log then keeps the bytes until that process is
    done and the gallery is opened, or something is removed, again.
    """

    faces: int
    images: int
    erased: bool
