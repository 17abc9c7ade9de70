"""Checks of a gallery's arguments."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spherecv.errors import InvalidArgumentError

T = TypeVar("T")


def plain_name(name: T) -> T:
    """A person's name in the one form it is kept in: Unicode NFC, without space around it; what is no text stays."""
    return cast("T", unicodedata.normalize("NFC", name).strip()) if isinstance(name, str) else name


def checked_rows(embeddings: ArrayLike) -> NDArray[np.float32]:
    """Return embeddings as finite float32 of shape (N, D), or raise `InvalidArgumentError`."""
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
            rows = np.ascontiguousarray(embeddings, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"embeddings must be numbers of shape (N, D): {error}") from None
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.size:
        raise InvalidArgumentError(f"embeddings must have shape (N, D), but got {rows.shape}")
    # The sum is finite where all values are, and needs no second array of the same size.
    if not np.isfinite(np.einsum("ij->", rows, dtype=np.float64)):
        raise InvalidArgumentError("embeddings must be finite")
    return rows


def checked_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata if JSON can hold it, or raise `InvalidArgumentError`."""
    try:
        json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"metadata must be what JSON can hold: {error}") from None
    return metadata
