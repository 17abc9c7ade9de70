"""Checks of stored rows: a damaged one is left out with a warning, or is an error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from spherecv.errors import GalleryError, GalleryKeyError
from spherecv.gallery import checksums
from spherecv.gallery.rows import Vector
from spherecv.gallery.seal import Seal

OnDamage = Literal["warn", "raise"]


class DamageWarning(UserWarning):
    """Something in a gallery's files that is damaged, and which is therefore left out."""


class Damage:
    """What is done about damage: it is warned of, raised, or written down.

    Attributes
    ----------
    mode : {"warn", "raise"}
    """

    def __init__(self, label: str, mode: OnDamage = "warn") -> None:
        self.mode: OnDamage = mode
        self._label = label
        self._found: list[str] | None = None

    def seen(self, what: str) -> None:
        """Say what is damaged.

        Raises
        ------
        GalleryError
            With mode "raise".
        """
        if self._found is not None:
            self._found.append(what)
        elif self.mode == "raise":
            raise GalleryError(f"{self._label}: {what}; `spherecv gallery check` says all that is damaged")
        else:
            warnings.warn(f"{self._label}: {what}; it is left out", DamageWarning, stacklevel=2)

    def collect(self, read: Callable[[], None]) -> list[str]:
        """Read something and return what is damaged in it, instead of saying it."""
        self._found, found = [], list[str]()
        try:
            read()
            found = self._found
        finally:
            self._found = None
        return found


def opened_vectors(
    seal: Seal,
    faces: Sequence[int],
    sealed: Sequence[Any],
    sums: Sequence[int | None] | None,
    size: int,
    explain: Callable[[int, str], None],
) -> tuple[list[int], Vector]:
    """Open embeddings, leaving out what is not as it was written.

    Parameters
    ----------
    seal : Seal
    faces : sequence of int, length N
        Ids.
    sealed : sequence, length N
        As the file has them: of any type, where it is damaged.
    sums : sequence of int, length N, or None
        Their checksums; None in a file of an earlier version.
    size : int
        Numbers of an embedding.
    explain : callable
        Called with the id of a damaged face and what is wrong with it.

    Returns
    -------
    kept : list of int
        Places, among the N, of the whole ones.
    vectors : ndarray of float32, shape (len(kept), size)
        All finite.
    """
    length = 4 * size
    contents = [opened(seal, value) for value in sealed]
    right = all(content is not None and len(content) == length for content in contents)
    if right and (sums is None or checksums.of_vectors(faces, sealed) == list(sums)):
        vectors = np.frombuffer(b"".join(contents), "<f4").reshape(len(contents), size)  # type: ignore[arg-type]
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(vectors.sum())  # then all are; a sum beyond float32 is looked into below
        if finite:
            return list(range(len(vectors))), vectors
    return _whole_ones(faces, sealed, contents, sums, size, explain)


def _whole_ones(
    faces: Sequence[int],
    sealed: Sequence[Any],
    contents: Sequence[bytes | None],
    sums: Sequence[int | None] | None,
    size: int,
    explain: Callable[[int, str], None],
) -> tuple[list[int], Vector]:
    kept, whole, length = [], [], 4 * size
    changed, not_finite = "its embedding is not what was written", "its embedding has values that are not finite"
    for place, content in enumerate(contents):
        if content is None:
            what = "it has no embedding" if sealed[place] is None else "its embedding cannot be opened"
            explain(faces[place], what)
        elif len(content) != length:
            explain(faces[place], f"its embedding has {len(content)} bytes, not {length}")
        elif not np.isfinite(np.frombuffer(content, "<f4")).all():
            explain(faces[place], not_finite)
        elif sums is not None and checksums.of_vector(faces[place], sealed[place]) != sums[place]:
            explain(faces[place], changed)
        else:
            kept.append(place)
            whole.append(content)
    return kept, np.frombuffer(b"".join(whole), "<f4").reshape(len(kept), size)


def opened(seal: Seal, value: object) -> bytes | None:
    """Value of what is written; None for what is not bytes, or not sealed with the key."""
    if not isinstance(value, bytes):
        return None
    try:
        return seal.open(value)
    except GalleryKeyError:
        return None
