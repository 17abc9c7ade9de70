"""Interface of a gallery's store, and the choice of an engine by address."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

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
from spherecv.metrics import Metric

IfExists = Literal["raise", "add", "replace"]
Which = Literal["known", "unknown"]


class Store(Protocol):
    """An engine that keeps identities, images and embeddings.

    Names that are not held raise `IdentityError`; embeddings of another origin or size, `GalleryMismatchError`.
    """

    label: str

    @property
    def writable(self) -> bool:
        """Whether it can be changed, and not only asked."""

    @property
    def names_settled(self) -> bool:
        """Whether it is known that every name has the one form of `plain_name`."""

    def note_names_settled(self) -> None:
        """Keep that it is so, where the engine can and nobody else is writing."""

    @property
    def origin(self) -> Origin | None:
        """What made the embeddings; None for an empty store that nothing was put into yet."""

    @property
    def dimension(self) -> int | None:
        """Numbers of an embedding."""

    def close(self) -> None:
        """Let go of files and connections."""

    def add(
        self,
        entries: Sequence[Entry],
        origin: Origin,
        *,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        if_exists: IfExists = "add",
    ) -> Added:
        """Take in images with their faces, all or none."""

    def remove(self, identity: str) -> Removed:
        """Forget a person."""

    def remove_images(self, places: Sequence[tuple[str | None, str]]) -> Removed:
        """Forget images, each given by whose it is (None: nobody's) and its path; all or none."""

    def holds(self, identity: str) -> bool:
        """Whether there is somebody of that name."""

    def rename(self, old: str, new: str) -> None:
        """Give a person another name, which must be free."""

    def merge(self, names: Sequence[str], into: str) -> None:
        """Make several people one."""

    def names(self) -> list[str]:
        """Names of everybody known, in no order."""

    def identities(self) -> list[IdentityInfo]:
        """Everybody, by name."""

    def images(self, identity: str | None = None, *, which: Which | None = None) -> Iterator[StoredImage]:
        """Images of one person, of everybody known, of nobody, or all."""

    def table(self, which: Which | None = None, identity: str | None = None) -> Table:
        """Embeddings with their owners."""

    def nearest(self, probes: Vector, count: int, metric: Metric, which: Which) -> list[list[Hit]]:
        """Nearest faces of each probe."""

    def nearest_templates(self, probes: Vector, count: int, metric: Metric) -> list[list[Hit]]:
        """People nearest to each probe by the quality-weighted mean of their embeddings; `face` is -1."""

    def describe(self, faces: Sequence[int]) -> list[StoredFace | None]:
        """What is known of faces; None for one that was removed meanwhile."""

    def describe_people(self, owners: Sequence[Hashable]) -> list[StoredFace | None]:
        """What is known of owners; None for one that was removed meanwhile."""

    def snapshot(self) -> AbstractContextManager[object]:
        """Read one state until the block ends, where the engine can."""

    def people_metadata(self, names: Sequence[str]) -> list[Mapping[str, Any]]:
        """What the caller said of people."""

    def counts(self) -> dict[str, int]:
        """Numbers of identities, images and faces, and bytes on disk."""

    @property
    def changes(self) -> int:
        """How often people or images were removed, renamed or merged."""

    def attach(self, name: str, value: bytes | None, *, changes: int) -> None:
        """Keep a value beside the faces, or (None) drop it. It goes whenever a face is removed.

        `changes` is the state it was made from: a value made before a removal is refused.
        """

    def attachment(self, name: str) -> bytes | None:
        """Value that was attached."""


def is_milvus(location: str | os.PathLike[str]) -> bool:
    """Whether a location names a Milvus server or file rather than a gallery file."""
    return isinstance(location, str) and location.startswith(("milvus:", "milvus+"))
