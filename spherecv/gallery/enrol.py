"""People and photos into a gallery."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from spherecv.errors import IdentityError, InvalidArgumentError, SphereCVError
from spherecv.facetable import FaceTable, read_embeddings
from spherecv.gallery import folders, intake
from spherecv.gallery.base import GalleryBase, check_choice, checked_metadata, checked_rows
from spherecv.gallery.bulk.shards import read_manifest, read_shards
from spherecv.gallery.intake import Enrolment
from spherecv.gallery.rows import Added, Entry, Origin
from spherecv.gallery.sqlite import check_name
from spherecv.gallery.store import IfExists
from spherecv.images import ImageSource
from spherecv.pipeline import OnError, WhichFace


class Enrolling(GalleryBase):
    """The part of a gallery that takes in."""

    def enrol(
        self,
        identity: str,
        images: ImageSource | Iterable[ImageSource],
        metadata: Mapping[str, Any] | None = None,
        *,
        face: WhichFace = "largest",
        if_exists: IfExists = "raise",
        errors: OnError = "raise",
    ) -> Enrolment:
        """Enrol a person by photos; all of them at once, or none.

        Parameters
        ----------
        identity : str
            Who it is.
        images : image, or iterable of images
            Paths (a folder counts as its images), bytes, binary file objects, ndarrays or PIL images.
        metadata : mapping, optional
            Anything that JSON can hold.
        face : {"largest", "center", "all", "whole"}
            Which face of a photo is theirs.
        if_exists : {"raise", "add", "replace"}
            What to do where the gallery holds somebody of that name.
        errors : {"raise", "return"}
            Whether a photo that cannot be used ends it, before anything is stored, or is reported with the rest.

        Returns
        -------
        Enrolment

        Raises
        ------
        IdentityError
            The gallery holds them already, with `if_exists="raise"`.
        ImageError, NoFaceError
            With `errors="raise"`.
        GalleryMismatchError, GalleryLockedError, StorageError
        """
        check_choice("if_exists", if_exists, IfExists)
        check_name(identity)
        notes = {} if metadata is None else {identity: checked_metadata(metadata)}
        keys, sources = zip(*(intake.keyed(image) for image in intake.as_images(images)), strict=True)
        if if_exists == "raise":
            self._refuse_known(identity)
        entries, failures = [], []
        for key, found in zip(keys, self.pipeline.run(sources, face=face, errors=errors), strict=True):
            if isinstance(found, SphereCVError):
                failures.append((key.path, found))
            else:
                entries.append(Entry(identity, key, intake.new_faces(found)))
        if not entries:
            return Enrolment(failures=tuple(failures))
        added = self.store.add(entries, self._stages.origin, metadata=notes, if_exists=if_exists)
        return Enrolment(**added._asdict(), failures=tuple(failures))

    def _refuse_known(self, identity: str) -> None:
        if self.store.holds(identity):
            raise IdentityError(
                f"{identity!r} is in {self.store.label} already: if_exists='add' adds images, 'replace' replaces them"
            )

    def enrol_embeddings(
        self,
        identities: Sequence[str | None],
        embeddings: ArrayLike,
        *,
        images: Sequence[str] | None = None,
        qualities: ArrayLike | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        if_exists: IfExists = "add",
    ) -> Enrolment:
        """Enrol ready-made embeddings, all or none.

        Parameters
        ----------
        identities : sequence of str or None, length N
            Whose each row is; None for nobody known.
        embeddings : array_like of float, shape (N, D)
            As the gallery's model and recipe make them.
        images : sequence of str, optional
            What to call the image of each row; by default each row is an image of its own, known by its content.
        qualities : array_like of float, shape (N,), optional
            0..1, NaN where unknown.
        metadata : mapping of str to mapping, optional
            By identity.
        if_exists : {"add", "raise", "replace"}

        Returns
        -------
        Enrolment

        Raises
        ------
        InvalidArgumentError
            Shapes that do not fit, values that are not finite.
        GalleryMismatchError
            Embeddings of another model or size than the gallery's.
        """
        check_choice("if_exists", if_exists, IfExists)
        rows = checked_rows(embeddings)
        weights = None if qualities is None else np.asarray(qualities, np.float64)
        given = {"identities": len(identities), "images": None if images is None else len(images)}
        given["qualities"] = None if weights is None else len(weights)
        for name, count in given.items():
            if count not in (None, len(rows)):
                raise InvalidArgumentError(f"{name} must have {len(rows)} entries, one a row, but got {count}")
        notes = {name: checked_metadata(value) for name, value in (metadata or {}).items()}
        paths = [f"embedding:{sha256(row.data).hexdigest()[:16]}" for row in rows] if images is None else images
        weights = None if weights is None else weights.astype(np.float32)
        table = FaceTable(paths=tuple(paths), embeddings=rows, qualities=weights)  # type: ignore[arg-type]
        entries = intake.entries_of(table, identities)
        added = self.store.add(entries, self._stages.origin, metadata=notes, if_exists=if_exists)
        return Enrolment(**added._asdict())

    def enrol_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        face: WhichFace = "largest",
        prune: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Enrolment:
        """Enrol a tree of one folder for each person, named after them.

        What is in the gallery already is left alone: a file of the same size and time is not even opened, one of
        another time is compared by its content. Work is kept every few images, so that an interrupted run goes on
        where it stopped.

        Parameters
        ----------
        folder : path
        face : {"largest", "center", "all", "whole"}
            Which face of a photo is the person's.
        prune : bool
            Whether photos whose files are gone are removed.
        progress : callable, optional
            Called with the numbers of photos done and of all to do.

        Returns
        -------
        Enrolment
            Photos without a face are among its `failures`.

        Raises
        ------
        ImageError
            No such folder, or no images in it.
        """
        files = folders.labelled_files(Path(folder))
        return folders.Run(self.store, self._stages, face, progress).over(files, Path(folder), prune=prune)

    def enrol_shards(
        self,
        folder: str | os.PathLike[str],
        identity: Callable[[str], str | None] | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Enrolment:
        """Enrol what `spherecv embed SRC --out FOLDER` embedded, shard by shard.

        Parameters
        ----------
        folder : path
            With its `manifest.json`.
        identity : callable, optional
            Says who is on the image of a path, None for nobody known; by default nobody is.
        progress : callable, optional
            Called with the numbers of shards done and of all.

        Returns
        -------
        Enrolment

        Raises
        ------
        DatasetError
            The job was not finished, or a shard was changed.
        GalleryMismatchError
            Embeddings of another model than the gallery's.
        """
        manifest = read_manifest(folder)
        origin = self._stages.accepted(Origin(manifest["model"], manifest["key"], manifest["detector"]))
        total = Added()
        failures: list[tuple[str, SphereCVError]] = []
        for number, shard in enumerate(read_shards(folder), 1):
            added = self.store.add(intake.entries_of(shard, _named(shard, identity)), origin)
            total = Added(*(a + b for a, b in zip(total, added, strict=True)))
            failures += [(image, SphereCVError(problem)) for image, problem in shard.failures]
            if progress is not None:
                progress(number, len(manifest["shards"]))
        return Enrolment(**total._asdict(), failures=tuple(failures))

    def enrol_file(
        self, path: str | os.PathLike[str], identity: Callable[[str], str | None] | None = None
    ) -> Enrolment:
        """Enrol what `spherecv embed SRC --out FILE.npz` embedded, all or nothing.

        Parameters
        ----------
        path : path
            Of the `.npz`, which is read as a whole: for images by the million see `enrol_shards`.
        identity : callable, optional
            Says who is on the image of a path, None for nobody known; by default nobody is.

        Returns
        -------
        Enrolment

        Raises
        ------
        DatasetError
            The file is missing, damaged, or not of embeddings.
        GalleryMismatchError
            Embeddings of another model or recipe than the gallery's.
        """
        table, origin = read_embeddings(path)
        added = self.store.add(intake.entries_of(table, _named(table, identity)), self._stages.accepted(origin))
        return Enrolment(**added._asdict())

    def add_unknown(
        self,
        folder: str | os.PathLike[str],
        *,
        prune: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Enrolment:
        """Add every face of the photos of a folder or list, of whoever they are, for `find` and `cluster`.

        As `enrol_folder`, without names.
        """
        files = folders.unlabelled_files(Path(folder))
        return folders.Run(self.store, self._stages, "all", progress).over(files, Path(folder), prune=prune)


def _named(table: FaceTable, identity: Callable[[str], str | None] | None) -> list[str | None]:
    return [None if identity is None else identity(path) for path in table.paths]
