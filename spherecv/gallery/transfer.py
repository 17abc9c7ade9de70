"""Export and import of a gallery: one `.npz` with embeddings and JSON, no pickle."""

from __future__ import annotations

import json
import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spherecv.errors import GalleryError, StorageError
from spherecv.facetable import FaceTable, check_members
from spherecv.files import open_whole, sweep_parts
from spherecv.gallery.checks import plain_name
from spherecv.gallery.intake import entries_of
from spherecv.gallery.rows import Added, Entry, ImageKey, Origin, Table
from spherecv.gallery.sqlite import check_origin
from spherecv.gallery.store import IfExists, Store

_FORMAT = 1
_ROWS_AT_ONCE = 16_384
_NOT_AN_EXPORT = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    OverflowError,
    RuntimeError,  # and NotImplementedError: zipfile, of a damaged header
    zlib.error,
    tokenize.TokenError,  # NumPy, of a damaged header
    SyntaxError,
    zipfile.BadZipFile,
)


def export_store(store: Store, path: str | os.PathLike[str]) -> int:
    """Write everything that a store holds, but for classifier and index, to one file; returns the number of faces.

    `numpy.load` reads it: `embeddings` (N, D) float32, `qualities` (N,) float32, and `gallery` as the UTF-8 bytes of a
    JSON text with the origin, the people with their metadata, and for each face its person, image, digest and box.

    Raises
    ------
    StorageError
    """
    with store.snapshot():
        table = store.table()
        described = _described(store, table)
    with open_whole(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        arrays: dict[str, NDArray[Any]] = {
            "embeddings": np.asarray(table.vectors, "<f4"),
            "qualities": table.qualities,
            "gallery": np.frombuffer(json.dumps(described).encode(), np.uint8),
        }
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return len(table.ids)


def _described(store: Store, table: Table) -> dict[str, Any]:
    origin = store.origin
    images = {(image.identity, image.key.path): image.key for image in store.images()}
    faces = []
    for start in range(0, len(table.ids), _ROWS_AT_ONCE):
        for face in store.describe(table.ids[start : start + _ROWS_AT_ONCE].tolist()):
            if face is None:
                raise GalleryError(f"{store.label} was changed while it was read: export it again")
            key = images[face.identity, face.path]
            file = {"digest": key.digest, "size": key.size, "time": key.mtime_ns}
            faces.append({"identity": face.identity, "image": face.path, "box": face.box, **file})
    return {
        "format": _FORMAT,
        "origin": None if origin is None else {"model": origin.model, "key": origin.key, "detector": origin.detector},
        "people": {person.name: dict(person.metadata) for person in store.identities()},
        "faces": faces,
    }


def import_store(store: Store, path: str | os.PathLike[str], *, if_exists: IfExists) -> Added:
    """Take in what `export_store` wrote, all or nothing; what a killed export left beside it goes.

    Raises
    ------
    GalleryError
        Not such a file, or a damaged one.
    GalleryMismatchError
        Of another model or recipe than the store's.
    IdentityError
        Somebody is in the store already, with `if_exists="raise"`.
    """
    place = Path(path)
    try:
        # Opened here, because NumPy leaves a file open that turns out to be a damaged archive.
        with place.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            check_members(held.files, ("embeddings", "qualities", "gallery"))
            embeddings, qualities = np.asarray(held["embeddings"]), np.asarray(held["qualities"])
            described = json.loads(held["gallery"].tobytes())
        origin, people, entries = _read(described, embeddings, qualities)
    except FileNotFoundError:
        raise GalleryError(f"{place}: no such file") from None
    except OSError as error:
        raise StorageError(f"{place} cannot be read: {error.strerror or error}") from None
    except _NOT_AN_EXPORT as error:
        reason = error if zipfile.is_zipfile(place) else "it is no .npz"  # of which NumPy says to unpickle it
        raise GalleryError(f"{place} is not an exported gallery, or a damaged one ({reason})") from None
    sweep_parts(place)
    if not entries:
        return Added()  # an empty gallery has no model to be bound to
    check_origin(store.origin, origin, store.label)
    return store.add(list(entries), origin, metadata=people, if_exists=if_exists)


def _read(
    described: dict[str, Any], embeddings: NDArray[Any], qualities: NDArray[Any]
) -> tuple[Origin, dict[str, dict[str, Any]], list[Entry]]:
    if described["format"] != _FORMAT:
        raise ValueError(f"format {described['format']}, not {_FORMAT}")
    faces = described["faces"]
    if embeddings.ndim != 2 or embeddings.dtype != np.float32 or not len(faces) == len(embeddings) == len(qualities):
        raise ValueError(f"{len(faces)} faces, embeddings {embeddings.dtype} {embeddings.shape}")
    people = {plain_name(str(name)): dict(note) for name, note in described["people"].items()}
    origin = Origin(**(described["origin"] or {"model": "", "key": ""}))
    keys = [ImageKey(face["image"], face["digest"], _number(face["size"]), _number(face["time"])) for face in faces]
    for face, key in zip(faces, keys, strict=True):
        if not (isinstance(key.path, str) and isinstance(key.digest, str) and isinstance(face["identity"], str | None)):
            raise TypeError(f"the face of {key.path} is described wrongly")
    boxes = np.array([_box(face["box"]) for face in faces], np.float32).reshape(-1, 4)
    table = FaceTable(
        paths=tuple(key.path for key in keys), embeddings=embeddings, boxes=boxes, qualities=qualities
    )
    return origin, people, entries_of(table, [plain_name(face["identity"]) for face in faces], keys)


def _number(value: Any) -> int | None:
    """A size or time that fits 64 bits, or none."""
    return None if value is None else int(np.int64(value))


def _box(values: list[float] | None) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in (values or [np.nan] * 4))
    return left, top, right, bottom
