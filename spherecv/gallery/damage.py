"""Check of what a gallery's file gives back for a face: damaged faces are left out, and said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spherecv.errors import GalleryKeyError
from spherecv.gallery.rows import Vector
from spherecv.gallery.seal import Seal


class DamageWarning(UserWarning):
    """A face of a gallery whose stored values are damaged, and which is therefore left out."""


def opened_vectors(
    seal: Seal,
    faces: Sequence[int],
    sealed: Sequence[Any],
    size: int,
    explain: Callable[[int, str], None],
) -> tuple[list[int], Vector]:
    """Open embeddings, leaving out what cannot be one.

    Parameters
    ----------
    seal : Seal
    faces : sequence of int, length N
        Ids.
    sealed : sequence, length N
        As the file has them: of any type, where it is damaged.
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
    kept, contents = [], []
    for place, value in enumerate(sealed):
        content = opened(seal, value)
        if content is None or len(content) != 4 * size:
            what = "cannot be opened" if content is None else f"has {len(content)} bytes, not {4 * size}"
            explain(faces[place], f"its embedding {what}")
        else:
            kept.append(place)
            contents.append(content)
    vectors = np.frombuffer(b"".join(contents), "<f4").reshape(len(kept), size)
    whole = np.isfinite(vectors).all(axis=1)
    if whole.all():
        return kept, vectors
    for row in np.flatnonzero(~whole):
        explain(faces[kept[row]], "its embedding has values that are not finite")
    return [kept[row] for row in np.flatnonzero(whole)], vectors[whole]


def warn(label: str, face: int, whose: str, what: str) -> None:
    """Say which face is left out, and why."""
    warn_of(f"{label}: face {face} of {whose} is damaged ({what}) and left out: enrol its image again")


def warn_of(message: str) -> None:
    """Say what is damaged."""
    warnings.warn(message, DamageWarning, stacklevel=2)


def opened(seal: Seal, value: object) -> bytes | None:
    """Value of what is written; None for what is not bytes, or not sealed with the key."""
    if not isinstance(value, bytes):
        return None
    try:
        return seal.open(value)
    except GalleryKeyError:
        return None
