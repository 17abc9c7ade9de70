"""Images on their way into a gallery: their keys and the faces found in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any, cast

import numpy as np

from spherecv.addresses import is_text_image, read_text_image
from spherecv.brief import brief
from spherecv.errors import ImageError, InvalidArgumentError, NoFaceError, SphereCVError
from spherecv.facetable import FaceTable
from spherecv.files import sha256_of
from spherecv.gallery.rows import Entry, ImageKey, NewFace
from spherecv.images import ImageSource, find_images, read_stream
from spherecv.records import EmbeddedFace


@dataclass(frozen=True)
class Enrolment:
    """What came of enrolling images.

    Attributes
    ----------
    faces : int
        New faces in the gallery.
    images, replaced, unchanged, removed : int
        Images that are new; that held another image before; that were in the gallery already; and that went because
        their file is gone.
    failures : tuple of (str, SphereCVError)
        Images that could not be used, and why. The rest went on.
    passed_over : tuple of str
        Files of the folder that are no images, hidden ones left out.
    crowded : tuple of str
        Images that show several faces, of which one was taken.
    doubts : tuple of str
        Whose faces are unlike the others of theirs, a sentence each.
    """

    faces: int = 0
    images: int = 0
    replaced: int = 0
    unchanged: int = 0
    removed: int = 0
    failures: tuple[tuple[str, SphereCVError], ...] = field(default=())
    passed_over: tuple[str, ...] = ()
    crowded: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    __repr__ = brief

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain Python values, ready for JSON."""
        return {
            "faces": self.faces,
            "images": self.images,
            "replaced": self.replaced,
            "unchanged": self.unchanged,
            "removed": self.removed,
            "failures": [{"image": image, "error": str(error)} for image, error in self.failures],
            "passed_over": list(self.passed_over),
            "several_faces": list(self.crowded),
            "doubts": list(self.doubts),
        }


def as_images(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """Make a list of one image, of several, or of a folder of them.

    Raises
    ------
    InvalidArgumentError
        There is none.
    ImageError
        A folder without images.
    """
    if isinstance(images, str | os.PathLike):
        return [images] if is_text_image(images) or not Path(images).is_dir() else list(find_images(images))
    several = isinstance(images, Iterable) and not isinstance(images, bytes | bytearray | memoryview | np.ndarray)
    if several and not hasattr(images, "read"):
        listed: list[ImageSource] = []
        for image in cast("Iterable[ImageSource]", images):
            listed += as_images(image) if isinstance(image, str | os.PathLike) else [image]
        if not listed:
            raise InvalidArgumentError("there must be at least one image")
        return listed
    return [cast("ImageSource", images)]


def keyed(image: ImageSource) -> tuple[ImageKey, ImageSource]:
    """Say how an image is known again, and give it in a form that can be read (again)."""
    if is_text_image(image):
        return keyed(read_text_image(cast("str", image)))
    if isinstance(image, str | os.PathLike):
        return file_key(Path(image)), image
    if isinstance(image, np.ndarray):
        digest = hashlib.sha256(repr((image.shape, image.dtype.str)).encode())
        digest.update(np.ascontiguousarray(image).data)
        return _unnamed(digest.hexdigest()), image
    if isinstance(image, bytes | bytearray | memoryview):
        return _unnamed(hashlib.sha256(image).hexdigest()), image
    if hasattr(image, "tobytes"):
        return _unnamed(hashlib.sha256(image.tobytes()).hexdigest()), image
    if hasattr(image, "read"):
        return keyed(read_stream(image).getvalue())
    return _unnamed(""), image  # not an image: the loader says so, better than here


def file_key(path: Path, *, digest: str | None = None) -> ImageKey:
    """How an image file is known again; a missing one, or a folder, is left for the loader to complain of."""
    name = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links: two names are two images
    try:
        status = path.stat()
        return ImageKey(name, file_digest(path) if digest is None else digest, status.st_size, status.st_mtime_ns)
    except OSError:
        return ImageKey(name, "")


def file_digest(path: Path) -> str:
    """SHA-256 of a file; raises `ImageError` where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from None


def new_faces(found: Sequence[EmbeddedFace]) -> tuple[NewFace, ...]:
    """Faces as a store takes them."""
    faces = []
    for item in found:
        left, top, right, bottom = (float(value) for value in item.face.box)
        quality = None if item.face.quality is None else float(item.face.quality)
        faces.append(NewFace(item.embedding, (left, top, right, bottom), float(item.face.score), quality))
    return tuple(faces)


def good_enough(
    found: list[EmbeddedFace] | SphereCVError, name: str, least: float | None
) -> list[EmbeddedFace] | SphereCVError:
    """Leave out faces of a quality below `least`; an error where there is no other."""
    if isinstance(found, SphereCVError) or least is None:
        return found
    good = [one for one in found if one.face.quality is None or one.face.quality >= least]
    if good:
        return good
    best = max(one.face.quality or 0.0 for one in found)
    return NoFaceError(f"{name}: the face has the quality {best:.2f}, and at least {least:g} was asked for")


def is_crowded(taken: Sequence[EmbeddedFace]) -> bool:
    """Whether an image shows more faces than were taken of it."""
    return any((one.faces_found or 0) > len(taken) for one in taken)


def _unnamed(digest: str) -> ImageKey:
    return ImageKey(f"sha256:{digest[:16]}", digest)


def entries_of(
    table: FaceTable, identities: Sequence[str | None], keys: Sequence[ImageKey] | None = None
) -> list[Entry]:
    """Ready-made embeddings as a store takes them: one entry for each identity and image, of one face or several.

    Parameters
    ----------
    table : FaceTable
    identities : sequence of str or None
        Whose each face is.
    keys : sequence of ImageKey, optional
        How the image of each face is known again; by default by its path and its faces' embeddings.
    """
    grouped: dict[tuple[str | None, str], list[int]] = {}
    for number, name in enumerate(zip(identities, table.paths, strict=True)):
        grouped.setdefault(name, []).append(number)
    boxes, scores, qualities = (column.tolist() for column in (table.boxes, table.scores, table.qualities))
    faces = [
        NewFace(row, None if isnan(box[0]) else tuple(box), _known(score), _known(quality))
        for row, box, score, quality in zip(table.embeddings, boxes, scores, qualities, strict=True)
    ]
    entries = []
    for (identity, path), numbers in grouped.items():
        new = tuple(faces[number] for number in numbers)
        entries.append(Entry(identity, ImageKey(path, _digest(new)) if keys is None else keys[numbers[0]], new))
    return entries


def _known(value: float) -> float | None:
    return None if isnan(value) else value


def _digest(faces: Sequence[NewFace]) -> str:
    digest = hashlib.sha256()
    for face in faces:
        digest.update(face.vector.data)
    return digest.hexdigest()
