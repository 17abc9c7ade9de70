"""Enrolment of folders: new and changed images only, a few at a time, so that a kill costs little."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from spherecv.errors import ImageError, NoFaceError, SeveralFacesError, SphereCVError
from spherecv.gallery.checks import plain_name
from spherecv.gallery.intake import Enrolment, file_digest, good_enough, is_crowded, new_faces
from spherecv.gallery.rows import Added, Entry, ImageKey, StoredImage
from spherecv.gallery.stages import Stages
from spherecv.gallery.store import Store
from spherecv.images import find_images, survey_images
from spherecv.pipeline import WhichFace

AT_ONCE = 32
"""Images between two commits: about a second of work, lost at most when the process is killed."""


class Photo(NamedTuple):
    """A file and whose it is; None for nobody known."""

    identity: str | None
    path: Path


class Labelled(NamedTuple):
    """Images of people, and other files beside them."""

    photos: list[Photo]
    passed_over: list[Path]


def labelled_files(folder: Path) -> Labelled:
    """Images of a tree whose first level is named after people.

    Raises
    ------
    ImageError
        No such folder, no images in it, or images of nobody only.
    """
    if folder.is_file():
        raise ImageError(f"{folder} is a file: to enrol images of one person, give the identity (--identity NAME)")
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder")
    found = survey_images(folder)
    parts = ((path, path.relative_to(folder).parts) for path in found.images)
    photos = [Photo(plain_name(names[0]), path) for path, names in parts if len(names) > 1]
    if not photos:
        raise ImageError(f"{folder} has no folder of images for each person in it, as in {folder}/Ann/1.jpg")
    return Labelled(photos, found.passed_over)


def unlabelled_files(source: Path) -> list[Photo]:
    """Images of a folder or list; raises `ImageError` where there are none."""
    return [Photo(None, path) for path in find_images(source)]


class Run:
    """One run over files.

    Parameters
    ----------
    store : Store
    stages : Stages
        Opened only if there is something to do.
    face : {"largest", "center", "only", "all", "whole"}
    progress : callable or None
        Called with the numbers of images done and of all to do.
    min_quality : float or None
        Faces of a lower quality are not taken.

    Attributes
    ----------
    enriched : set of str
        Who got further faces.
    """

    def __init__(
        self,
        store: Store,
        stages: Stages,
        face: WhichFace,
        progress: Callable[[int, int], None] | None,
        *,
        min_quality: float | None = None,
    ) -> None:
        self._store = store
        self._stages = stages
        self._face = face
        self._progress = progress
        self._min_quality = min_quality
        self._total = Added()
        self._failures: list[tuple[str, SphereCVError]] = []
        self._crowded: list[str] = []
        self.enriched: set[str] = set()

    def over(self, photos: Sequence[Photo], folder: Path, *, prune: bool) -> Enrolment:
        """Take in what is new, and (pruning) drop what is gone from the folder."""
        held = {(image.identity, image.key.path): image for image in self._store.images()}
        todo = list(self._new(photos, held))
        done = 0
        waiting = iter(todo)
        while batch := list(islice(waiting, AT_ONCE)):
            self._take(batch)
            done += len(batch)
            if self._progress is not None:
                self._progress(done, len(todo))
        removed = self._prune(photos, held, folder) if prune else 0
        return Enrolment(
            **self._total._asdict(),
            removed=removed,
            failures=tuple(self._failures),
            crowded=tuple(self._crowded),
        )

    def _new(
        self, photos: Sequence[Photo], held: dict[tuple[str | None, str], StoredImage]
    ) -> Iterator[tuple[Photo, ImageKey]]:
        """Images to look at: those whose file is not what the store has seen."""
        touched: list[Entry] = []
        for photo in photos:
            name = os.path.abspath(photo.path)  # noqa: PTH100 - resolve() would follow links
            known = held.get((photo.identity, name))
            try:
                status = photo.path.stat()
                seen = known is not None and (known.key.size, known.key.mtime_ns)
                if known is not None and seen == (status.st_size, status.st_mtime_ns):
                    self._keep(known)
                    continue
                # What was never seen is read when its turn comes; here only what may have changed.
                digest = file_digest(photo.path) if known is not None else ""
            except OSError as error:
                problem = ImageError(f"{photo.path} cannot be read: {error.strerror or error}")
                self._failures.append((str(photo.path), problem))
                continue
            except ImageError as error:
                self._failures.append((str(photo.path), error))
                continue
            key = ImageKey(name, digest, status.st_size, status.st_mtime_ns)
            if known is not None and known.key.digest == digest:
                touched.append(Entry(photo.identity, key, problem=known.problem))
                self._keep(known)
                continue
            yield photo, key
        if touched:
            self._store.add(touched, self._stages.origin)

    def _keep(self, known: StoredImage) -> None:
        self._total = self._total._replace(unchanged=self._total.unchanged + 1)
        if known.problem:
            self._failures.append((known.key.path, NoFaceError(known.problem)))

    def _take(self, batch: Sequence[tuple[Photo, ImageKey]]) -> None:
        answers = self._stages.pipeline.run([photo.path for photo, _ in batch], face=self._face, errors="return")
        entries = []
        for (photo, seen), found in zip(batch, answers, strict=True):
            try:
                key = seen if seen.digest else replace(seen, digest=file_digest(photo.path))
            except ImageError as error:  # gone since it was listed
                self._failures.append((str(photo.path), error))
                continue
            taken = good_enough(found, str(photo.path), self._min_quality)
            if not isinstance(taken, SphereCVError):
                entries.append(Entry(photo.identity, key, new_faces(taken)))
                self._crowded += [str(photo.path)] if is_crowded(taken) else []
                self.enriched |= {photo.identity} if photo.identity is not None else set()
                continue
            self._failures.append((str(photo.path), taken))
            if taken is found and not isinstance(found, SeveralFacesError):
                # What was asked for may be another face, or quality, next time: such images are looked at again.
                entries.append(Entry(photo.identity, key, problem=str(found)))
        added = self._store.add(entries, self._stages.origin) if entries else Added()
        # An image without a face is remembered, but is not an image of the person.
        idle = sum(1 for entry in entries if entry.problem)
        sums = (a + b for a, b in zip(self._total, added._replace(images=max(0, added.images - idle)), strict=True))
        self._total = Added(*sums)

    def _moved(
        self,
        elsewhere: Sequence[tuple[str | None, str]],
        held: dict[tuple[str | None, str], StoredImage],
        present: set[str],
    ) -> list[tuple[str | None, str]]:
        """Images whose file is gone from another folder and is in this one now, as the same person's."""
        if not elsewhere:
            return []
        here = {(image.identity, image.key.digest) for image in self._store.images() if image.key.path in present}
        same = (key for key in elsewhere if (key[0], held[key].key.digest) in here and os.path.isabs(key[1]))  # noqa: PTH117
        return [key for key in same if not os.path.exists(key[1])]  # noqa: PTH110

    def _prune(
        self, photos: Sequence[Photo], held: dict[tuple[str | None, str], StoredImage], folder: Path
    ) -> int:
        root = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118 - as the stored names are made
        present = {os.path.abspath(photo.path) for photo in photos}  # noqa: PTH100
        named = photos[0].identity is not None
        # What a run of the other kind took in, or a person enrolled by one of these images, is not this run's to drop.
        gone = [
            (identity, path)
            for identity, path in held
            if path.startswith(root) and path not in present and (identity is not None) == named
        ]
        gone += self._moved([key for key in held if not key[1].startswith(root)], held, present)
        if gone:
            self._store.remove_images(gone)
        return len(gone)
